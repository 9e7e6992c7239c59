"""The BOLD runs that an ingest shall read, found and checked before any data is touched."""

from dataclasses import asdict, dataclass
from functools import cached_property

from sparkneuro.data import bids, store
from sparkneuro.data.nifti import check_bold, check_grid, read_header
from sparkneuro.errors import FormatError, SettingsError

LONGEST_T_R = 60.0
"""Above this (s) a TR is taken for one given in milliseconds."""


@dataclass(frozen=True)
class SourceRun:
    """One BOLD file, known by its header and its sidecar.

    Parameters
    ----------
    path : str
        Path or URI of the file.
    subject, session, task, run : str
        Labels; "" where the name has none.
    space : str
        BIDS space; "native" where the name has none.
    shape : tuple of int
        (x, y, z).
    affine : tuple of tuple of float
        From voxel indices to mm, (4, 4).
    n_scans : int
        Scans.
    t_r : float
        Repetition time (s).
    size, modified : int
        Bytes of the file as stored, and the time of its last change (ns).
    confounds : str
        Path of its confounds table; "" where none is wanted.
    """

    path: str
    subject: str
    session: str
    task: str
    run: str
    space: str
    shape: tuple
    affine: tuple
    n_scans: int
    t_r: float
    size: int
    modified: int
    confounds: str = ""

    @cached_property
    def key(self):
        """Name of the run, e.g. ``sub-01_task-rest``."""
        return bids.run_key(self.subject, self.session, self.task, self.run)

    def to_dict(self):
        """Return the fields as plain values, for JSON.

        Returns
        -------
        fields : dict
            All fields by name.
        """
        return asdict(self)


def find_runs(sources, subjects=(), tasks=(), space=None, t_r=None, confounds=()):
    """Find the BOLD runs of folders and files, and check them by their headers.

    Parameters
    ----------
    sources : sequence of str
        BIDS-named folders, or files.
    subjects, tasks : sequence of str
        Labels to keep; empty keeps all.
    space : str or None
        Space to keep, e.g. ``MNI152NLin2009cAsym``; None keeps all.
    t_r : float or None
        Repetition time (s) of every run; None reads it from sidecar or header.
    confounds : sequence of str
        Columns that every run's confounds table must have; empty looks for no table.

    Returns
    -------
    runs : list of SourceRun
        Sorted by key; all on one grid.

    Raises
    ------
    FormatError
        When a file is not what it should be, two files are the same run, or grids differ.
    """
    paths = [path for path in bids.find_bold(sources) if _is_wanted(path, subjects, tasks, space)]
    if not paths:
        raise SettingsError("no BOLD file is left after --subjects, --tasks and --space.")
    runs, seen = [], {}
    for path in paths:
        run = _inspect(path, t_r, confounds)
        if run.key in seen:
            remedy = "choose with --space or --tasks, or list the files"
            raise FormatError(f"{path} and {seen[run.key]} are both run {run.key}; {remedy}.")
        seen[run.key] = path
        runs.append(run)
        check_grid(read_header(path), runs[0].shape, runs[0].affine, other=runs[0].path)
    return sorted(runs, key=lambda run: run.key)


def _is_wanted(path, subjects, tasks, space):
    labels, entities = bids.name_run(path), bids.parse_name(path)[0]
    plain = {label.removeprefix("sub-") for label in subjects}
    return (
        (not plain or labels["subject"] in plain)
        and (not tasks or labels["task"] in {label.removeprefix("task-") for label in tasks})
        and (space is None or entities.get("space", "native") == space)
    )


def _inspect(path, t_r, confounds):
    header = check_bold(read_header(path))
    table = bids.find_confounds(path) if confounds else ""
    if table:
        bids.read_confounds(table, confounds, header.shape[3])
    size, modified = store.stat(path)
    return SourceRun(
        path=path, **bids.name_run(path), space=bids.parse_name(path)[0].get("space", "native"),
        shape=header.shape[:3], affine=tuple(map(tuple, header.affine.tolist())), n_scans=header.shape[3],
        t_r=find_t_r(path, header.t_r) if t_r is None else t_r, size=size, modified=modified, confounds=table,
    )


def find_t_r(path, header_t_r):
    """Tell a run's repetition time: the sidecar's, else the header's.

    Parameters
    ----------
    path : str
        The BOLD file.
    header_t_r : float or None
        What its header says (s).

    Returns
    -------
    t_r : float
        Repetition time (s).

    Raises
    ------
    FormatError
        When it is missing, not positive, or in milliseconds.
    """
    stated = bids.read_sidecar(path).get("RepetitionTime", header_t_r)
    if stated is None:
        missing = "the repetition time is missing or 0 in the header, and no sidecar gives it"
        raise FormatError(f"{path}: {missing}; give it with --t-r SECONDS.")
    if isinstance(stated, bool) or not isinstance(stated, (int, float)) or not 0 < stated <= LONGEST_T_R:
        expected = f"the repetition time must be above 0 and at most {LONGEST_T_R:g} s"
        raise FormatError(f"{path}: {expected}; got {stated!r}; give it with --t-r SECONDS.")
    return float(stated)
