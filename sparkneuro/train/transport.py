"""The parameter server on the wire: Arrow Flight calls with a token, numbers and JSON, nothing that is ever unpickled.

Two kinds of call. An exchange carries one vector of float32 each way (or none) with a small JSON header: the verbs
push, pull and push_pull. An action carries JSON alone: register, wait, live, leave, status, stop. A call that cannot be
served changes nothing and is answered with ``{"error": sentence}``.
"""

import hmac
import json
import threading

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight

from sparkneuro.errors import SparkneuroError
from sparkneuro.train.parameter_server import Push
from sparkneuro.validation import check_number

SCHEMA = pa.schema([("values", pa.float32())])
TOKEN_HEADER = "authorization"
# A waiting worker asks again after this long (s): a call never lasts longer than its time-out, and a dead waiter is forgotten.
WAIT_S = 5.0


def pack(values):
    """Wrap a vector as a record batch, without copying it.

    Parameters
    ----------
    values : ndarray of shape (n,), float32
        Must not change until the batch is sent.

    Returns
    -------
    batch : pyarrow.RecordBatch
        One column, ``values``.
    """
    values = np.ascontiguousarray(values, np.float32)
    array = pa.Array.from_buffers(pa.float32(), values.size, [None, pa.py_buffer(values)])
    return pa.RecordBatch.from_arrays([array], schema=SCHEMA)


def unpack(batch):
    """Return the vector in a record batch, without copying it.

    Parameters
    ----------
    batch : pyarrow.RecordBatch
        What `pack` made.

    Returns
    -------
    values : ndarray of shape (n,), float32
        Read-only view.

    Raises
    ------
    SparkneuroError
        When it is anything else.
    """
    if batch.schema != SCHEMA or batch.column(0).null_count:
        raise SparkneuroError(f"a message must hold one float32 column without nulls, values; got {batch.schema.names}.")
    return batch.column(0).to_numpy(zero_copy_only=True)


def _whole(name, value):
    return check_number(name, value, 0, integer=True)


class _TokenCheck(flight.ServerMiddlewareFactory):
    def __init__(self, token):
        super().__init__()
        self._token = token.encode()

    def start_call(self, info, headers):
        came = headers.get(TOKEN_HEADER, [""])[0]
        came = came if isinstance(came, bytes) else came.encode()
        if not hmac.compare_digest(came, self._token):
            raise flight.FlightUnauthenticatedError("this call does not carry the run's token.")


class FlightParameterServer(flight.FlightServerBase):
    """Serves one `ParameterServer` over Arrow Flight.

    Parameters
    ----------
    server : ParameterServer
        The shard.
    host : str
        Address to bind; the port is the system's choice (see `port`).
    token : str
        What every call must carry.
    """

    def __init__(self, server, host, token):
        self._server = server
        self._actions = {
            "register": self._register,
            "wait": self._wait,
            "live": self._live,
            "leave": self._leave,
            "status": self._status,
        }
        super().__init__(f"grpc://{host}:0", middleware={"token": _TokenCheck(token)})

    def do_exchange(self, context, descriptor, reader, writer):
        """Serve one of initialise, pull, push, push_pull (called by Arrow).

        Parameters
        ----------
        context : pyarrow.flight.ServerCallContext
            Not used.
        descriptor : pyarrow.flight.FlightDescriptor
            Its command is the JSON header.
        reader, writer : pyarrow.flight.MetadataRecordBatchReader, pyarrow.flight.MetadataRecordBatchWriter
            The streams.
        """
        empty = np.empty(0, np.float32)
        try:
            # Read before answering, whatever the verb: a caller that is still writing takes an early answer for a failure.
            chunk = next(iter(reader), None)
            header, values = self._exchange(json.loads(descriptor.command), chunk)
        except (SparkneuroError, ValueError, TypeError, KeyError) as error:
            header, values = {"error": f"{error}"}, empty
        writer.begin(SCHEMA)
        writer.write_with_metadata(pack(empty if values is None else values), json.dumps(header).encode())

    def do_action(self, context, action):
        """Serve one of register, wait, leave, status, stop (called by Arrow).

        Parameters
        ----------
        context : pyarrow.flight.ServerCallContext
            Not used.
        action : pyarrow.flight.Action
            Its body is JSON.

        Returns
        -------
        results : list of pyarrow.flight.Result
            One, JSON.
        """
        try:
            if action.type == "stop":
                # Shutting down waits for running calls, this one among them: so it is another thread's work.
                threading.Thread(target=self.shutdown, daemon=True).start()
                answer = {}
            elif action.type in self._actions:
                answer = self._actions[action.type](**json.loads(action.body.to_pybytes() or b"{}"))
            else:
                answer = {"error": f"an action must be one of {', '.join(sorted(self._actions))}, stop; got {action.type!r}."}
        except (SparkneuroError, ValueError, TypeError, KeyError) as error:
            answer = {"error": f"{error}"}
        return [flight.Result(pa.py_buffer(json.dumps(answer).encode()))]

    def _exchange(self, header, chunk):
        verb, verdict = header.pop("verb"), None
        if verb != "pull" and chunk is None:
            raise SparkneuroError(f"{verb} must bring a vector; none came.")
        if verb == "initialise":
            self._server.initialise(unpack(chunk.data))
            return {}, None
        if verb in ("push", "push_pull"):
            verdict = self._server.push(Push(**header), unpack(chunk.data))
        elif verb != "pull":
            raise SparkneuroError(f"a verb must be one of initialise, pull, push, push_pull; got {verb!r}.")
        if verb == "push":
            return {"verdict": verdict}, None
        values, version = self._server.pull()
        return {"verdict": verdict, "version": version}, values

    def _register(self, partition, attempt, last_clock):
        numbers = (_whole("partition", partition), _whole("attempt", attempt), _whole("last_clock", last_clock))
        return {"clock": self._server.register(*numbers)}

    def _wait(self, partition):
        gate = self._server.gate
        return {"go": gate.enter(partition, WAIT_S), "partition": gate.partition, "steps": gate.steps, "of": gate.n_steps}

    def _leave(self, partition):
        self._server.gate.leave(partition)
        return {}

    def _live(self, partition):
        self._server.note_life(_whole("partition", partition))
        return {}

    def _status(self):
        return self._server.status()
