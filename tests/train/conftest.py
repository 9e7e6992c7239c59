"""Parameter servers in this process, and a small model with batch statistics."""

import os
import threading

import numpy as np
import pytest

from sparkneuro.train.parameter_server.client import ParameterClient
from sparkneuro.train.parameter_server.credentials import Credentials
from sparkneuro.train.parameter_server.push import ServerSettings
from sparkneuro.train.parameter_server.server import ParameterServer
from sparkneuro.train.parameter_server.shards import shard_bounds
from sparkneuro.train.parameter_server.transport import FlightParameterServer

CREDENTIALS = Credentials("the token of this test")


class ServersInThreads:
    """Real Flight servers on loopback, in threads of the test's own process."""

    def __init__(
        self, values, n_trainable, rule, n_servers=1, credentials=CREDENTIALS, warmup_steps=0, n_partitions=1, rows_per_epoch=100,
        **settings,
    ):  # fmt: skip
        self.shards = []
        self.flights = []
        for shard, (start, end) in enumerate(shard_bounds(values.size, n_servers)):
            n = min(max(n_trainable - start, 0), end - start)
            whole = ServerSettings(
                rule, n, end - start - n, warmup_steps, n_partitions, rows_per_epoch, shard, n_servers, **settings
            )
            self.shards.append(ParameterServer(whole))
            self.flights.append(FlightParameterServer(self.shards[-1], "127.0.0.1", credentials))
        self.addresses = [f"127.0.0.1:{flight.port}" for flight in self.flights]
        self.credentials = credentials
        self.n_values = values.size
        self.clients = []
        self.connect().initialise(values)

    def connect(self, credentials=None, timeout_s=20.0, wire_type="float32"):
        client = ParameterClient(lambda: self.addresses, credentials or self.credentials, self.n_values, timeout_s, wire_type)
        self.clients.append(client)
        return client

    def replace(self, shard, server):
        """Put another server in the place of one that has died; it listens elsewhere."""
        self.flights[shard].shutdown()
        self.shards[shard], self.flights[shard] = server, FlightParameterServer(server, "127.0.0.1", self.credentials)
        self.addresses[shard] = f"127.0.0.1:{self.flights[shard].port}"

    def stop(self):
        for client in self.clients:
            client.close()
        for flight in self.flights:
            flight.shutdown()


@pytest.fixture
def serve():
    """Start servers with ``serve(values, n_trainable, rule, ...)``; they stop with the test."""
    groups = []

    def start(*arguments, **options):
        groups.append(ServersInThreads(*arguments, **options))
        return groups[-1]

    yield start
    for group in groups:
        group.stop()


@pytest.fixture
def in_thread():
    """Run a function in a thread, and get its result or its error with ``.result()``."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        yield pool.submit


@pytest.fixture
def make_model():
    """A small compiled autoencoder of series with 13 scans; batch statistics on demand."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    keras = pytest.importorskip("keras", reason="needs the keras extra")

    def make(optimizer=None, batch_normalization=False, seed=3):
        keras.utils.set_random_seed(seed)
        layers = [keras.layers.Input((13,)), keras.layers.Dense(7, activation="tanh", name="hidden")]
        layers += [keras.layers.BatchNormalization(momentum=0.9)] if batch_normalization else []
        model = keras.Sequential([*layers, keras.layers.Dense(13)])
        model.compile(optimizer=optimizer or keras.optimizers.Adagrad(0.05), loss="mean_squared_error")
        return model

    return make


@pytest.fixture
def series():
    """107 series of 13 scans: a number of rows that no batch size of the tests divides."""
    rng = np.random.default_rng(5)
    phases = rng.uniform(0, 6, (107, 1))
    return (np.sin(np.arange(13) * 0.7 + phases) + 0.1 * rng.standard_normal((107, 13))).astype(np.float32)


def join(thread: threading.Thread):
    """Wait for a thread, but not for ever."""
    thread.join(20)
    assert not thread.is_alive()
