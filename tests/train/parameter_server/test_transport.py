import json

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from sparkneuro.errors import TrainingError
from sparkneuro.train.parameter_server import transport
from sparkneuro.train.parameter_server.credentials import Credentials
from sparkneuro.train.parameter_server.push import Push
from sparkneuro.train.parameter_server.secure_flight import ServerLost
from sparkneuro.train.parameter_server.shard_client import ShardClient
from sparkneuro.train.parameter_server.wire import wire_schema

RULE = {"name": "SGD", "learning_rate": 1.0}
PUSH = Push(partition=0, attempt=1, clock=1, n_batches=1, rows=6, loss=3.0, version=0)
FIRST = np.arange(11, dtype=np.float32)
ONES = np.ones(11, np.float32)


SCHEMA = wire_schema("float32")
PATIENCE_S = 20.0


def weights(client):
    return client.pull()[0]


def pack(values):
    return pa.RecordBatch.from_arrays([pa.array(values)], schema=SCHEMA)


@pytest.mark.parametrize("n_servers", [1, 2, 3])
def test_shards_together_do_what_one_vector_does(serve, n_servers):
    client = serve(FIRST, 8, RULE, n_servers).connect()
    assert client.register(0, 1, 4) == 0
    np.testing.assert_array_equal(weights(client), FIRST)
    values, versions = client.push_pull(PUSH, ONES, [0] * n_servers, PATIENCE_S)
    assert versions == [1] * n_servers
    np.testing.assert_array_equal(values, np.r_[FIRST[:8] - 1, FIRST[8:] + 1])
    assert client.push(Push(0, 1, 2, 1, 6, 3.0, 0), ONES, versions, PATIENCE_S) == [2] * n_servers
    np.testing.assert_array_equal(weights(client), np.r_[FIRST[:8] - 2, FIRST[8:] + 2])
    assert client.status()["staleness_max"] == 0


def test_a_push_repeated_after_a_lost_answer_is_applied_once_at_every_shard(serve):
    servers = serve(FIRST, 8, RULE, n_servers=2)
    client = servers.connect()
    client.register(0, 1, 4)
    client._send("push", 0, PUSH, ONES, [0, 0], PATIENCE_S)  # the first shard has it, then the worker dies
    retry = servers.connect()
    assert retry.register(0, 2, 4) == 0
    retry.push(Push(0, 2, 1, 1, 6, 3.0, 0), ONES, [0, 0], PATIENCE_S)
    np.testing.assert_array_equal(weights(retry), np.r_[FIRST[:8] - 1, FIRST[8:] + 1])
    assert [shard.ledger.entries[0].clock for shard in servers.shards] == [1, 1]


def test_a_worker_that_has_been_replaced_is_told_to_stop(serve):
    servers = serve(FIRST, 8, RULE)
    old, new = servers.connect(), servers.connect()
    old.register(0, 1, 4)
    new.register(0, 2, 4)
    with pytest.raises(TrainingError, match="attempt 1 at partition 0 must stop"):
        old.push(PUSH, ONES, [0], PATIENCE_S)
    np.testing.assert_array_equal(weights(new), FIRST)


@pytest.mark.parametrize("token", ["", "another token"])
def test_a_call_without_the_token_is_refused_and_changes_nothing(serve, token):
    servers = serve(FIRST, 8, RULE)
    stranger = servers.connect(Credentials(token))
    for call in (stranger.pull, stranger.status, lambda: stranger.register(0, 1, 4), lambda: stranger.push(PUSH, ONES, [0], 1.0)):
        with pytest.raises(TrainingError, match="does not accept this run's token"):
            call()
    assert servers.shards[0].ledger.entries == {}
    np.testing.assert_array_equal(weights(servers.connect()), FIRST)


