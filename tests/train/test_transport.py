import json

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from sparkneuro.errors import SparkneuroError, TrainingError
from sparkneuro.train import transport
from sparkneuro.train.client import ShardClient
from sparkneuro.train.parameter_server import Push
from sparkneuro.train.transport import SCHEMA, pack, unpack

RULE = {"name": "SGD", "learning_rate": 1.0}
PUSH = Push(partition=0, attempt=1, clock=1, n_batches=1, rows=6, loss=3.0, version=0)
FIRST = np.arange(11, dtype=np.float32)
ONES = np.ones(11, np.float32)


def test_a_vector_is_packed_and_unpacked_without_a_copy():
    again = unpack(pack(FIRST))
    np.testing.assert_array_equal(again, FIRST)
    assert np.shares_memory(again, FIRST)


@pytest.mark.parametrize(
    "columns", [{"values": [1.0, None]}, {"weights": [1.0]}, {"values": [1]}], ids=["null", "other name", "other type"]
)
def test_another_message_is_refused(columns):
    schema = SCHEMA if "values" in columns and None in columns["values"] else None
    with pytest.raises(SparkneuroError, match="one float32 column without nulls"):
        unpack(pa.RecordBatch.from_pydict(columns, schema=schema))


@pytest.mark.parametrize("n_servers", [1, 2, 3])
def test_shards_together_do_what_one_vector_does(serve, n_servers):
    client = serve(FIRST, 8, RULE, n_servers).connect()
    assert client.register(0, 1, 4) == 0
    np.testing.assert_array_equal(client.pull(), FIRST)
    values = client.push_pull(PUSH, ONES)
    np.testing.assert_array_equal(values, np.r_[FIRST[:8] - 1, FIRST[8:] + 1])
    client.push(Push(0, 1, 2, 1, 6, 3.0, 0), ONES)
    np.testing.assert_array_equal(client.pull(), np.r_[FIRST[:8] - 2, FIRST[8:] + 2])
    assert client.status()["staleness_max"] == 0


def test_a_push_repeated_after_a_lost_answer_is_applied_once_at_every_shard(serve):
    servers = serve(FIRST, 8, RULE, n_servers=2)
    client = servers.connect()
    client.register(0, 1, 4)
    client._send("push", 0, PUSH, ONES)  # the first shard has it, then the worker dies
    retry = servers.connect()
    assert retry.register(0, 2, 4) == 0
    retry.push(Push(0, 2, 1, 1, 6, 3.0, 0), ONES)
    np.testing.assert_array_equal(retry.pull(), np.r_[FIRST[:8] - 1, FIRST[8:] + 1])
    assert [shard.ledger.entries[0].clock for shard in servers.shards] == [1, 1]


def test_a_worker_that_has_been_replaced_is_told_to_stop(serve):
    servers = serve(FIRST, 8, RULE)
    old, new = servers.connect(), servers.connect()
    old.register(0, 1, 4)
    new.register(0, 2, 4)
    with pytest.raises(TrainingError, match="attempt 1 at partition 0 must stop"):
        old.push(PUSH, ONES)
    np.testing.assert_array_equal(new.pull(), FIRST)


@pytest.mark.parametrize("token", ["", "another token"])
def test_a_call_without_the_token_is_refused_and_changes_nothing(serve, token):
    servers = serve(FIRST, 8, RULE)
    stranger = servers.connect(token)
    for call in (stranger.pull, stranger.status, lambda: stranger.register(0, 1, 4), lambda: stranger.push(PUSH, ONES)):
        with pytest.raises(TrainingError, match="does not accept this run's token"):
            call()
    assert servers.shards[0].ledger.entries == {}
    np.testing.assert_array_equal(servers.connect().pull(), FIRST)


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
    writer, reader = shard._connection.do_exchange(flight.FlightDescriptor.for_command(header), shard._options())
    with writer:
        writer.begin(SCHEMA)
        if values is not None:
            writer.write_batch(pack(values))
        writer.done_writing()
        assert "error" in json.loads(reader.read_chunk().app_metadata.to_pybytes())
    np.testing.assert_array_equal(client.pull(), FIRST)
    assert client.status()["version"] == 0


def test_an_action_that_makes_no_sense_is_answered_with_an_error(serve):
    shard = serve(FIRST, 8, RULE).connect().shards[0]
    with pytest.raises(TrainingError, match="an action must be one of leave, live, register, status, wait, stop; got 'sing'"):
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
    client = ShardClient("127.0.0.1:9", "token", timeout_s=5, name="parameter server 3")
    with pytest.raises(TrainingError, match="parameter server 3 at 127.0.0.1:9 cannot be reached"):
        client.exchange("pull")
    client.close()


def test_a_server_that_does_not_answer_in_time_is_named(serve, monkeypatch):
    servers = serve(FIRST, 8, RULE)
    hurried = servers.connect(timeout_s=0.2)
    with servers.shards[0]._lock, pytest.raises(TrainingError, match=r"did not answer within 0.2 s"):
        hurried.pull()


def test_who_waits_in_vain_for_a_warm_up_says_for_whom(serve, monkeypatch):
    monkeypatch.setattr(transport, "WAIT_S", 0.01)
    servers = serve(FIRST, 8, RULE, warmup_steps=5, n_partitions=2)
    client = servers.connect()
    for partition in (0, 1):
        client.register(partition, 1, 4)
    client.wait_for_turn(0, timeout_s=0.1)
    client.push(PUSH, ONES)
    with pytest.raises(TrainingError, match=r"partition 1 waited 0.1 s for partition 0.*stopped after 1 of 5 steps"):
        client.wait_for_turn(1, timeout_s=0.1)


def test_who_waits_goes_on_when_the_warm_up_is_done(serve, in_thread):
    servers = serve(FIRST, 8, RULE, warmup_steps=1, n_partitions=2)
    client = servers.connect()
    for partition in (0, 1):
        client.register(partition, 1, 4)
    client.wait_for_turn(0, timeout_s=10)
    waiting = in_thread(servers.connect().wait_for_turn, 1, 20)
    client.push(PUSH, ONES)
    waiting.result(timeout=10)
