"""Calls to one parameter server: vectors by exchange, everything else by action."""

import json

import pyarrow.flight as flight

from sparkneuro.train.parameter_server.secure_flight import SecureClient
from sparkneuro.train.parameter_server.wire import receive_vector, send_vector, wire_schema


class ShardClient(SecureClient):
    """Calls to one parameter server.

    Parameters
    ----------
    address : str
        ``host:port``.
    credentials : Credentials
        The run's.
    n_values : int
        Length of the shard.
    timeout_s : float
        Longest time that one call may take.
    name : str
        The server's name in messages.
    """

    def __init__(self, address, credentials, n_values, timeout_s=60.0, name="parameter server"):
        super().__init__(address, credentials, timeout_s, name)
        self._n_values = n_values

    def exchange(self, verb, values=None, wire_type="float32", **header):
        """Send a vector, or none, and get one back, or none.

        Parameters
        ----------
        verb : str
            One of initialise, pull, push, push_pull.
        values : ndarray of shape (n_values,), float32, or None
            What is sent.
        wire_type : str
            float32, bfloat16 or float16: what crosses the network, both ways.
        **header
            Goes with it, fit for JSON.

        Returns
        -------
        answer : dict
            The server's header.
        values : ndarray of shape (n_values,), float32
            Empty when the verb brings none back.

        Raises
        ------
        ServerLost
            When the server is gone, does not answer in time, or wants the worker to register again.
        TrainingError
            When the server refuses.
        """

        def call():
            command = json.dumps({"verb": verb, "wire_type": wire_type, **header}).encode()
            writer, reader = self._connection.do_exchange(flight.FlightDescriptor.for_command(command), self.options())
            with writer:
                writer.begin(wire_schema(wire_type))
                if values is not None:
                    send_vector(writer, values, wire_type)
                writer.done_writing()
                came, answer = receive_vector(reader, wire_type, self._n_values, expected="the answer")
                return json.loads(answer), came

        answer, came = self.guarded(call)
        return self.checked(answer), came
