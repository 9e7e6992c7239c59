"""An index of BIDS files as one Parquet file: written whole or not at all, and told from other files by its metadata."""

import pyarrow as pa
import pyarrow.parquet as pq

from sparkneuro.data import store
from sparkneuro.data.index.bids_index import index_schema
from sparkneuro.errors import FormatError

FORMAT = b"1"
MARK = b"sparkneuro.bids_index"


def read_index(path):
    """Read an index.

    Parameters
    ----------
    path : str
        Path or URI of the Parquet file.

    Returns
    -------
    index : pyarrow.Table
        One row a file; the columns are those of `bids_index.index_schema`.

    Raises
    ------
    FormatError
        When there is none, or the file is damaged or something else.
    """
    if not store.exists(path):
        raise FormatError(f"{path}: there is no such index; make one with 'sparkneuro index'.")
    remedy = "choose another file, or delete this one and index again"
    if store.is_folder(path):
        raise FormatError(f"{path}: an index of BIDS files is one Parquet file; this is a folder.")
    try:
        # Unlike `read_table` this loads no pyarrow.dataset, and with it no pandas.
        table = pq.ParquetFile(pa.BufferReader(store.read_bytes(path))).read()
    except (pa.ArrowException, OSError) as error:
        raise FormatError(f"{path}: this file is damaged, or no index of BIDS files; {remedy}.") from error
    found = (table.schema.metadata or {}).get(MARK)
    if found is None:
        raise FormatError(f"{path}: this file is no index of BIDS files, but other Parquet; {remedy}.")
    if found != FORMAT:
        newer = f"this index has format {found.decode()}, and this sparkneuro reads {FORMAT.decode()}"
        raise FormatError(f"{path}: {newer}; update sparkneuro.")
    return table.replace_schema_metadata(None)


def write_index(path, table):
    """Write an index, atomically; equal rows give equal bytes.

    Parameters
    ----------
    path : str
        Path or URI of the Parquet file.
    table : pyarrow.Table
        Its rows.

    Raises
    ------
    StorageError
        When it cannot be written; one that was there before is untouched then.
    """
    marked = table.cast(index_schema()).replace_schema_metadata({MARK: FORMAT})
    with store.open_replacement(path) as stream:
        pq.write_table(marked, stream, compression="zstd")
