"""The voxel table: a folder of Parquet files in which a row is one voxel's time series in one run.

    NAME.voxels/
      voxel_table.json      what it holds; written last, so a folder without it is not a table (yet)
      mask.nii.gz           which voxels; a voxel's number is its place in ``volume[mask]`` (of parcels: parcels.nii.gz and
                            parcels.tsv; of grayordinates: grayordinates.dscalar.nii)
      subject=01/block=00000/SESSION_TASK_RUN.parquet      columns session, task, run, voxel (int32), series (list<float32>)
      _runs/                a receipt, a tSNR map and measures of quality for each run that is done

The mask is cut into blocks of `block_size` voxels; a run has one file a block. Any Parquet reader opens
``NAME.voxels/subject=*``.
"""

import json
from dataclasses import asdict, dataclass, field, fields

import numpy as np

from sparkneuro.data import row_space, store
from sparkneuro.data.bids import run_key
from sparkneuro.data.block import block_path, read_block, write_block
from sparkneuro.data.nifti import read_volume
from sparkneuro.data.receipts import RECEIPTS, receipt_path
from sparkneuro.errors import FormatError

FORMAT = 1
__all__ = ["Run", "VoxelTable", "write_block"]

METADATA = "voxel_table.json"


@dataclass(frozen=True)
class Run:
    """One run of a voxel table.

    Parameters
    ----------
    subject, session, task, run : str
        Labels; "" where the name has none.
    n_scans : int
        Length of `series` in this table.
    t_r : float
        Repetition time (s).
    source : str
        Path or URI of the file it came from.
    sha256 : str
        Of that file.
    n_voxels : int
        Rows.
    n_constant, n_non_finite : int
        Voxels of the mask that have no row because they never change, or hold NaN or infinity.
    tsnr_median : float or None
        Median temporal signal-to-noise ratio of the rows, before cleaning.
    sample_mask : list of (int, int) or None
        Scans of the source that `series` holds, first and last of each stretch, where scrubbing has removed others; None where
        it holds all.
    n_source_scans : int or None
        Scans of the source, where some were removed.
    n_uncovered : int
        In a cohort: voxels of the mask that have no row because the run's own data set has none there.
    """

    subject: str
    session: str
    task: str
    run: str
    n_scans: int
    t_r: float
    source: str
    sha256: str
    n_voxels: int
    n_constant: int = 0
    n_non_finite: int = 0
    tsnr_median: float | None = None
    sample_mask: list | None = None
    n_source_scans: int | None = None
    n_uncovered: int = 0

    @property
    def key(self):
        """Name of the run, e.g. ``sub-01_task-rest``."""
        return run_key(self.subject, self.session, self.task, self.run)


