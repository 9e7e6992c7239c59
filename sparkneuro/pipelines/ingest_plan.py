"""What an ingest has to do: sources checked by their headers, settings compared with the table's, and what runs are missing."""

import hashlib
import json
from dataclasses import dataclass

import numpy as np

from sparkneuro.data import row_space, store
from sparkneuro.data.index.bids_filter import make_filter
from sparkneuro.data.nifti import check_grid, read_header
from sparkneuro.data.receipts import RECEIPTS, read_recipe
from sparkneuro.data.runs import SourceRun, find_runs
from sparkneuro.errors import FormatError, SettingsError
from sparkneuro.pipelines.ingest_confounds import check_denoising
from sparkneuro.pipelines.ingest_images import read_labels, read_mask
from sparkneuro.pipelines.ingest_missing import find_missing
from sparkneuro.pipelines.ingest_stream import Remote, list_remote_runs
from sparkneuro.validation import check_number

MASKS = "_masks"


@dataclass(frozen=True, eq=False)
class Plan:
    """What an ingest has to do.

    Parameters
    ----------
    table : str
        Path or URI of the voxel table.
    sources : tuple of SourceRun
        All runs of the sources, checked.
    missing : tuple of SourceRun
        Those of them that the table lacks, or that may have changed.
    doubtful : frozenset of str
        Keys of those of the missing whose rows are there, but whose files have another size or time: their content decides.
    recipe : dict
        Rows, grid, block size and settings of the table.
    mask : ndarray of shape (x, y, z), bool, or None
        The mask file's voxels on the runs' grid; None where there is none.
    parcels : tuple of (ndarray of shape (x, y, z), list of (int, str)) or None
        Row numbers of a labels image, and value and name of each row; None where rows are no parcels.
    remote : Remote or None
        What is to be fetched; None where files are read where they lie.
    t_r : float or None
        Repetition time (s) of every run; None takes that of each.
    """

    table: str
    sources: tuple[SourceRun, ...]
    missing: tuple[SourceRun, ...]
    doubtful: frozenset
    recipe: dict
    mask: np.ndarray | None
    parcels: tuple | None
    remote: Remote | None = None
    t_r: float | None = None

    def own_mask(self, source):
        """Tell where the mask of a run is when it is not the table's.

        Parameters
        ----------
        source : SourceRun
            The run.

        Returns
        -------
        path : str
            Path or URI of its subject's mask; "" where the table's mask is for all.
        """
        by_subject = self.recipe["rows"] == row_space.VOXELS and self.recipe["settings"]["mask"] == "subject"
        return subject_mask(self.table, source.subject) if by_subject else ""


    def make_job(self, source):
        """Describe the ingest of one run as plain values.

        Parameters
        ----------
        source : SourceRun
            The run.

        Returns
        -------
        job : dict
            What `sparkneuro.pipelines.ingest_task.ingest_run` takes, or `ingest_stream.ingest_remote_run`.
        """
        fetched = {} if self.remote is None else {"entry": self.remote.runs[source.key], "t_r": self.t_r}
        return {
            **fetched,
            "table": self.table,
            "source": source.to_dict(),
            "mask": self.own_mask(source),
            "rows": self.recipe["rows"],
            "shape": self.recipe["shape"],
            "affine": self.recipe["affine"],
            "block_size": self.recipe["block_size"],
            "recipe": self.recipe["settings"],
            "doubtful": source.key in self.doubtful,
        }


def subject_mask(table, subject):
    """Tell where a subject's mask is.

    Parameters
    ----------
    table : str
        Path or URI of the voxel table.
    subject : str
        Label.

    Returns
    -------
    path : str
        Path or URI.
    """
    return store.join(table, MASKS, f"sub-{subject}.nii.gz")


