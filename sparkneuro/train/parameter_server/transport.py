"""The parameter server on the wire.

Two kinds of call. An exchange carries one vector each way (or none) with a small JSON header: the verbs initialise, push, pull
and push_pull. An action carries JSON alone: register, wait, settle, live, leave, finish, status, ledger, stop.
"""

import json
import threading

import numpy as np

from sparkneuro.errors import TrainingError
from sparkneuro.train.parameter_server.ledger import APPLY, DUPLICATE
from sparkneuro.train.parameter_server.push import Push
from sparkneuro.train.parameter_server.secure_flight import CALLERS_FAULTS, SecureServer
from sparkneuro.train.parameter_server.server import WAIT_S
from sparkneuro.train.parameter_server.wire import check_range, receive_vector, send_vector, wire_schema
from sparkneuro.validation import check_number

VERBS = ("initialise", "pull", "push", "push_pull")
NOTHING = np.empty(0, np.float32)


class FlightParameterServer(SecureServer):
    """Serves one `ParameterServer` over Arrow Flight.

    Parameters
    ----------
    server : ParameterServer
        The shard.
    host : str
        Address to bind; the port is the system's choice (see `port`).
    credentials : Credentials
        What every call must show.
    stop : callable or None
        What the action ``stop`` does; by default the server ends when its running calls have.
    """

    def __init__(self, server, host, credentials, stop=None):
        self._server = server
        # Shutting down waits for running calls, this one among them: so it is another thread's work.
        self._shut_down = stop or (lambda: threading.Thread(target=self.shutdown, daemon=True).start())
        names = ("register", "wait", "settle", "live", "leave", "finish", "status", "ledger", "stop")
        super().__init__(host, credentials, {name: getattr(self, f"_{name}") for name in names})

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
        wire_type, fault = "float32", None
        try:
            header = dict(json.loads(descriptor.command))
            verb, wanted = header.pop("verb"), header.pop("wire_type", "float32")
            wire_schema(wanted)
            wire_type = wanted
        except CALLERS_FAULTS as error:
            verb, fault = "a call", error
        try:
            # Read before answering, whatever came: a caller that is still writing takes an early answer for a failure.
            values, _ = receive_vector(reader, wire_type, self._server.n_values, expected=verb)
            if fault is not None:
                raise fault
            answer, values = self._exchange(verb, header, values)
            check_range(NOTHING if values is None else values, wire_type)
        except CALLERS_FAULTS as error:
            answer, values = self.refuse(error), None
        writer.begin(wire_schema(wire_type))
        send_vector(writer, NOTHING if values is None else values, wire_type, json.dumps(answer).encode())

    def _exchange(self, verb, header, values):
        if verb not in VERBS:
            raise TrainingError(f"a verb must be one of {', '.join(VERBS)}; got {verb!r}.")
        if verb == "initialise":
            self._server.initialise(values)
            return {}, None
        if verb == "pull":
            partition = header.get("partition")
            values, version = self._server.pull(partition if partition is None else _whole("partition", partition))
            return {"version": version}, values
        push = Push(**header)
        verdict = self._server.push(push, values, fetch=verb == "push_pull")
        if verb == "push" or verdict not in (APPLY, DUPLICATE):
            return {"verdict": verdict}, None
        values, version = self._server.pull(push.partition if push.computing is None else None)
        return {"verdict": verdict, "version": version}, values

    def _register(self, partition, attempt, last_clock, fingerprint=0):
        numbers = (_whole("partition", partition), _whole("attempt", attempt), _whole("last_clock", last_clock))
        numbers += (_whole("fingerprint", fingerprint),)
        return {"clock": self._server.register(*numbers)}

    def _wait(self, partition):
        gate = self._server.gate
        go = gate.enter(_whole("partition", partition), WAIT_S)
        return {"go": go, "partition": gate.partition, "steps": gate.steps, "of": gate.n_steps}

    def _settle(self, partition, attempt, clock):
        numbers = (_whole("partition", partition), _whole("attempt", attempt), _whole("clock", clock))
        verdict, missing = self._server.settle(*numbers)
        return {"verdict": verdict, "missing": missing}

    def _live(self, partition):
        self._server.note_life(_whole("partition", partition))
        return {}

    def _leave(self, partition, attempt):
        self._server.leave(_whole("partition", partition), _whole("attempt", attempt))
        return {}

    def _finish(self):
        self._server.finish()
        return {}

    def _status(self):
        return {**self._server.status(), "bad_calls": self.bad_calls.total}

    def _ledger(self):
        return self._server.read_ledger()

    def _stop(self):
        self._shut_down()
        return {}


def _whole(name, value):
    return check_number(name, value, 0, 2**64, integer=True)
