"""A vector on the wire: float32, bfloat16 or float16, in chunks of an Arrow stream.

The two short types halve what crosses the network; both ends compute in float32. Chunks of a megabyte or two cross a
connection about a third faster than one message of the whole vector, and a stream that grows beyond the model's length
is refused at the chunk that crosses it, before more is read.
"""

from functools import cache

import numpy as np
import pyarrow as pa

from sparkneuro.errors import TrainingError, require
from sparkneuro.validation import check_choice

# Elements of a chunk.
CHUNK = 1 << 19

# bfloat16 travels as the upper halves of float32: Arrow has no such type.
WIRE_TYPES = {"float32": pa.float32(), "bfloat16": pa.uint16(), "float16": pa.float16()}


def wire_schema(wire_type):
    """Return the Arrow schema of a stream.

    Parameters
    ----------
    wire_type : str
        float32, bfloat16 or float16.

    Returns
    -------
    schema : pyarrow.Schema
        One column, ``values``.
    """
    check_choice("wire_type", wire_type, tuple(WIRE_TYPES))
    return pa.schema([("values", WIRE_TYPES[wire_type])])


def encode(values, wire_type):
    """Round a vector to a wire type, to nearest, ties to even.

    Parameters
    ----------
    values : ndarray of shape (n,), float32
        Finite.
    wire_type : str
        float32, bfloat16 or float16.

    Returns
    -------
    encoded : ndarray of shape (n,), float32, uint16 or float16
        `values` itself for float32.

    Raises
    ------
    TrainingError
        When a value is too large for float16.

    Examples
    --------
    >>> encode(np.float32([1, -2]), "bfloat16").tolist()
    [16256, 49152]
    """
    if wire_type == "float32":
        return np.ascontiguousarray(values, np.float32)
    if wire_type == "bfloat16":
        encoded = np.empty(values.size, np.uint16)
        _kernels()["shorten"](np.require(values, np.float32, "CA").view(np.uint32), encoded)
        return encoded
    check_range(values, wire_type)
    return values.astype(np.float16)


def check_range(values, wire_type):
    """Make sure that a vector can be sent, before its first chunk is.

    Parameters
    ----------
    values : ndarray of shape (n,), float32
        The vector.
    wire_type : str
        float32, bfloat16 or float16.

    Raises
    ------
    TrainingError
        When a value is too large for float16, or not a number.
    """
    # From 65,520 on, the nearest float16 is infinity.
    if wire_type == "float16" and values.size and not np.abs(values).max() < 65_520:
        raise TrainingError("float16 on the wire holds values up to 65,504, and one was not; use bfloat16 or float32.")


def decode(encoded, wire_type, out):
    """Write a vector that came over the wire as float32.

    Parameters
    ----------
    encoded : ndarray of shape (n,)
        What `encode` returned.
    wire_type : str
        float32, bfloat16 or float16.
    out : ndarray of shape (n,), float32
        Where it goes.
    """
    if wire_type == "bfloat16":
        _kernels()["widen"](np.require(encoded, requirements="CA"), out.view(np.uint32))
    else:
        np.copyto(out, encoded)


def send_vector(writer, values, wire_type, header=None):
    """Write a vector to an Arrow stream, chunk by chunk.

    Parameters
    ----------
    writer : pyarrow.flight.FlightStreamWriter or pyarrow.flight.MetadataRecordBatchWriter
        Stream that has begun.
    values : ndarray of shape (n,), float32
        Must not change until the stream is closed.
    wire_type : str
        float32, bfloat16 or float16.
    header : bytes or None
        Goes with the first chunk; a chunk without values carries it when there are no values.
    """
    schema = wire_schema(wire_type)
    for start in range(0, max(values.size, 1), CHUNK):
        encoded = encode(values[start : start + CHUNK], wire_type)
        array = pa.Array.from_buffers(schema.field(0).type, encoded.size, [None, pa.py_buffer(encoded)])
        batch = pa.RecordBatch.from_arrays([array], schema=schema)
        if header is not None and start == 0:
            writer.write_with_metadata(batch, header)
        else:
            writer.write_batch(batch)


def receive_vector(reader, wire_type, n_values, expected="a vector"):
    """Read a vector from an Arrow stream.

    Parameters
    ----------
    reader : iterable of pyarrow.flight.FlightStreamChunk
        The stream.
    wire_type : str
        float32, bfloat16 or float16.
    n_values : int
        The longest vector that is taken.
    expected : str
        What it is, in messages.

    Returns
    -------
    values : ndarray of shape (n,), float32
        All that came, at most `n_values`.
    header : bytes or None
        What came with the first chunk.

    Raises
    ------
    TrainingError
        When more comes, or anything but one column of the wire type without nulls.
    """
    schema, out, n, header = wire_schema(wire_type), None, 0, None
    for chunk in reader:
        if chunk.app_metadata is not None and header is None:
            header = chunk.app_metadata.to_pybytes()
        if chunk.data is None:
            continue
        column = _column(chunk.data, schema, wire_type)
        if n + column.size > n_values:
            raise TrainingError(f"{expected} must have at most {n_values} values; more came.")
        if column.size:
            out = np.empty(n_values, np.float32) if out is None else out
            decode(column, wire_type, out[n : n + column.size])
            n += column.size
    return (np.empty(0, np.float32) if out is None else out[:n]), header


def _column(batch, schema, wire_type):
    if batch.schema != schema or batch.column(0).null_count:
        came = ", ".join(f"{field.name} {field.type}" for field in batch.schema)
        raise TrainingError(f"a message must hold one column without nulls, values, as {wire_type}; got {came}.")
    return batch.column(0).to_numpy(zero_copy_only=True)


@cache
def _kernels():
    numba = require("numba", "keras")

    def signature(read, written):
        # What is read may be read-only, as all that comes from Arrow is.
        return numba.void(numba.types.Array(read, 1, "C", readonly=True), written[::1])

    @numba.njit(signature(numba.uint32, numba.uint16), nogil=True)
    def shorten(bits, out):
        for i in range(bits.size):
            rounding = np.uint32(0x7FFF) + ((bits[i] >> np.uint32(16)) & np.uint32(1))
            out[i] = np.uint16((bits[i] + rounding) >> np.uint32(16))

    @numba.njit(signature(numba.uint16, numba.uint32), nogil=True)
    def widen(halves, out):
        for i in range(halves.size):
            out[i] = np.uint32(halves[i]) << np.uint32(16)

    return {"shorten": shorten, "widen": widen}