def make_plan(settings):
    """Check the sources and settings and find out what is missing.

    Parameters
    ----------
    settings : sparkneuro.pipelines.ingest.Settings
        The settings.

    Returns
    -------
    plan : Plan
        What is to be done.

    Raises
    ------
    SparkneuroError
        When an input or a setting is wrong. Nothing has been written.
    """
    check_settings(settings)
    table = settings.output.rstrip("/")
    wanted = make_filter(
        settings.participant_label, settings.session_id, settings.task_id, settings.run, settings.space, settings.bids_filter_file
    )
    sources, remote = _find_sources(settings, wanted)
    rows = _find_kind(settings, sources)
    mask, affine = (None, sources[0].affine) if settings.mask in ("group", "subject") else read_mask(settings.mask, sources[0])
    parcels = read_labels(settings.labels) if settings.labels else None
    if rows != row_space.PARCELS and remote is None:
        _check_one_space(sources)
    shape = sources[0].shape if mask is None else mask.shape
    grid = (shape, affine) if parcels is None else (parcels[0].shape, parcels[1])
    recipe = _write_down(settings, sources, rows, grid, mask, parcels)
    earlier = read_earlier(table)
    missing, doubtful = sources, []
    if earlier:
        _compare(table, earlier, recipe)
        recipe = {"rows": row_space.VOXELS, **earlier}
        missing, doubtful = find_missing(table, sources, recipe)
        _check_subjects(table, missing, recipe)
    kept = None if parcels is None else (parcels[0], parcels[2])
    return Plan(
        table, tuple(sources), tuple(missing), frozenset(doubtful), recipe, mask, kept, remote, settings.t_r
    )  # fmt: skip


def _find_sources(settings, wanted):
    """All runs; and of those that lie elsewhere, what is to be fetched."""
    if settings.discard_raw:
        return list_remote_runs(settings, wanted)
    paths = [store.make_absolute(source) for source in settings.sources]
    sources = find_runs(paths, wanted, settings.t_r, settings.confounds, bool(settings.denoise))
    _check_cut_off(settings.high_pass, sources)
    check_denoising(settings, sources)
    return sources, None


def raise_first(failures, noun="run"):
    """Raise the first of several errors, saying how many more there are.

    Parameters
    ----------
    failures : list of SparkneuroError
        Errors of tasks; may be empty.
    noun : str
        What a task works on.
    """
    if failures:
        more = len(failures) - 1
        raise failures[0].__class__(f"{failures[0]}" + (f" ({more} more {noun}{'s' * (more > 1)} failed.)" if more else ""))


def check_settings(settings):
    """Check the settings by themselves.

    Parameters
    ----------
    settings : sparkneuro.pipelines.ingest.Settings
        The settings.

    Raises
    ------
    SettingsError
        When one makes no sense, or two do not go together.
    """
    if not settings.output:
        raise SettingsError("output is missing; name the voxel table to make with --output, e.g. --output rest.voxels.")
    check_number("block_size", settings.block_size, minimum=1, integer=True)
    if settings.t_r is not None:
        check_number("t_r", settings.t_r, minimum=0, maximum=60, exclusive=True)
    if settings.smoothing_fwhm is not None:
        check_number("smoothing_fwhm", settings.smoothing_fwhm, minimum=0, maximum=100, exclusive=True)
    if settings.denoise and settings.high_pass is not None:
        raise SettingsError(f"high_pass: the strategy {settings.denoise} removes slow drifts itself; leave --high-pass away.")


def _check_cut_off(high_pass, sources):
    from sparkneuro.preprocess.clean import check_high_pass

    for t_r in {source.t_r for source in sources} if high_pass is not None else ():
        check_high_pass(high_pass, t_r)


