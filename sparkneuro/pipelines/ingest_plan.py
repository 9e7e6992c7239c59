"""What an ingest has to do: sources checked by their headers, settings compared with the table's, and what runs are missing."""

import hashlib
from dataclasses import dataclass

import numpy as np

from sparkneuro.data import store
from sparkneuro.data.block import block_path
from sparkneuro.data.nifti import check_grid, read_header, read_volume
from sparkneuro.data.receipts import list_receipts, read_receipt, read_recipe
from sparkneuro.data.runs import SourceRun, find_runs
from sparkneuro.data.voxel_table import MASK, Run, VoxelTable
from sparkneuro.errors import FormatError, SettingsError
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
        Those of them that the table lacks, or that have changed.
    recipe : dict
        Grid, block size and settings of the table.
    mask : ndarray of shape (x, y, z), bool, or None
        The mask file's voxels; None where the mask is to be computed.
    """

    table: str
    sources: tuple[SourceRun, ...]
    missing: tuple[SourceRun, ...]
    recipe: dict
    mask: np.ndarray | None

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
        return subject_mask(self.table, source.subject) if self.recipe["settings"]["mask"] == "subject" else ""


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
    _check_settings(settings)
    table = settings.output.rstrip("/")
    sources = find_runs(settings.sources, settings.subjects, settings.tasks, settings.space, settings.t_r, settings.confounds)
    _check_cut_off(settings.high_pass, sources)
    mask = None if settings.mask in ("group", "subject") else read_mask(settings.mask, sources[0])
    recipe = _write_down(settings, sources, mask)
    earlier = _read_earlier(table)
    missing = sources
    if earlier:
        _compare(table, earlier, recipe)
        recipe = earlier
        missing = _find_missing(table, sources)
        _check_subjects(table, missing, recipe)
    return Plan(table, tuple(sources), tuple(missing), recipe, mask)


def read_mask(path, source):
    """Read a mask file and check that it is one for a run.

    Parameters
    ----------
    path : str
        Path or URI of a 3-D NIfTI file.
    source : SourceRun
        A run, for its grid.

    Returns
    -------
    mask : ndarray of shape (x, y, z), bool
        Its voxels.

    Raises
    ------
    FormatError
        When it is no mask, empty, or on another grid.
    """
    if not store.exists(path):
        raise SettingsError(f"mask must be group, subject or a file; there is no file {path}.")
    header = read_header(path)
    if len(header.shape) != 3:
        raise FormatError(f"{path}: a mask is a 3-D image, and this one has shape {header.shape}.")
    check_grid(header, source.shape, source.affine, other=source.path)
    values = np.unique(read_volume(path)[0])
    if len(values) > 2 or (len(values) == 2 and values[0] != 0) or not np.isfinite(values).all():
        raise FormatError(f"{path}: a mask holds 0 and one other value; this image holds {len(values)} values, is it a mask?")
    if not values.any():
        raise FormatError(f"{path}: the mask is empty.")
    return read_volume(path)[0] != 0


def finish(plan):
    """Write the metadata of all runs that have a receipt, which makes the folder a table.

    Parameters
    ----------
    plan : Plan
        What was to be done, and is done now.

    Returns
    -------
    table : VoxelTable
        The finished table.
    """
    runs = tuple(Run(**read_receipt(plan.table, key)["run"]) for key in list_receipts(plan.table))
    recipe, settings = plan.recipe, plan.recipe["settings"]
    n_voxels = int((read_volume(store.join(plan.table, MASK))[0] != 0).sum())
    table = VoxelTable(
        plan.table, recipe["space"], recipe["affine"], tuple(recipe["shape"]), runs, recipe["block_size"], n_voxels,
        _name_steps(settings), "z-score" if settings["standardize"] else "source unit", settings,
    )
    _delete_strays(table)
    table.save()
    return table


def _name_steps(settings):
    steps = {
        "detrend": settings["detrend"], f"high-pass {settings['high_pass']} Hz": settings["high_pass"],
        f"confounds {', '.join(settings['confounds'])}": settings["confounds"], "z-score": settings["standardize"],
    }
    return tuple(name for name, done in steps.items() if done)


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


def _check_settings(settings):
    if not settings.output:
        raise SettingsError("output is missing; name the voxel table to make with --output, e.g. --output rest.voxels.")
    check_number("block_size", settings.block_size, minimum=1, integer=True)
    if settings.t_r is not None:
        check_number("t_r", settings.t_r, minimum=0, maximum=60, exclusive=True)


def _check_cut_off(high_pass, sources):
    from sparkneuro.preprocess.clean import check_high_pass

    for t_r in {source.t_r for source in sources} if high_pass is not None else ():
        check_high_pass(high_pass, t_r)


def _write_down(settings, sources, mask):
    spaces = sorted({source.space for source in sources})
    return {
        "space": spaces[0] if len(spaces) == 1 else "mixed",
        "shape": list(sources[0].shape), "affine": [list(row) for row in sources[0].affine], "block_size": settings.block_size,
        "settings": {
            "mask": settings.mask if mask is None else f"sha256:{hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()}",
            "detrend": settings.detrend, "high_pass": settings.high_pass, "confounds": list(settings.confounds),
            "standardize": settings.standardize, "t_r": settings.t_r,
        },
    }


def _read_earlier(table):
    """Recipe of a table that is there, finished or not; None for a new one."""
    earlier = read_recipe(table)
    if earlier is None and store.exists(table):
        if not store.is_folder(table) or store.list_files(table, recursive=True):
            raise SettingsError(f"{table}: this is something else than a voxel table; choose another --output.")
    if earlier is not None and "settings" not in earlier:
        raise SettingsError(f"{table}: this voxel table was made by another job than an ingest; choose another --output.")
    return earlier


def _compare(table, earlier, recipe):
    old, new = ({**side["settings"], "block_size": side["block_size"]} for side in (earlier, recipe))
    for name, value in new.items():
        if old.get(name) != value:
            begun = f"this table was begun with {name} {old.get(name)}, not {value}"
            raise SettingsError(f"{table}: {begun}; give the same setting, or another --output.")
    if earlier["shape"] != recipe["shape"] or not np.allclose(earlier["affine"], recipe["affine"], rtol=0, atol=1e-3):
        raise FormatError(f"{table}: this table lies on another grid than the runs; resample them, or choose another --output.")


def _find_missing(table, sources):
    done = set(list_receipts(table))
    files = set(store.list_files(table, recursive=True))
    return [source for source in sources if source.key not in done or _has_changed(table, source, files)]


def _has_changed(table, source, files):
    receipt = read_receipt(table, source.key)
    same = receipt["source_size"] == source.size and receipt["source_modified"] == source.modified
    whole = all(block_path("", source, block).lstrip("/") in files for block in range(receipt["n_blocks"]))
    return not (same and whole and MASK in files)


def _check_subjects(table, missing, recipe):
    if recipe["settings"]["mask"] != "subject" or not store.exists(store.join(table, MASK)):
        return
    for source in missing:
        if not store.exists(subject_mask(table, source.subject)):
            raise SettingsError(
                f"{table}: its mask is the union of its subjects' masks, so subject {source.subject} cannot be added; "
                "ingest all subjects into another --output."
            )


def _delete_strays(table):
    """Delete block files of runs that are not in the table, left by an ingest that was killed."""
    ours = {block_path("", run, block).lstrip("/") for run in table.runs for block in range(table.n_blocks)}
    for name in store.list_files(table.path, recursive=True):
        if name.endswith(".parquet") and name not in ours:
            store.delete(store.join(table.path, name))
