"""What a merge takes in: voxel tables as they are, and BIDS folders that an ingest makes into voxel tables first."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass

from sparkneuro.data import store
from sparkneuro.data.bids import run_key
from sparkneuro.data.cohort import Dataset
from sparkneuro.data.receipts import RECEIPTS
from sparkneuro.data.row_space import MASK, VOXELS
from sparkneuro.data.voxel_table import METADATA, VoxelTable
from sparkneuro.errors import FormatError, SettingsError

DATASETS = "_datasets"
_CENTRING = ("detrend", "high-pass", "confounds", "z-score")


@dataclass(frozen=True)
class CohortRun:
    """A run of a source, under the name that it has in the cohort.

    Parameters
    ----------
    subject, session, task, run : str
        Labels in the cohort.
    origin : str
        Key of the run in its data set.
    participant : str
        Label of the subject in its data set.
    n_scans : int
        Scans in its data set.
    t_r : float
        Repetition time there (s).
    n_bytes : int
        Size, for the progress bar.
    stamp : str
        Changes when what the run is made from changes.
    """

    subject: str
    session: str
    task: str
    run: str
    origin: str
    participant: str
    n_scans: int
    t_r: float
    n_bytes: int
    stamp: str

    @property
    def key(self):
        """Name of the run in the cohort, e.g. ``sub-ds01sub01_task-rest``."""
        return run_key(self.subject, self.session, self.task, self.run)


@dataclass(frozen=True)
class Source:
    """A data set, known by its metadata or its headers.

    Parameters
    ----------
    dataset : Dataset
        Its names.
    table : str
        Path or URI of its voxel table; that of a BIDS folder is made when it is needed.
    space : str
        BIDS space, "native" where none is named.
    units : str
        Of its series.
    centred : bool
        Whether the mean of each series was removed.
    runs : tuple of CohortRun
        In the order of their keys.
    first_run : str
        File that one of them was made from, or "".
    """

    dataset: Dataset
    table: str
    space: str
    units: str
    centred: bool
    runs: tuple
    first_run: str


def stamp_of(content):
    """Shorten what JSON can hold to a word that changes with it.

    Parameters
    ----------
    content : object
        Anything that JSON can hold.

    Returns
    -------
    stamp : str
        Hexadecimal digits.
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]


def tell_kind(path):
    """Tell what a source is.

    Parameters
    ----------
    path : str
        Path or URI.

    Returns
    -------
    kind : str
        ``voxels`` or ``bids``.

    Raises
    ------
    FormatError
        When there is no such folder.
    """
    if not store.is_folder(path):
        raise FormatError(f"{path}: a source is a voxel table or a BIDS folder; there is no such folder.")
    ours = store.exists(store.join(path, METADATA)) or store.exists(store.join(path, RECEIPTS))
    return "voxels" if ours else "bids"


def look_at(dataset, settings):
    """Read what a merge must know of a data set before it begins.

    Parameters
    ----------
    dataset : Dataset
        Its names.
    settings : sparkneuro.pipelines.merge.Settings
        The settings.

    Returns
    -------
    source : Source
        The data set.

    Raises
    ------
    SparkneuroError
        When it is damaged, unfinished, or cannot be ingested with these settings.
    """
    return _look_at_table(dataset, settings) if dataset.kind == "voxels" else _look_at_bids(dataset, settings)


def describe_table(table):
    """Say of a voxel table what a task must know, which is all but its runs.

    Parameters
    ----------
    table : VoxelTable
        The table.

    Returns
    -------
    fields : dict
        What JSON can hold.
    """
    return {
        "path": table.path, "affine": [list(row) for row in table.affine], "shape": list(table.shape),
        "block_size": table.block_size, "n_voxels": table.n_voxels,
    }


def ingest_settings(dataset, settings):
    """Settings of the ingest that makes a BIDS folder's voxel table.

    Parameters
    ----------
    dataset : Dataset
        The BIDS folder.
    settings : sparkneuro.pipelines.merge.Settings
        Settings of the merge.

    Returns
    -------
    settings : sparkneuro.pipelines.ingest.Settings
        Those of the ingest.
    """
    from sparkneuro.pipelines import ingest

    folder = store.join(store.make_absolute(settings.output), DATASETS)
    name = re.sub("[^0-9A-Za-z]+", "-", f"{dataset.label} {dataset.name}").strip("-")
    return ingest.Settings(
        sources=(dataset.source,), output=store.join(folder, f"{name}.voxels"), mask=settings.dataset_mask,
        detrend=settings.detrend, high_pass=settings.high_pass, standardize=settings.standardize,
        confounds=settings.confounds, space=settings.space,
    )


def _look_at_table(dataset, settings):
    table = VoxelTable.open(dataset.source)
    if table.rows != VOXELS:
        others = f"a cohort is made of voxels, and the rows of this table are {table.rows}"
        raise SettingsError(f"{dataset.source}: {others}; ingest all data sets into one table instead.")
    _refuse_scrubbed(table, settings.t_r)
    if table.units not in ("z-score", "source unit"):
        raise SettingsError(f"{dataset.source}: a cohort is made of BOLD series; this table holds values in unit {table.units}.")
    mask = hashlib.sha256(store.read_bytes(store.join(table.path, MASK))).hexdigest()
    common = [mask, table.affine, table.shape, table.block_size, table.steps, table.units, table.settings]
    runs = tuple(
        CohortRun(
            dataset.subject(run.subject), run.session, run.task, run.run, run.key, run.subject, run.n_scans, run.t_r,
            4 * run.n_scans * run.n_voxels, stamp_of([common, asdict(run)]),
        )
        for run in table.runs
    )  # fmt: skip
    centred = any(step.startswith(_CENTRING) for step in table.steps)
    return Source(dataset, table.path, table.space, table.units, centred, runs, table.runs[0].source if table.runs else "")


def _refuse_scrubbed(table, t_r):
    """Runs that have lost scans cannot be resampled in time: those that are left are not equally far apart."""
    for run in table.runs:
        if run.sample_mask is not None and len(run.sample_mask) > 1 and t_r not in (None, "keep") and float(t_r) != run.t_r:
            scans = f"of run {run.key}, {run.n_scans} of {run.n_source_scans} scans are left, with gaps between them"
            raise SettingsError(f"{table.path}: {scans}: it cannot be resampled in time; ingest it whole, or take --t-r keep.")


def _look_at_bids(dataset, settings):
    from sparkneuro.pipelines.ingest_plan import make_plan

    ingest = ingest_settings(dataset, settings)
    found = make_plan(ingest).sources
    # The mask is that of all runs, so a run is another one when any of them is.
    stamp = stamp_of([[run.key, run.size, run.modified, run.n_scans, run.t_r] for run in found])
    spaces = {run.space for run in found}
    runs = tuple(
        CohortRun(
            dataset.subject(run.subject), run.session, run.task, run.run, run.key, run.subject, run.n_scans, run.t_r,
            run.size, stamp,
        )
        for run in found
    )  # fmt: skip
    units = "z-score" if settings.standardize else "source unit"
    centred = bool(settings.detrend or settings.high_pass or settings.confounds or settings.standardize)
    return Source(dataset, ingest.output, spaces.pop() if len(spaces) == 1 else "mixed", units, centred, runs, found[0].path)
