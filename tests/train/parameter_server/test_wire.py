"""Vectors on the wire: rounding against ml_dtypes and NumPy, chunks through a real Flight exchange, and what is refused."""

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from sparkneuro.errors import SettingsError, TrainingError
from sparkneuro.train.parameter_server.shard_client import ShardClient
from sparkneuro.train.parameter_server.wire import CHUNK, WIRE_TYPES, decode, encode, receive_vector, send_vector, wire_schema

ml_dtypes = pytest.importorskip("ml_dtypes", reason="comes with the keras extra")
FLOAT32 = np.finfo(np.float32)


def round_trip(values, wire_type):
    out = np.full(values.size, np.nan, np.float32)
    decode(encode(values, wire_type), wire_type, out)
    return out


def bits_of(halves):
    """Ties between two neighbours of bfloat16, and what lies just above and below them."""
    return np.concatenate([halves << 16 | low for low in (0x0000, 0x7FFF, 0x8000, 0x8001, 0xFFFF)]).astype(np.uint32)


def floats(kind):
    rng = np.random.default_rng(7)
    bits = {
        "any bits": rng.integers(0, 2**32, 200_003, dtype=np.uint32),
        "ties": bits_of(rng.integers(0, 2**16, 20_001, dtype=np.uint32)),
        "subnormal": rng.integers(1, 2**23, 100_003, dtype=np.uint32) | rng.integers(0, 2, 100_003, dtype=np.uint32) << 31,
        "zeros and ends": np.float32([0.0, -0.0, FLOAT32.max, -FLOAT32.max, FLOAT32.tiny, FLOAT32.smallest_subnormal, 1.0]).view(
            np.uint32
        ),
        "weights": rng.normal(0, 0.05, 100_003).astype(np.float32).view(np.uint32),
    }[kind]
    values = bits.view(np.float32)
    return values[np.isfinite(values)]


KINDS = ["any bits", "ties", "subnormal", "zeros and ends", "weights"]


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_is_rounded_as_ml_dtypes_rounds(kind):
    values = floats(kind)
    np.testing.assert_array_equal(encode(values, "bfloat16"), values.astype(ml_dtypes.bfloat16).view(np.uint16))


def test_every_bfloat16_survives_the_wire():
    halves = np.arange(2**16, dtype=np.uint16)
    values = np.empty(2**16, np.float32)
    decode(halves, "bfloat16", values)
    np.testing.assert_array_equal(values.view(np.uint32), halves.view(ml_dtypes.bfloat16).astype(np.float32).view(np.uint32))
    numbers = ~np.isnan(values)
    np.testing.assert_array_equal(encode(values[numbers], "bfloat16"), halves[numbers])


@pytest.mark.parametrize("kind", KINDS)
def test_rounding_twice_changes_no_more(kind):
    values = floats(kind)
    for wire_type in ("float32", "bfloat16"):
        once = round_trip(values, wire_type)
        np.testing.assert_array_equal(round_trip(once, wire_type).view(np.uint32), once.view(np.uint32))


def test_bfloat16_is_within_half_of_its_last_digit():
    values = floats("weights")
    assert np.abs(round_trip(values, "bfloat16") / values - 1).max() <= 2.0**-8


def test_float16_is_rounded_as_numpy_rounds():
    values = floats("any bits")
    values = np.concatenate([values[np.abs(values) < 65_520], floats("weights"), np.float32([0.0, -0.0, 65_504, -65_519.996])])
    with np.errstate(under="ignore"):
        np.testing.assert_array_equal(round_trip(values, "float16"), values.astype(np.float16).astype(np.float32))
    assert np.signbit(round_trip(np.float32([-0.0]), "float16"))[0]


@pytest.mark.parametrize("value", [65_520, -65_520, 1e38, np.inf, np.nan])
def test_what_float16_cannot_hold_is_refused(value):
    with pytest.raises(TrainingError, match="float16 on the wire holds values up to 65,504, and one was not"):
        encode(np.float32([1, value, 2]), "float16")


def test_float32_is_not_copied():
    values = floats("weights")
    assert encode(values, "float32") is values


@pytest.mark.parametrize("wire_type", WIRE_TYPES)
def test_strided_and_read_only_vectors_are_sent_as_they_are(wire_type):
    values = floats("weights")[::3]
    values.flags.writeable = False
    np.testing.assert_array_equal(round_trip(values, wire_type), round_trip(values.copy(), wire_type))


def test_a_wire_type_that_does_not_exist_is_named():
    with pytest.raises(SettingsError, match="wire_type must be one of float32, bfloat16, float16; got 'int8'"):
        wire_schema("int8")


