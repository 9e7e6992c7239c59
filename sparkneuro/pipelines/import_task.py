"""What one Spark task of an import does: the rows and other files that one HDF5 file brings."""

from types import SimpleNamespace

from sparkneuro.data import store
from sparkneuro.data.bids import run_key
from sparkneuro.data.block import block_path, open_block
from sparkneuro.data.hdf5_table import open_run, read_contents
from sparkneuro.errors import FormatError


def import_marker(number):
    """Name the file that says that a source has been imported.

    Parameters
    ----------
    number : int
        Of the source.

    Returns
    -------
    name : str
        Relative to the table.
    """
    return f".imported-{number}"


def import_file(job):
    """Write what one exported file holds into the folder of a voxel table, a block of voxels at a time.

    Parameters
    ----------
    job : dict
        `path` of the HDF5 file, `output` (path of the table), `files` (names that are taken from it) and its `number`.

    Returns
    -------
    result : dict
        `n_rows` written.

    Raises
    ------
    FormatError
        When the file is damaged.
    StorageError
        When something cannot be read or written.
    """
    contents = read_contents(job["path"])
    for name in job["files"]:
        store.write_bytes(store.join(job["output"], name), contents.files[name])
    n_rows = sum(_import_run(job, contents.metadata, run) for run in contents.metadata["runs"])
    store.write_bytes(store.join(job["output"], import_marker(job["number"])), b"")
    return {"n_rows": n_rows}


def _import_run(job, metadata, run):
    labels = SimpleNamespace(**{name: run[name] for name in ("subject", "session", "task", "run")})
    key, n_rows = run_key(labels.subject, labels.session, labels.task, labels.run), 0
    with open_run(job["path"], key, run["n_scans"], metadata["n_voxels"], metadata["block_size"]) as blocks:
        for block, (voxel, series) in enumerate(blocks):
            with open_block(block_path(job["output"], labels, block), labels) as append:
                append(voxel, series)
            n_rows += len(voxel)
    if n_rows != run["n_voxels"]:
        rows = f"run {key} has {n_rows} rows, its metadata say {run['n_voxels']}"
        raise FormatError(f"{job['path']}: {rows}; export the table again.")
    return n_rows