@pytest.mark.parametrize(
    "header, values",
    [
        (b"no json", ONES),
        (b"[]", ONES),
        (b'{"verb": "steal"}', ONES),
        (b'{"verb": "push"}', ONES),
        (b'{"verb": "push", "partition": 0}', ONES),
        (json.dumps({"verb": "push", **vars(PUSH)}).encode(), ONES[:5]),
        (json.dumps({"verb": "push_pull", **vars(PUSH)}).encode(), None),
        (b'{"verb": "initialise"}', ONES),
        (json.dumps({"verb": "push", **vars(PUSH), "rows": "six"}).encode(), ONES),
        (json.dumps({"verb": "push", **vars(PUSH), "loss": None}).encode(), ONES),
        (json.dumps({"verb": "push", **vars(PUSH), "loss": float("nan")}).encode(), ONES),
    ],
)
def test_a_malformed_message_is_answered_with_an_error_and_changes_nothing(serve, header, values):
    servers = serve(FIRST, 8, RULE)
    client = servers.connect()
    client.register(0, 1, 4)
    shard = client.shards[0]
    writer, reader = shard._connection.do_exchange(flight.FlightDescriptor.for_command(header), shard.options())
    with writer:
        writer.begin(SCHEMA)
        if values is not None:
            writer.write_batch(pack(values))
        writer.done_writing()
        assert "error" in json.loads(reader.read_chunk().app_metadata.to_pybytes())
    np.testing.assert_array_equal(weights(client), FIRST)
    assert client.status()["version"] == 0


def test_an_action_that_makes_no_sense_is_answered_with_an_error(serve):
    shard = serve(FIRST, 8, RULE).connect().shards[0]
    actions = "finish, leave, ledger, live, register, settle, status, stop, wait"
    with pytest.raises(TrainingError, match=f"an action must be one of {actions}; got 'sing'"):
        shard.act("sing")
    with pytest.raises(TrainingError, match="refused a call"):
        shard.act("register", partition=1)


def test_signs_of_life_are_sent_now_and_then(serve, monkeypatch):
    heard = []
    servers = serve(FIRST, 8, RULE)
    monkeypatch.setattr(servers.shards[0], "note_life", heard.append)
    client = servers.connect()
    for _ in range(5):
        client.live(3)
    assert heard == [3]
    client._signed -= 11
    client.live(3)
    assert heard == [3, 3]


def test_a_server_that_is_gone_is_named():
    client = ShardClient("127.0.0.1:9", Credentials("token"), 11, timeout_s=5, name="parameter server 3")
    with pytest.raises(ServerLost, match="parameter server 3 at 127.0.0.1:9 cannot be reached"):
        client.exchange("pull")
    client.close()


def test_a_server_that_does_not_answer_in_time_is_named(serve, monkeypatch):
    servers = serve(FIRST, 8, RULE)
    hurried = servers.connect(timeout_s=0.2)
    with servers.shards[0]._changed, pytest.raises(ServerLost, match=r"did not answer within 0.2 s"):
        hurried.pull()


def test_who_waits_in_vain_for_a_warm_up_says_for_whom(serve, monkeypatch):
    monkeypatch.setattr(transport, "WAIT_S", 0.01)
    servers = serve(FIRST, 8, RULE, warmup_steps=5, n_partitions=2)
    client = servers.connect()
    for partition in (0, 1):
        client.register(partition, 1, 4)
    client.wait_for_turn(0, timeout_s=0.1)
    client.push(PUSH, ONES, [0], PATIENCE_S)
    with pytest.raises(TrainingError, match=r"partition 1 waited 0.1 s for partition 0.*stopped after 1 of 5 steps"):
        client.wait_for_turn(1, timeout_s=0.1)


def test_who_waits_goes_on_when_the_warm_up_is_done(serve, in_thread):
    servers = serve(FIRST, 8, RULE, warmup_steps=1, n_partitions=2)
    client = servers.connect()
    for partition in (0, 1):
        client.register(partition, 1, 4)
    client.wait_for_turn(0, timeout_s=10)
    waiting = in_thread(servers.connect().wait_for_turn, 1, 20)
    client.push(PUSH, ONES, [0], PATIENCE_S)
    waiting.result(timeout=10)
