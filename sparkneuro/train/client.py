"""A worker's side of the parameter server: three verbs over all shards at once."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

import numpy as np
import pyarrow.flight as flight

from sparkneuro.errors import TrainingError
from sparkneuro.train.ledger import APPLY, OUTDATED
from sparkneuro.train.transport import SCHEMA, TOKEN_HEADER, pack, unpack
from sparkneuro.train.weights import shard_bounds

LIFE_S = 10.0


class _SendToken(flight.ClientMiddlewareFactory):
    def __init__(self, token):
        super().__init__()
        self._middleware = _TokenHeader(token)

    def start_call(self, info):
        return self._middleware


class _TokenHeader(flight.ClientMiddleware):
    def __init__(self, token):
        super().__init__()
        self._headers = {TOKEN_HEADER: token}

    def sending_headers(self):
        return self._headers


class ShardClient:
    """Calls to one server.

    Parameters
    ----------
    address : str
        ``host:port``.
    token : str
        The run's token.
    timeout_s : float
        Longest time that one call may take.
    name : str
        The server's name in messages.
    """

    def __init__(self, address, token, timeout_s=60.0, name="parameter server"):
        self._name = f"{name} at {address}"
        self._timeout_s = timeout_s
        self._connection = flight.FlightClient(f"grpc://{address}", middleware=[_SendToken(token)])

    def act(self, action, **body):
        """Call an action.

        Parameters
        ----------
        action : str
            Its name.
        **body
            Its arguments, fit for JSON.

        Returns
        -------
        answer : dict
            The server's answer.

        Raises
        ------
        TrainingError
            When the server refuses, is gone, or does not answer in time.
        """

        def call():
            request = flight.Action(action, json.dumps(body).encode())
            (result,) = self._connection.do_action(request, self._options())
            return json.loads(result.body.to_pybytes())

        return self._checked(self._guarded(call))

    def exchange(self, verb, values=None, **header):
        """Send a vector, or none, and get one back, or none.

        Parameters
        ----------
        verb : str
            One of initialise, pull, push, push_pull.
        values : ndarray of shape (n_values,), float32, or None
            What is sent.
        **header
            Goes with it, fit for JSON.

        Returns
        -------
        answer : dict
            The server's header.
        values : ndarray of shape (n_values,), float32
            Read-only; empty when the verb brings none back.

        Raises
        ------
        TrainingError
            When the server refuses, is gone, or does not answer in time.
        """

        def call():
            command = flight.FlightDescriptor.for_command(json.dumps({"verb": verb, **header}).encode())
            writer, reader = self._connection.do_exchange(command, self._options())
            with writer:
                writer.begin(SCHEMA)
                if values is not None:
                    writer.write_batch(pack(values))
                writer.done_writing()
                chunk = reader.read_chunk()
                return json.loads(chunk.app_metadata.to_pybytes()), unpack(chunk.data)

        answer, came = self._guarded(call)
        return self._checked(answer), came

    def close(self):
        """Close the connection."""
        self._connection.close()

    def _options(self):
        return flight.FlightCallOptions(timeout=self._timeout_s)

    def _guarded(self, call):
        try:
            return call()
        except flight.FlightTimedOutError as error:
            raise TrainingError(f"{self._name} did not answer within {self._timeout_s:g} s.") from error
        except flight.FlightUnauthenticatedError as error:
            raise TrainingError(f"{self._name} belongs to another run: it does not accept this run's token.") from error
        except (flight.FlightError, StopIteration, OSError) as error:
            said = str(error).partition(". gRPC client debug context")[0].splitlines()
            cause = said[0] if said else type(error).__name__
            raise TrainingError(f"{self._name} cannot be reached: {cause}") from error

    def _checked(self, answer):
        if "error" in answer:
            raise TrainingError(f"{self._name} refused a call: {answer['error']}")
        return answer


class ParameterClient:
    """Pull, push and wait, over all shards of one model.

    Parameters
    ----------
    addresses : sequence of str
        ``host:port`` of each shard's server, in the order of the shards.
    token : str
        The run's token.
    n_values : int
        Length of the model's vector.
    timeout_s : float
        Longest time that one call may take.
    """

    def __init__(self, addresses, token, n_values, timeout_s=60.0):
        self.shards = [ShardClient(a, token, timeout_s, f"parameter server {i}") for i, a in enumerate(addresses)]
        self._bounds = shard_bounds(n_values, len(addresses))
        self._versions = [0] * len(addresses)
        self._signed = -LIFE_S
        self._pool = ThreadPoolExecutor(len(addresses)) if len(addresses) > 1 else None

    def initialise(self, values):
        """Give the servers their first weights.

        Parameters
        ----------
        values : ndarray of shape (n_values,), float32
            The model's vector.
        """
        self._map(lambda i: self.shards[i].exchange("initialise", self._cut(values, i)))

    def register(self, partition, attempt, last_clock):
        """Announce a worker to all servers.

        Parameters
        ----------
        partition, attempt, last_clock : int
            See `Ledger.register`.

        Returns
        -------
        clock : int
            Batches up to this one are applied at every server. A server that has more will answer a repeated push with
            "duplicate".
        """
        body = {"partition": partition, "attempt": attempt, "last_clock": last_clock}
        return min(answer["clock"] for answer in self._map(lambda i: self.shards[i].act("register", **body)))

    def wait_for_turn(self, partition, timeout_s):
        """Wait until the worker may train: behind another that warms up, if need be.

        Parameters
        ----------
        partition : int
            Who waits.
        timeout_s : float
            Seconds without progress of the one who warms up, after which waiting ends.

        Raises
        ------
        TrainingError
            When the time is up.
        """
        deadline, steps = time.monotonic() + timeout_s, -1
        while not (answer := self.shards[0].act("wait", partition=partition))["go"]:
            if answer["steps"] != steps:
                deadline, steps = time.monotonic() + timeout_s, answer["steps"]
            if time.monotonic() > deadline:
                raise TrainingError(
                    f"partition {partition} waited {timeout_s:g} s for partition {answer['partition']}, which warms up the"
                    f" model and stopped after {steps} of {answer['of']} steps."
                )

    def live(self, partition):
        """Give a sign of life, at most once in `LIFE_S` seconds however often it is called.

        Parameters
        ----------
        partition : int
            Who lives.
        """
        now = time.monotonic()
        if now - self._signed > LIFE_S:
            self._signed = now
            self.shards[0].act("live", partition=partition)

    def leave(self, partition):
        """Say that a worker ends, done or not.

        Parameters
        ----------
        partition : int
            Who ends.
        """
        self.shards[0].act("leave", partition=partition)

    def pull(self):
        """Fetch the newest weights.

        Returns
        -------
        values : ndarray of shape (n_values,), float32
            Read-only.
        """
        return self._receive(self._map(lambda i: self.shards[i].exchange("pull")))

    def push(self, push, gradient):
        """Send a gradient.

        Parameters
        ----------
        push : Push
            Who sends what; its version is set here, for each shard.
        gradient : ndarray of shape (n_values,), float32
            Must not change until the call returns.
        """
        self._map(lambda i: self._send("push", i, push, gradient))

    def push_pull(self, push, gradient):
        """Send a gradient and fetch the weights that it made, in one round trip.

        Parameters
        ----------
        push : Push
            Who sends what; its version is set here, for each shard.
        gradient : ndarray of shape (n_values,), float32
            Must not change until the call returns.

        Returns
        -------
        values : ndarray of shape (n_values,), float32
            Read-only.
        """
        return self._receive(self._map(lambda i: self._send("push_pull", i, push, gradient)))

    def status(self):
        """Ask the first server how the training stands.

        Returns
        -------
        status : dict
            See `ParameterServer.status`.
        """
        return self.shards[0].act("status")

    def close(self):
        """Close all connections."""
        if self._pool is not None:
            self._pool.shutdown()
        for shard in self.shards:
            shard.close()

    def _map(self, call):
        indices = range(len(self.shards))
        return [call(0)] if self._pool is None else list(self._pool.map(call, indices))

    def _cut(self, values, i):
        start, end = self._bounds[i]
        return values[start:end]

    def _send(self, verb, i, push, gradient):
        header = asdict(replace(push, version=self._versions[i]))
        answer, values = self.shards[i].exchange(verb, self._cut(gradient, i), **header)
        if answer["verdict"] == OUTDATED:
            raise TrainingError(f"attempt {push.attempt} at partition {push.partition} must stop: a newer one has taken over.")
        if answer["verdict"] == APPLY:
            # A worker's own push does not make its weights stale.
            self._versions[i] += 1
        return answer, values

    def _receive(self, answers):
        self._versions = [answer["version"] for answer, _ in answers]
        vectors = [values for _, values in answers]
        return vectors[0] if len(vectors) == 1 else np.concatenate(vectors)