def _find_kind(settings, sources):
    """Tell what the rows of the table are; options that these rows cannot have are refused."""
    first = sources[0]
    for source in sources:
        if source.rows != first.rows:
            kinds = f"{source.path} holds {source.rows}, {first.path} holds {first.rows}"
            raise SettingsError(f"{kinds}; one table has one kind of rows: choose with --space, or list the files.")
    if settings.labels and settings.mask != "group":
        raise SettingsError("mask: parcels are all of their voxels that can be used; leave --mask away, or cut the labels image.")
    if first.rows == row_space.VOXELS:
        return row_space.PARCELS if settings.labels else row_space.VOXELS
    for name in ("labels", "smoothing_fwhm"):
        if getattr(settings, name):
            raise SettingsError(f"{name} is for images of voxels; {first.path} holds {first.rows}.")
    if settings.mask != "group":
        raise SettingsError(f"mask is for images of voxels; {first.path} holds {first.rows}, all of which are taken.")
    return first.rows


def _check_one_space(sources):
    first = sources[0]
    remedy = "take parcels with --labels, or make a table of each grid and join them with 'sparkneuro merge'"
    for source in sources[1:]:
        if first.affine:
            check_grid(read_header(source.path), first.shape, first.affine, other=first.path, remedy=remedy)
        elif source.shape != first.shape:
            raise FormatError(f"{source.path} has {source.shape[0]} rows, {first.path} {first.shape[0]}; they must be the same.")


def _write_down(settings, sources, rows, grid, mask, parcels):
    spaces = sorted({source.space for source in sources})
    return {
        "rows": rows, "space": spaces[0] if len(spaces) == 1 else "mixed",
        "shape": list(map(int, grid[0])), "affine": [list(map(float, row)) for row in grid[1]], "block_size": settings.block_size,
        "settings": {
            "mask": settings.mask if mask is None else _fingerprint(np.packbits(mask)),
            "labels": None if parcels is None else _fingerprint(parcels[0], parcels[2]),
            "smoothing_fwhm": settings.smoothing_fwhm, "detrend": settings.detrend, "high_pass": settings.high_pass,
            "confounds": list(settings.confounds), "denoise": settings.denoise, "standardize": settings.standardize,
            "t_r": settings.t_r,
        },
    }  # fmt: skip


def _fingerprint(array, names=()):
    content = np.ascontiguousarray(array).tobytes() + json.dumps(names).encode() * bool(names)
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def read_earlier(table):
    """Read the recipe of a table that is there, finished or not.

    Parameters
    ----------
    table : str
        Path or URI.

    Returns
    -------
    recipe : dict or None
        None for a new table.

    Raises
    ------
    SettingsError
        When something else is there.
    """
    earlier = read_recipe(table)
    if earlier is None and store.exists(table):
        if not store.is_folder(table) or any(not name.startswith(f"{RECEIPTS}/.") for name in store.list_files(table, True)):
            raise SettingsError(f"{table}: this is something else than a voxel table; choose another --output.")
    if earlier is not None and "settings" not in earlier:
        raise SettingsError(f"{table}: this voxel table was made by another job than an ingest; choose another --output.")
    return earlier


def _compare(table, earlier, recipe):
    old, new = ({"rows": row_space.VOXELS, **side, **side["settings"]} for side in (earlier, recipe))
    for name in ("rows", "space", *recipe["settings"], "block_size"):
        if old.get(name) != new[name] and (name, old.get(name)) != ("space", "mixed"):
            begun = f"this table was begun with {name} {old.get(name)}, not {new[name]}"
            raise SettingsError(f"{table}: {begun}; give the same setting, or another --output.")
    if earlier["shape"] != recipe["shape"] or not np.allclose(earlier["affine"], recipe["affine"], rtol=0, atol=1e-3):
        raise FormatError(f"{table}: this table lies on another grid than the runs; resample them, or choose another --output.")


def _check_subjects(table, missing, recipe):
    by_subject = recipe["rows"] == row_space.VOXELS and recipe["settings"]["mask"] == "subject"
    if not by_subject or not store.exists(store.join(table, row_space.MASK)):
        return
    for source in missing:
        if not store.exists(subject_mask(table, source.subject)):
            raise SettingsError(
                f"{table}: its mask is the union of its subjects' masks, so subject {source.subject} cannot be added; "
                "ingest all subjects into another --output."
            )