class Echo(flight.FlightServerBase):
    """Sends back the vector that came, and what was wrong with it."""

    def __init__(self, n_values):
        self._n_values = n_values
        super().__init__("grpc://127.0.0.1:0")

    def do_exchange(self, context, descriptor, reader, writer):
        wire_type = descriptor.command.decode()
        try:
            values, header = receive_vector(reader, wire_type, self._n_values, "the vector")
        except TrainingError as error:
            for _ in reader:  # a caller that is still writing takes an early answer for a failure
                pass
            values, header = np.empty(0, np.float32), f"{error}".encode()
        writer.begin(wire_schema(wire_type))
        send_vector(writer, values, wire_type, header)


@pytest.fixture(scope="module")
def echo():
    with Echo(CHUNK + 2) as server:
        with flight.FlightClient(f"grpc://127.0.0.1:{server.port}") as client:
            yield client


def send(client, schema, write, wire_type="float32"):
    writer, reader = client.do_exchange(flight.FlightDescriptor.for_command(wire_type.encode()))
    with writer:
        writer.begin(schema)
        write(writer)
        writer.done_writing()
        return receive_vector(reader, wire_type, CHUNK + 2)


@pytest.mark.parametrize("wire_type", WIRE_TYPES)
@pytest.mark.parametrize("n_values", [0, 1, CHUNK, CHUNK + 1])
def test_a_vector_of_any_length_comes_back_with_its_header(echo, wire_type, n_values):
    sent = np.random.default_rng(n_values).normal(0, 1, n_values).astype(np.float32)
    came, header = send(echo, wire_schema(wire_type), lambda writer: send_vector(writer, sent, wire_type, b"who"), wire_type)
    np.testing.assert_array_equal(came, round_trip(sent, wire_type))
    assert header == b"who" and came.dtype == np.float32


def test_a_vector_comes_in_chunks():
    lengths = []

    class Writer:
        def write_batch(self, batch):
            lengths.append(batch.num_rows)

    send_vector(Writer(), np.zeros(2 * CHUNK + 3, np.float32), "bfloat16")
    assert lengths == [CHUNK, CHUNK, 3]


def test_no_chunk_behind_the_one_that_is_too_much_is_read():
    class Chunk:
        app_metadata = None
        data = pa.record_batch([pa.array(np.ones(5, np.float32))], schema=wire_schema("float32"))

    read = []

    def stream():
        while True:
            read.append(1)
            yield Chunk

    with pytest.raises(TrainingError, match="the vector must have at most 12 values; more came"):
        receive_vector(stream(), "float32", 12, "the vector")
    assert len(read) == 3


def column(values, kind=None, name="values"):
    return pa.record_batch([pa.array(values, kind)], names=[name])


@pytest.mark.parametrize(
    "batch, found",
    [
        (column([1.0], pa.float64()), "values double"),
        (column([1], pa.uint16()), "values uint16"),
        (column([1.0], pa.float32(), "other"), "other float"),
        (column(["1"], pa.string()), "values string"),
        (column([[1.0]], pa.list_(pa.float32())), "values list"),
        (column([1.0, None], pa.float32()), "values float"),
        (pa.record_batch([pa.array([1.0], pa.float32())] * 2, names=["values", "more"]), "values float, more float"),
        (pa.record_batch([], names=[]), ""),
    ],
)
def test_another_schema_or_a_null_is_refused(echo, batch, found):
    came, complaint = send(echo, batch.schema, lambda writer: writer.write_batch(batch))
    assert came.size == 0
    assert complaint.decode().startswith("a message must hold one column without nulls, values, as float32; got " + found)


def test_one_value_too_many_is_refused(echo):
    values = np.ones(CHUNK + 3, np.float32)
    came, complaint = send(echo, wire_schema("float32"), lambda writer: send_vector(writer, values, "float32"))
    assert came.size == 0 and complaint == b"the vector must have at most 524290 values; more came."


def test_weights_that_float16_cannot_hold_are_one_sentence_at_the_worker(serve):
    servers = serve(np.float32([1, 70_000, 2]), 3, {"name": "SGD", "learning_rate": 1.0})
    address = servers.addresses[0]
    client = ShardClient(address, servers.credentials, 3)
    with pytest.raises(TrainingError, match="refused a call: float16 on the wire holds values up to 65,504") as refused:
        client.exchange("pull", wire_type="float16")
    assert type(refused.value) is TrainingError  # looking for the server again would not help
    with pytest.raises(TrainingError, match="^float16 on the wire holds values up to 65,504"):
        client.exchange("push", np.float32([1, 2, np.inf]), "float16")
    assert client.exchange("pull")[1].tolist() == [1, 70_000, 2]
    client.close()