@dataclass(frozen=True)
class VoxelTable:
    """What a voxel table holds, without its rows.

    Parameters
    ----------
    path : str
        Path or URI of the folder.
    space : str
        BIDS space of the grid.
    affine : list of list of float
        From voxel indices to mm, (4, 4); [] where rows have no grid.
    shape : tuple of int
        (x, y, z), or (n_rows,) where rows have no grid.
    runs : tuple of Run
        Sorted by key.
    block_size : int
        Voxels of a block; the last one may have fewer.
    n_voxels : int
        Voxels in the mask, or whatever else its rows are.
    steps : tuple of str
        What was done to the series, in order.
    units : str
        Of the series: "z-score", "source unit" or "feature".
    settings : dict
        Settings of the job that made it.
    rows : str
        What a row is: "voxels", "parcels", "grayordinates" or "series".
    """

    path: str
    space: str
    affine: list
    shape: tuple
    runs: tuple
    block_size: int
    n_voxels: int
    steps: tuple
    units: str
    settings: dict = field(default_factory=dict)
    rows: str = row_space.VOXELS

    @classmethod
    def open(cls, path):
        """Read the metadata of a table.

        Parameters
        ----------
        path : str
            Path or URI of the folder.

        Returns
        -------
        table : VoxelTable
            The table.

        Raises
        ------
        FormatError
            When it is missing, not a voxel table, unfinished, or of a newer format.
        """
        path = str(path)
        _refuse_other_folders(path)
        try:
            content = json.loads(store.read_bytes(store.join(path, METADATA)))
            if content["format"] > FORMAT:
                newer = f"this voxel table has format {content['format']}, and this sparkneuro reads up to {FORMAT}"
                raise FormatError(f"{path}: {newer}; update sparkneuro.")
            values = {name.name: content[name.name] for name in fields(cls) if name.name not in ("path", "rows")}
            values["rows"] = content.get("rows", row_space.VOXELS)
            runs = tuple(Run(**run) for run in values["runs"])
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(f"{path}: {METADATA} is damaged ({error!r}); make the table again.") from error
        return cls(path, **{**values, "runs": runs, "shape": tuple(values["shape"]), "steps": tuple(values["steps"])})

    @property
    def n_blocks(self):
        """Blocks of the mask, the last partial one included."""
        return -(-self.n_voxels // self.block_size)

    def voxels_of(self, block):
        """Tell which voxels a block covers, excluded ones included.

        Parameters
        ----------
        block : int
            Number of the block.

        Returns
        -------
        voxels : range
            Numbers of voxels.
        """
        return range(block * self.block_size, min(self.n_voxels, (block + 1) * self.block_size))

    @property
    def has_grid(self):
        """Whether rows lie in a volume; maps of the others can only be written by row."""
        return self.rows in (row_space.VOXELS, row_space.PARCELS)

    def row_numbers(self):
        """Read where the rows are.

        Returns
        -------
        numbers : ndarray of shape (x, y, z), int32
            0 outside; else 1 + the row: the voxel's number, or the parcel's.

        Raises
        ------
        FormatError
            When rows have no grid.
        """
        if not self.has_grid:
            raise FormatError(f"{self.path}: a row is one of {self.n_voxels} {self.rows}, which have no grid of voxels.")
        volume = read_volume(store.join(self.path, row_space.FILES[self.rows][0]))[0]
        return row_space.number_voxels(volume != 0) if self.rows == row_space.VOXELS else volume.astype(np.int32)

    def mask(self):
        """Read the mask.

        Returns
        -------
        mask : ndarray of shape (x, y, z), bool
            The table's voxels, or those of its parcels.

        Raises
        ------
        FormatError
            When rows have no grid.
        """
        return self.row_numbers() > 0

    def find_run(self, key):
        """Look a run up by its key.

        Parameters
        ----------
        key : str
            E.g. ``sub-01_task-rest``.

        Returns
        -------
        run : Run
            The run.

        Raises
        ------
        FormatError
            When the table has no such run.
        """
        for run in self.runs:
            if run.key == key:
                return run
        raise FormatError(f"{self.path}: there is no run {key}; it has {', '.join(run.key for run in self.runs[:5])}.")

    def block_path(self, run, block):
        """Tell where the rows of a run and block are.

        Parameters
        ----------
        run : Run
            The run.
        block : int
            Number of the block.

        Returns
        -------
        path : str
            Path or URI of the Parquet file.
        """
        return block_path(self.path, run, block)

    def read_block(self, run, block):
        """Read the rows of a run and block.

        Parameters
        ----------
        run : Run
            The run.
        block : int
            Number of the block.

        Returns
        -------
        voxel : ndarray of shape (n,), int32
            Numbers of the voxels, ascending; excluded ones are missing.
        series : ndarray of shape (n, n_scans), float32
            Their series: a read-only view on the Arrow buffer.
        """
        return read_block(self.block_path(run, block), run.n_scans)

    def tsnr_map(self, run):
        """Read a run's map of temporal signal-to-noise ratio.

        Parameters
        ----------
        run : Run
            The run.

        Returns
        -------
        tsnr : ndarray of shape (x, y, z), float32, or None
            Mean over standard deviation of the series before cleaning, 0 where there is no row; None where there is no map.
        """
        path = receipt_path(self.path, run.key, "_tsnr.nii.gz")
        return read_volume(path)[0] if store.exists(path) else None

    def save(self):
        """Write the metadata, which makes the folder a table: the last thing to do."""
        content = {"format": FORMAT, **asdict(self)}
        del content["path"]
        store.write_bytes(store.join(self.path, METADATA), json.dumps(content, indent=1).encode())


def _refuse_other_folders(path):
    if store.exists(store.join(path, METADATA)):
        return
    if store.exists(store.join(path, RECEIPTS)):
        raise FormatError(f"{path}: the job that makes this voxel table has not finished; run it again.")
    if not store.exists(path):
        raise FormatError(f"{path}: there is no such voxel table.")
    raise FormatError(f"{path}: this is not a voxel table: it has no {METADATA}; make one with 'sparkneuro ingest'.")
