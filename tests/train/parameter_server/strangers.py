"""Program of `test_strangers`: does to parameter servers all that it can think of, until its standard input ends.

It reads one line of JSON: ``addresses``, ``credentials`` (the run's, for what somebody inside may break), ``n_values`` of a
shard, and ``trap``, a file that would be made if anybody unpickled what it sends. At the end it prints how often it did what.
"""

import json
import os
import pickle
import random
import socket
import sys
import threading
import time
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight

from sparkneuro.train.parameter_server.credentials import Credentials
from sparkneuro.train.parameter_server.secure_flight import TOKEN_HEADER

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(range(60))  # of a TLS hello that says it has 200 bytes
SETTINGS = b"\0\0\0\4\0\0\0\0\0"
PAUSE_S = 0.02
REFUSED = (OSError, pa.ArrowException, flight.FlightError)


class Strangers:
    """One thread a way of harming."""

    def __init__(self, request):
        self.addresses = [address.rpartition(":") for address in request["addresses"]]
        self.run = Credentials(**request["credentials"])
        self.n_values, self.trap = request["n_values"], request["trap"]
        self.done, self.stop = Counter(), threading.Event()
        self.pickled = pickle.dumps(Bomb(self.trap))
        self.kept = {}

    def start(self):
        ways = [
            self.random_bytes, self.half_a_hello, self.half_a_preface, self.idle_connections, self.pickles, self.no_token,
            self.wrong_token, self.large_bodies, self.long_vectors, self.long_vectors_inside, self.nonsense_inside,
            self.half_an_exchange_inside, self.cut_exchanges_inside,
        ]  # fmt: skip
        for way in ways:
            threading.Thread(target=self._repeat, args=(way,), daemon=True).start()

    def _repeat(self, way):
        rng = random.Random(way.__name__)
        while not self.stop.is_set():
            host, _, port = rng.choice(self.addresses)
            try:
                way(rng, host, int(port))
            except REFUSED:
                pass
            self.done[way.__name__] += 1
            self.stop.wait(PAUSE_S)

    def _keep(self, way, thing, n):
        """Hold on to the newest `n` of something."""
        kept = self.kept.setdefault(way, [])
        kept.append(thing)
        if len(kept) > n:
            kept.pop(0).close()

    def _send(self, host, port, content):
        peer = socket.create_connection((host, port), timeout=2)
        peer.sendall(content)
        return peer

    def random_bytes(self, rng, host, port):
        with self._send(host, port, rng.randbytes(rng.randrange(100_000))) as peer:
            peer.settimeout(0.2)
            peer.recv(1000)

    def half_a_hello(self, rng, host, port):
        self._keep("hello", self._send(host, port, HELLO), 30)

    def half_a_preface(self, rng, host, port):
        content = (PREFACE + SETTINGS + rng.randbytes(20))[: rng.choice([3, 10, 24, 33, 53])]
        self._keep("preface", self._send(host, port, content), 30)

    def idle_connections(self, rng, host, port):
        self._keep("idle", socket.create_connection((host, port), timeout=2), 200)

    def pickles(self, rng, host, port):
        self._send(host, port, self.pickled).close()
        self._act(flight.Action("status", self.pickled), host, port, b"")
        self._act(flight.Action("status", self.pickled), host, port, self.run.token.encode(), inside=True)

    def no_token(self, rng, host, port):
        self._call_anything(rng, host, port, None)

    def wrong_token(self, rng, host, port):
        self._call_anything(rng, host, port, rng.choice([b"", b"x", b"a" * 43, self.run.token.encode()[:-1]]))

    def large_bodies(self, rng, host, port):
        self._act(flight.Action("status", b" " * 40_000_000), host, port, b"a wrong token")

    def long_vectors(self, rng, host, port):
        self._send_vector(host, port, b"a wrong token", 100 * self.n_values)

    def long_vectors_inside(self, rng, host, port):
        self._send_vector(host, port, self.run.token.encode(), 100 * self.n_values, inside=True)

    def nonsense_inside(self, rng, host, port):
        bodies = [
            b"{",
            b"[]",
            b"[" * 50_000,
            b'{"partition": -1, "attempt": 0, "last_clock": 1}',
            b"\xff",
            b"null",
            b'{"clock": 1e999}',
        ]
        body = rng.choice([*bodies, self.pickled])
        name = rng.choice(["register", "settle", "leave", "wait", "live", "sing", "status"])
        self._act(flight.Action(name, body), host, port, self.run.token.encode(), inside=True)
        with self._connect(host, port, inside=True) as client:
            for command in (b"", b"{}", b'{"verb": "steal"}', b'{"verb": "push"}', b'{"verb": "pull", "wire_type": "int8"}'):
                self._exchange(client, self.run.token.encode(), command, 1)

    def half_an_exchange_inside(self, rng, host, port):
        client = self._connect(host, port, inside=True)
        self._keep("client", client, 20)
        self._keep("writer", self._open(client, self.run.token.encode())[0], 20)

    def cut_exchanges_inside(self, rng, host, port):
        with self._connect(host, port, inside=True) as client:
            self._open(client, self.run.token.encode())

    def _connect(self, host, port, inside=False):
        credentials = self.run if inside else Credentials("none")
        return flight.FlightClient(f"{credentials.scheme}://{host}:{port}", **credentials.client_options())

    def _options(self, token, timeout_s=5.0):
        return flight.FlightCallOptions(timeout=timeout_s, headers=[] if token is None else [(TOKEN_HEADER.encode(), token)])

    def _act(self, action, host, port, token, inside=False):
        with self._connect(host, port, inside) as client:
            list(client.do_action(action, self._options(token)))

    def _call_anything(self, rng, host, port, token):
        options = self._options(token)
        with self._connect(host, port) as client:
            calls = [
                lambda: list(
                    client.do_action(flight.Action(rng.choice(["stop", "finish", "register", "status"]), b"{}"), options)
                ),
                lambda: list(client.list_flights(b"", options)),
                lambda: list(client.list_actions(options)),
                lambda: client.do_get(flight.Ticket(b"weights"), options).read_all(),
                lambda: client.do_put(flight.FlightDescriptor.for_command(b"{}"), SCHEMA, options)[0].close(),
                lambda: self._exchange(client, token, b'{"verb": "pull"}', 0),
            ]
            rng.choice(calls)()

    def _exchange(self, client, token, command, n_values):
        writer, reader = client.do_exchange(flight.FlightDescriptor.for_command(command), self._options(token))
        with writer:
            writer.begin(SCHEMA)
            for _ in range(n_values):
                writer.write_batch(BATCH)
            writer.done_writing()
            return reader.read_chunk()

    def _send_vector(self, host, port, token, n_values, inside=False):
        chunk = pa.record_batch([pa.array(np.zeros(min(n_values, 1 << 19), np.float32))], schema=SCHEMA)
        with self._connect(host, port, inside) as client:
            writer, reader = client.do_exchange(flight.FlightDescriptor.for_command(PUSH), self._options(token))
            with writer:
                writer.begin(SCHEMA)
                for _ in range(-(-n_values // chunk.num_rows)):
                    writer.write_batch(chunk)
                writer.done_writing()
                reader.read_chunk()

    def _open(self, client, token):
        writer, reader = client.do_exchange(flight.FlightDescriptor.for_command(PUSH), self._options(token, 120.0))
        writer.begin(SCHEMA)
        writer.write_batch(BATCH)
        return writer, reader


class Bomb:
    """What an unpickling server would run."""

    def __init__(self, trap):
        self._trap = trap

    def __reduce__(self):
        return os.system, (f"touch {self._trap}",)


SCHEMA = pa.schema([("values", pa.float32())])
BATCH = pa.record_batch([pa.array(np.zeros(7, np.float32))], schema=SCHEMA)
PUSH = json.dumps(
    {"verb": "push", "partition": 0, "attempt": 0, "clock": 1, "n_batches": 1, "rows": 1, "loss": 0.0, "version": 0}
).encode()


def main():
    """Do harm until standard input ends."""
    strangers = Strangers(json.loads(sys.stdin.readline()))
    strangers.start()
    print("begun", flush=True)
    sys.stdin.read()
    strangers.stop.set()
    time.sleep(0.1)
    print(json.dumps(strangers.done), flush=True)
    os._exit(0)  # with threads in calls that nobody will answer


if __name__ == "__main__":
    main()
