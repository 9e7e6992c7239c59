"""A worker's side of the parameter server: three verbs over all shards at once, and how to find a server that was lost."""

import logging
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict, replace

import numpy as np

from sparkneuro.errors import TrainingError
from sparkneuro.train.parameter_server.ledger import APPLY, DUPLICATE, HELD, OUTDATED, STOP
from sparkneuro.train.parameter_server.secure_flight import ServerLost
from sparkneuro.train.parameter_server.shard_client import ShardClient
from sparkneuro.train.parameter_server.shards import shard_bounds

LIFE_S = 10.0
# Pauses between two attempts to find a lost server (s): the first, and the longest.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
log = logging.getLogger(__name__)


class EndedEarly(TrainingError):
    """The training was told to end: there is nothing left to do, and nothing has gone wrong."""


class ParameterClient:
    """Pull, push and wait, over all shards of one model.

    Parameters
    ----------
    find : callable
        Returns the ``host:port`` of each shard's server, in the order of the shards, as things stand now.
    credentials : Credentials
        The run's.
    n_values : int
        Length of the model's vector.
    timeout_s : float
        Longest time that one call may take.
    wire_type : str
        float32, bfloat16 or float16: what crosses the network.
    wait_s : float
        Seconds to wait at most for a server that is just not there.

    Raises
    ------
    ServerLost
        When a server is not there in time.
    """

    def __init__(self, find, credentials, n_values, timeout_s=60.0, wire_type="float32", wait_s=0.0):
        self.n_values = n_values
        self.timeout_s = timeout_s
        self._find = find
        self._credentials = credentials
        self._wire_type = wire_type
        self._signed = -LIFE_S
        self._failed = False
        self.shards = []
        self._patiently(wait_s, lambda: self._connect(self._find()))
        self._pool = ThreadPoolExecutor(len(self.shards)) if len(self.shards) > 1 else None

    def reconnect(self, wait_s):
        """Find the servers again, and wait until all of them have weights.

        Parameters
        ----------
        wait_s : float
            Seconds to wait at most.

        Raises
        ------
        ServerLost
            When one of them does not come back in time.
        """

        def connect():
            self._connect(self._find())
            if not all(answer["ready"] for answer in self._act("status")):
                raise ServerLost("a parameter server has no weights yet.")

        self._patiently(wait_s, connect)

    def initialise(self, values):
        """Give the servers their first weights; a server that went on from a checkpoint keeps its own.

        Parameters
        ----------
        values : ndarray of shape (n_values,), float32
            The model's vector.
        """
        for shard, (start, end) in zip(self.shards, self._bounds, strict=True):
            if not shard.act("status")["ready"]:
                shard.exchange("initialise", values[start:end])

    def register(self, partition, attempt, last_clock, fingerprint=0):
        """Announce a worker to all servers.

        Parameters
        ----------
        partition, attempt, last_clock, fingerprint : int
            See `Ledger.register`.

        Returns
        -------
        clock : int
            Batches up to this one are applied at every server. A server that has more will answer a repeated push with
            "duplicate".
        """
        who = {"partition": partition, "attempt": attempt, "last_clock": last_clock, "fingerprint": fingerprint}
        answers = self._act("register", **who)
        return min(answer["clock"] for answer in answers)

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
            try:
                self._act("live", partition=partition)
            except ServerLost as error:  # whoever next needs the server finds it again
                log.info("a sign of life was lost: %s", error)

    def leave(self, partition, attempt):
        """Say that a worker ends, done or not.

        Parameters
        ----------
        partition, attempt : int
            Who ends.
        """
        self._act("leave", partition=partition, attempt=attempt)

    def finish(self):
        """Tell the servers, and through them the workers, that the training ends early."""
        self._act("finish")

    def pull(self, partition=None):
        """Fetch the newest weights.

        Parameters
        ----------
        partition : int or None
            Who will compute from them; None for who only looks.

        Returns
        -------
        values : ndarray of shape (n_values,), float32
            The model's vector.
        versions : list of int
            Version of each shard.
        """
        return self._receive(self._map(lambda i: self._exchange("pull", i, None, partition=partition)))

    def push(self, push, gradient, versions, patience_s):
        """Send a gradient, and wait until it is applied.

        Parameters
        ----------
        push : Push
            Who sends what; its version is set here, for each shard.
        gradient : ndarray of shape (n_values,), float32
            Must not change until the call returns.
        versions : list of int
            Versions of the weights that it was computed from.
        patience_s : float
            Seconds to wait at most for workers on whom it depends.

        Returns
        -------
        versions : list of int
            The same, with the worker's own push counted: it does not make its weights stale.
        """
        self._map(lambda i: self._send("push", i, push, gradient, versions, patience_s))
        return [version + 1 for version in versions]

    def push_pull(self, push, gradient, versions, patience_s, computing=None):
        """Send a gradient and fetch the weights that it made, in one round trip.

        Parameters
        ----------
        push : Push
            Who sends what; its versions are set here, for each shard.
        gradient : ndarray of shape (n_values,), float32
            Must not change until the call returns.
        versions : list of int
            Versions of the weights that it was computed from.
        patience_s : float
            Seconds to wait at most for workers on whom it depends.
        computing : list of int or None
            Versions that the next gradient is being computed from already.

        Returns
        -------
        values : ndarray of shape (n_values,), float32
            The model's vector.
        versions : list of int
            Version of each shard.
        """
        send = self._send
        return self._receive(self._map(lambda i: send("push_pull", i, push, gradient, versions, patience_s, computing)))

    def status(self):
        """Ask the servers how the training stands.

        Returns
        -------
        status : dict
            See `ParameterServer.status`: the first server's, with the versions and unfinished partitions of all, their refused
            calls added up, and the oldest checkpoint and the first complaint about one.
        """
        answers = self._act("status")
        checkpoints = [answer["checkpoint_version"] for answer in answers]
        return {
            **answers[0],
            "versions": [answer["version"] for answer in answers],
            "unfinished": sorted({partition for answer in answers for partition in answer["unfinished"]}),
            "bad_calls": sum(answer["bad_calls"] for answer in answers),
            "checkpoint_version": None if None in checkpoints else min(checkpoints),
            "checkpoint_error": next((answer["checkpoint_error"] for answer in answers if answer["checkpoint_error"]), None),
        }

    def ledgers(self):
        """Ask the servers what they have applied.

        Returns
        -------
        ledgers : list of dict
            One a shard; see `Ledger.to_dict`.
        """
        return self._act("ledger")

    def close(self):
        """Close all connections."""
        if self._pool is not None:
            self._pool.shutdown()
        for shard in self.shards:
            shard.close()

    def _patiently(self, wait_s, call):
        deadline, pause = time.monotonic() + wait_s, FIRST_PAUSE_S
        while True:
            try:
                return call()
            except ServerLost as error:
                if time.monotonic() + pause > deadline:
                    if not wait_s:
                        raise
                    raise ServerLost(f"waited {wait_s:g} s for the parameter servers: {error}") from error
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)

    def _connect(self, addresses):
        old = {shard.address: shard for shard in self.shards}
        self._bounds = shard_bounds(self.n_values, len(addresses))
        self.shards = [
            ShardClient(address, self._credentials, end - start, self.timeout_s, f"parameter server {i}")
            for i, (address, (start, end)) in enumerate(zip(addresses, self._bounds, strict=True))
        ]
        for shard in old.values():
            shard.close()

    def _map(self, call):
        if self._pool is None:
            return [call(0)]
        self._failed = False
        calls = [self._pool.submit(call, i) for i in range(len(self.shards))]
        done, running = wait(calls, return_when=FIRST_EXCEPTION)
        if running:
            # One server is lost, and at another this worker's push may wait for workers that wait for it at the first.
            self._failed = True
            wait(running)
            calls = [call for call in calls if call in done and call.exception() is not None]
        return [call.result() for call in calls]

    def _act(self, action, **body):
        return [shard.act(action, **body) for shard in self.shards]

    def _exchange(self, verb, i, vector, **header):
        start, end = self._bounds[i]
        values = None if vector is None else vector[start:end]
        return self.shards[i].exchange(verb, values, self._wire_type, **header)

    def _send(self, verb, i, push, gradient, versions, patience_s, computing=None):
        push = replace(push, version=versions[i], computing=None if computing is None else computing[i])
        answer, values = self._exchange(verb, i, gradient, **asdict(push))
        if answer["verdict"] == HELD:
            self._wait_until_applied(i, push, patience_s)
            answer = {"verdict": APPLY}
            if verb == "push_pull":
                answer, values = self._exchange("pull", i, None, partition=push.partition if computing is None else None)
                answer["verdict"] = APPLY
        if answer["verdict"] == OUTDATED:
            raise TrainingError(f"attempt {push.attempt} at partition {push.partition} must stop: a newer one has taken over.")
        if answer["verdict"] == STOP:
            raise EndedEarly("the training ends early.")
        if answer["verdict"] not in (APPLY, DUPLICATE):
            raise TrainingError(f"parameter server {i} must say what became of a push; got {answer['verdict']!r}.")
        return answer, values

    def _wait_until_applied(self, i, push, patience_s):
        deadline = time.monotonic() + patience_s
        who = {"partition": push.partition, "attempt": push.attempt, "clock": push.clock}
        while (answer := self.shards[i].act("settle", **who))["verdict"] == HELD:
            if time.monotonic() > deadline:
                missing = ", ".join(map(str, answer["missing"])) or "those that have not come yet"
                raise TrainingError(f"partition {push.partition} waited {patience_s:g} s for the pushes of partitions {missing}.")
            if self._failed:
                raise ServerLost(f"another than parameter server {i} failed.")
            self.live(push.partition)  # the other servers hear nothing else of a worker that waits for one of them
        if answer["verdict"] == STOP:
            raise EndedEarly("the training ends early.")
        if answer["verdict"] == OUTDATED:
            raise TrainingError(f"attempt {push.attempt} at partition {push.partition} must stop: a newer one has taken over.")

    def _receive(self, answers):
        vectors = [values for _, values in answers]
        values = vectors[0] if len(vectors) == 1 else np.concatenate(vectors)
        return values, [answer["version"] for answer, _ in answers]
