"""The BOLD runs that an ingest shall read, found and checked before any data is touched."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache, cached_property, partial

from sparkneuro.data import bids, hcp, row_space, store
from sparkneuro.data.confounds_table import read_confounds
from sparkneuro.data.index.bids_filter import BidsFilter, describe_unmatched
from sparkneuro.data.index.bids_index_file import read_index
from sparkneuro.data.index.bids_selection import select_files
from sparkneuro.data.recordings.recording import open_recording
from sparkneuro.errors import FormatError, SettingsError

INDEX = ".parquet"
EXTENSIONS = tuple(ending.removeprefix("_bold") for ending in bids.BOLD_ENDINGS)

READERS = 16
"""Files whose headers are read at once."""

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
        (x, y, z), or (n_rows,) where rows have no grid.
    affine : tuple of tuple of float
        From voxel indices to mm, (4, 4); () where rows have no grid.
    n_scans : int
        Scans.
    t_r : float
        Repetition time (s).
    size, modified : int
        Bytes of the file as stored, and the time of its last change (ns).
    rows : str
        What a row of the file is: "voxels", "grayordinates" or "series".
    preprocessed : bool
        Whether its name says that a pipeline has been over it (fMRIPrep's ``desc-``, or the HCP's layout).
    brain_mask : str
        Path of the mask that lies beside a preprocessed run; "" where there is none.
    confounds : str
        Path of its confounds table; "" where none is wanted.
    origin : str
        Address that the file is fetched from when it is needed; "" where `path` is the file.
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
    rows: str = row_space.VOXELS
    preprocessed: bool = False
    brain_mask: str = ""
    confounds: str = ""
    origin: str = ""

    @cached_property
    def key(self):
        """Name of the run, e.g. ``sub-01_task-rest``."""
        return bids.run_key(self.subject, self.session, self.task, self.run)

    def read_states(self):
        """Look up the files that the run's rows are made from.

        Returns
        -------
        states : dict of str to dict
            ``path``, ``size`` (bytes) and ``modified`` (ns) of the ``recording``, and of the ``confounds`` and their ``sidecar``
            where used; of a run that is fetched, of the recording alone.
        """
        states = {"recording": {"path": self.origin or self.path, "size": self.size, "modified": self.modified}}
        if not self.confounds or self.origin:
            return states
        for role, path in (("confounds", self.confounds), ("sidecar", self.confounds.removesuffix(".tsv") + ".json")):
            if role == "confounds" or store.exists(path):
                size, modified = store.stat(path)
                states[role] = {"path": path, "size": size, "modified": modified}
        return states

    def to_dict(self):
        """Return the fields as plain values, for JSON.

        Returns
        -------
        fields : dict
            All fields by name.
        """
        return asdict(self)


def find_runs(sources, bids_filter=None, t_r=None, confounds=(), need_confounds=False):
    """Find the BOLD runs of folders and files, and check them by their headers.

    Parameters
    ----------
    sources : sequence of str
        BIDS-named folders, indexes of such (.parquet), or files.
    bids_filter : BidsFilter or None
        Which of them; None takes all.
    t_r : float or None
        Repetition time (s) of every run; None reads it from sidecar or header.
    confounds : sequence of str
        Columns that every run's confounds table must have.
    need_confounds : bool
        Whether every run must have such a table, whatever its columns.

    Returns
    -------
    runs : list of SourceRun
        Sorted by key. Their grids may differ.

    Raises
    ------
    FormatError
        When a file is not what it should be, or two files are the same run.
    SettingsError
        When the filter leaves nothing, or selects by a label that no file has.
    """
    seen = {}
    sources = [str(source) for source in sources]
    indexed = _read_indexes([source for source in sources if source.endswith(INDEX)])
    folders = [source for source in sources if not source.endswith(INDEX)]
    paths = choose_files([*bids.find_bold(folders), *indexed], bids_filter or BidsFilter())
    for path in paths:
        if store.is_local(path) and os.path.islink(path) and not os.path.exists(path):
            raise FormatError(f"{path}: this is a link whose content is not here; get it with 'datalad get'.")
        key = bids.run_key(**bids.name_run(path))
        if key in seen:
            remedy = "choose with --space, --task-id or --bids-filter-file, or list the files"
            raise FormatError(f"{path} and {seen[key]} are both run {key}; {remedy}.")
        seen[key] = path
    listing = cache(store.list_files)
    repetition_times = [indexed.get(path) if t_r is None else t_r for path in paths]
    inspect = partial(inspect_run, confounds=confounds, need_confounds=need_confounds, list_files=listing)
    with ThreadPoolExecutor(READERS) as pool:  # headers in a bucket are a request each
        return sorted(pool.map(inspect, paths, repetition_times), key=lambda run: run.key)


def _read_indexes(indexes):
    """BOLD files of indexes, and the repetition time that their sidecars tell (s), or None."""
    files = [file for index in indexes for file in select_files(read_index(index), BidsFilter(), extensions=EXTENSIONS)]
    return {
        file.path: None if file.repetition_time is None else check_t_r(file.path, file.repetition_time) for file in files
    }  # fmt: skip


def choose_files(paths, bids_filter):
    """Keep the files that a filter wants.

    Parameters
    ----------
    paths : sequence of str
        BOLD files.
    bids_filter : BidsFilter
        Which of them.

    Returns
    -------
    chosen : list of str
        Those that are wanted.

    Raises
    ------
    SettingsError
        When nothing is left, or a label selects nothing.
    """
    entities = [_entities(path) for path in paths]
    unmatched = describe_unmatched(bids_filter, entities)
    if unmatched:
        raise SettingsError(f"{unmatched}.")
    chosen = [path for path, known in zip(paths, entities, strict=True) if bids_filter.matches(known, "bold")]
    if not chosen:
        raise SettingsError("no BOLD file meets all filters together; leave some of them away.")
    return chosen


def _entities(path):
    """Entities of a name; a file that is no BIDS file is known by the subject that it is given."""
    return {"sub": bids.name_run(path)["subject"], **bids.parse_name(path)[0]}


def inspect_run(path, t_r=None, confounds=(), need_confounds=False, list_files=store.list_files, local=None):
    """Describe one BOLD file by its header and what lies beside it.

    Parameters
    ----------
    path : str
        Path or URI of the file, or where it would be if it were kept.
    t_r, confounds, need_confounds
        As `find_runs` takes them.
    list_files : callable
        How a folder is listed.
    local : str or None
        Where the file is for now; None for `path`.

    Returns
    -------
    run : SourceRun
        The run.

    Raises
    ------
    FormatError
        When the file, its sidecar or its confounds are not what they should be.
    """
    recording = open_recording(local or path)
    entities = bids.parse_name(path)[0]
    table = bids.find_confounds(path, list_files) if confounds or need_confounds else ""
    if table:
        read_confounds(table, confounds, recording.n_scans)
    size, modified = store.stat(local or path)
    preprocessed = "desc" in entities or hcp.parse_hcp_name(path) is not None
    return SourceRun(
        path=path, **bids.name_run(path), space=entities.get("space", "native"), shape=tuple(recording.shape),
        affine=() if recording.affine is None else tuple(map(tuple, recording.affine.tolist())), n_scans=recording.n_scans,
        t_r=find_t_r(path, recording.t_r, list_files) if t_r is None else t_r, size=size, modified=modified, rows=recording.rows,
        preprocessed=preprocessed,
        brain_mask=bids.find_brain_mask(path, list_files) if preprocessed else "", confounds=table,
    )


def find_t_r(path, header_t_r, list_files=store.list_files):
    """Tell a run's repetition time: the sidecar's, else the header's.

    Parameters
    ----------
    path : str
        The BOLD file.
    header_t_r : float or None
        What its header says (s).
    list_files : callable
        How a folder is listed.

    Returns
    -------
    t_r : float
        Repetition time (s).

    Raises
    ------
    FormatError
        When it is missing, not positive, or in milliseconds.
    """
    stated = bids.read_sidecar(path, list_files).get("RepetitionTime", header_t_r)
    if stated is None:
        missing = "the repetition time is missing or 0 in the header, and no sidecar gives it"
        raise FormatError(f"{path}: {missing}; give it with --t-r SECONDS.")
    return check_t_r(path, stated)


def check_t_r(path, stated):
    """Return a repetition time when it makes sense.

    Parameters
    ----------
    path : str
        The BOLD file.
    stated : object
        What is said of it.

    Returns
    -------
    t_r : float
        Repetition time (s).

    Raises
    ------
    FormatError
        When it is no number, not positive, or in milliseconds.
    """
    if isinstance(stated, bool) or not isinstance(stated, (int, float)) or not 0 < stated <= LONGEST_T_R:
        expected = f"the repetition time must be above 0 and at most {LONGEST_T_R:g} s"
        raise FormatError(f"{path}: {expected}; got {stated!r}; give it with --t-r SECONDS.")
    return float(stated)
