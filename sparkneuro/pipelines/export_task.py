"""What one Spark task of an export does: one HDF5 file, and its receipt."""

import json

from sparkneuro.data import store
from sparkneuro.data.hdf5_table import TableContents, write_table
from sparkneuro.data.storage.checksums import hash_file
from sparkneuro.data.storage.local_replacement import open_local_replacement
from sparkneuro.data.voxel_table import METADATA, VoxelTable
from sparkneuro.pipelines.export_plan import receipt_path


def export_file(job):
    """Write one HDF5 file of a voxel table, a block of voxels at a time.

    Parameters
    ----------
    job : dict
        `table` (path), `compression`, and the fields of an `ExportFile`.

    Returns
    -------
    receipt : dict
        `sha256` and `bytes` of the file, `runs` (keys), and `fingerprint`.

    Raises
    ------
    FormatError
        When a file of the table is damaged.
    StorageError
        When there is no room, or the file cannot be written.
    """
    table = VoxelTable.open(job["table"])
    metadata = json.loads(store.read_bytes(store.join(job["table"], METADATA)))
    metadata["runs"] = [metadata["runs"][number] for number in job["run_numbers"]]
    files = {name: store.read_bytes(store.join(job["table"], name)) for name in job["files"]}
    runs = [table.runs[number] for number in job["run_numbers"]]
    with open_local_replacement(job["path"], job["n_bytes"]) as local:
        write_table(local, table, runs, TableContents(metadata, files), job["compression"])
        sha256, n_bytes = hash_file(local), store.stat(local)[0]
    keys = [run.key for run in runs]
    receipt = {"fingerprint": job["fingerprint"], "sha256": sha256, "bytes": n_bytes, "runs": keys}
    store.write_bytes(receipt_path(job["path"]), json.dumps(receipt).encode())
    return receipt
