"""One run's features in a file of their own: ``.npy`` or Parquet, its shape without reading it, and any of its rows."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sparkneuro.data import hdf5
from sparkneuro.errors import FormatError


def check_matrix(place, shape, dtype):
    """Refuse what is no matrix of numbers.

    Parameters
    ----------
    place : str
        Whose, for the message.
    shape : tuple of int
        Of the array.
    dtype : numpy.dtype
        Of the array.

    Raises
    ------
    FormatError
        When it has not two axes, is empty, or holds something else than real numbers.
    """
    if len(shape) != 2 or min(shape) < 1 or dtype.kind not in "biuf":
        raise FormatError(f"{place}: numbers of shape (n_scans, n_features) are expected; got {dtype} of shape {shape}.")


def read_file(path, start, stop):
    """Read rows of a ``.npy`` or ``.parquet`` file.

    Parameters
    ----------
    path : str
        Path or URI.
    start, stop : int
        First row, and the one after the last; for no rows the header alone is read.

    Returns
    -------
    shape : tuple of int
        Of the whole matrix, (n_scans, n_features).
    rows : ndarray of shape (stop - start, n_features)
        In the type of the file.

    Raises
    ------
    FormatError
        When it is not a matrix of numbers, or damaged.
    """
    with hdf5.open_file(path) as file:
        return (_read_parquet if path.endswith(".parquet") else _read_npy)(path, file, start, stop)


def _read_npy(path, file, start, stop):
    header = np.lib.format
    read_header = header.read_array_header_1_0 if header.read_magic(file) == (1, 0) else header.read_array_header_2_0
    shape, fortran_order, dtype = read_header(file)
    check_matrix(path, shape, dtype)  # objects, that is pickles, end here
    begin, row_bytes = file.tell(), shape[1] * dtype.itemsize
    if (held := file.size() - begin) < (want := shape[0] * row_bytes):
        raise FormatError(f"{path}: the header promises {want} bytes of data, the file holds {held}; is the download complete?")
    rows = range(shape[0])[start:stop]
    read = range(shape[0]) if fortran_order and rows else rows
    file.seek(begin + read.start * row_bytes)
    content = file.read_buffer(len(read) * row_bytes)
    matrix = np.ndarray((len(read), shape[1]), dtype, content, order="F" if fortran_order else "C")
    return shape, matrix[rows.start - read.start:][:len(rows)]


def _read_parquet(path, file, start, stop):
    parquet = pq.ParquetFile(file)
    schema, metadata = parquet.schema_arrow, parquet.metadata
    in_lists = "features" in schema.names and pa.types.is_nested(schema.field("features").type)
    table = parquet.read(columns=["features"] if in_lists else None, use_threads=False) if stop > start else schema.empty_table()
    table = table.slice(start, stop - start)
    if in_lists:  # whose lengths the footer does not tell, but how many values there are
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
        n_values = sum(chunk.num_values for chunk in chunks if chunk.path_in_schema.startswith("features."))
        shape, lists = (metadata.num_rows, n_values // max(metadata.num_rows, 1)), table["features"]
        if n_values != shape[0] * shape[1] or set(pc.unique(pc.list_value_length(lists)).to_pylist()) - {shape[1]}:
            raise FormatError(f"{path}: every row must list equally many features; {shape[0]} rows list {n_values}.")
        return shape, pc.list_flatten(lists).to_numpy().reshape(len(lists), shape[1])
    index = (schema.pandas_metadata or {}).get("index_columns", [])  # row labels, which pandas writes as one more column
    table = table.select([place for place, name in enumerate(schema.names) if name not in index])
    for field in table.schema:
        if not (pa.types.is_integer(field.type) or pa.types.is_floating(field.type) or pa.types.is_boolean(field.type)):
            raise FormatError(f"{path}: a list column `features` or numbers alone are expected; {field.name} is {field.type}.")
    return (metadata.num_rows, table.num_columns), np.column_stack([column.to_numpy() for column in table.columns])
