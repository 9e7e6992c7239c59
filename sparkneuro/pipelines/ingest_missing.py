"""Which runs of an ingest are there already: by their receipts, the content of their files, and the version that made them."""

from sparkneuro import __version__
from sparkneuro.data import row_space, store
from sparkneuro.data.block import block_path
from sparkneuro.data.receipts import list_receipts, read_receipt
from sparkneuro.errors import FormatError


def find_missing(table, sources, recipe):
    """Tell which runs a table lacks.

    Parameters
    ----------
    table : str
        Path or URI of the voxel table.
    sources : sequence of SourceRun
        All runs of the sources.
    recipe : dict
        Of the table.

    Returns
    -------
    missing : list of SourceRun
        Runs that are to be made, or to be looked at again.
    doubtful : list of str
        Keys of the latter: their rows are there, but a file has another place, size or time.

    Raises
    ------
    FormatError
        When a run is another one than that of the same labels in the table.
    """
    done = set(list_receipts(table))
    files = set(store.list_files(table, recursive=True))
    whole_space = set(row_space.FILES[recipe["rows"]]) <= files
    missing, doubtful = [], []
    for source in sources:
        receipt = read_receipt(table, source.key) if source.key in done and whole_space else None
        if receipt is None or not _is_whole(receipt, source, files) or (
            not source.origin and receipt["run"]["t_r"] != source.t_r
        ):
            missing.append(source)
        elif receipt["inputs"] != {role: {**receipt["inputs"][role], **state} for role, state in source.read_states().items()}:
            _refuse_another(table, receipt["inputs"]["recording"], source)
            missing.append(source)
            doubtful += [] if source.origin else [source.key]
    return missing, doubtful


def _refuse_another(table, before, source):
    """A file of another place and size is not the run that the table has, but another data set's of the same labels."""
    path = source.origin or source.path
    if before["path"] != path and before["size"] != source.size:
        raise FormatError(f"{path}: the run {source.key} of {table} is another file, {before['path']}; choose another --output.")


def _is_whole(receipt, source, files):
    """Whether the rows are there and were made by this version, from as many files."""
    same = receipt.get("version") == __version__ and set(receipt["inputs"]) == set(source.read_states())
    return same and all(block_path("", source, block).lstrip("/") in files for block in range(receipt["n_blocks"]))
