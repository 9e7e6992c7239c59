"""What a merge has to do: sources and settings checked, names given, and which runs are missing or have changed."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace

from sparkneuro.data import store
from sparkneuro.data.block import block_path
from sparkneuro.data.cohort import Dataset, name_datasets
from sparkneuro.data.nifti import read_header
from sparkneuro.data.receipts import list_receipts, read_receipt, read_recipe
from sparkneuro.data.row_space import MASK
from sparkneuro.errors import FormatError, SettingsError
from sparkneuro.pipelines.merge_agreement import agree_on_t_r, check_units, find_space, read_t_r
from sparkneuro.pipelines.merge_sources import look_at, tell_kind
from sparkneuro.validation import check_choice, check_number

FIRST = "first"
_READERS = 16


@dataclass(frozen=True, eq=False)
class Plan:
    """What a merge has to do.

    Parameters
    ----------
    table : str
        Path or URI of the cohort's voxel table.
    sources : tuple of Source
        The data sets of this command.
    missing : dict of str to tuple of (Source, CohortRun)
        Runs that the table lacks, or that have changed, by key.
    superfluous : tuple of str
        Keys of runs of the table that their data set no longer has.
    recipe : dict
        Settings, space, data sets and, once it is known, grid of the table.
    t_r : float or None
        Repetition time (s) that runs are resampled to; None where they keep theirs.
    design : Design or None
        What ComBat is fitted to; None without harmonisation.
    """

    table: str
    sources: tuple
    missing: dict
    superfluous: tuple
    recipe: dict
    t_r: float | None
    design: object

    @property
    def is_done(self):
        """Whether every run is in the table as it should be."""
        return not self.missing and not self.superfluous

    def stamp(self, run):
        """Tell what a run's receipt must say.

        Parameters
        ----------
        run : CohortRun
            The run.

        Returns
        -------
        stamp : str
            Changes when the run does, or the model that harmonises it.
        """
        return run.stamp if self.design is None else f"{run.stamp}-{self.design.stamp}"


def make_plan(settings):
    """Check sources and settings and find out what is missing.

    Parameters
    ----------
    settings : sparkneuro.pipelines.merge.Settings
        The settings.

    Returns
    -------
    plan : Plan
        What is to be done.

    Raises
    ------
    SparkneuroError
        When a source or a setting is wrong. Nothing has been written.
    """
    _check_settings(settings)
    table = store.make_absolute(settings.output).rstrip("/")
    earlier = _read_earlier(table)
    known = [Dataset(**entry) for entry in earlier["datasets"]] if earlier else []
    sources = _find_sources(settings, table, known)
    space, units = find_space(sources, settings.assume_same_space, earlier), check_units(sources, earlier)
    datasets = dict.fromkeys([*known, *(source.dataset for source in sources)])
    datasets = [asdict(dataset) for dataset in datasets]
    recipe = {"merge": write_down(settings), "space": space, "units": units, "grid": None, "datasets": datasets}
    if earlier:
        _compare(table, earlier, recipe)
        recipe |= {"grid": earlier["grid"], "space": earlier["space"]}
    receipts = read_receipts(table, list_receipts(table))
    labels = {source.dataset.label for source in sources}
    others = {receipt["run"]["t_r"] for receipt in receipts.values() if receipt["dataset"] not in labels}
    t_r = agree_on_t_r(read_t_r(settings.t_r), sources, others)
    plan = Plan(table, tuple(sources), {}, (), recipe, t_r, _make_design(settings, sources, known))
    return _find_missing(plan, receipts)


def write_down(settings):
    """Write down the settings that decide what a cohort's rows are.

    Parameters
    ----------
    settings : sparkneuro.pipelines.merge.Settings
        The settings.

    Returns
    -------
    values : dict
        What JSON can hold; files as hashes of what they say.
    """
    names = (
        "voxel_size", "interpolation", "mask_threshold", "harmonise", "block_size", "dataset_mask", "detrend", "high_pass",
        "standardize", "space",
    )
    values = {name: getattr(settings, name) for name in names}
    values["t_r"] = read_t_r(settings.t_r)
    values |= {name: list(getattr(settings, name)) for name in ("covariates", "training_subjects", "confounds")}
    values["training_subjects"] = [_hash_file(word) for word in values["training_subjects"]]
    values["mask"] = _hash_file(settings.mask) if settings.mask else None
    values["grid"] = settings.grid if settings.grid == FIRST else _describe_grid(settings.grid)
    return values


def read_receipts(table, keys):
    """Read many receipts, several at a time: each is a small file that may be far away.

    Parameters
    ----------
    table : str
        Path or URI of the table.
    keys : sequence of str
        Keys of runs.

    Returns
    -------
    receipts : dict of str to dict
        By key.
    """
    with ThreadPoolExecutor(_READERS) as readers:
        return dict(zip(keys, readers.map(lambda key: read_receipt(table, key), keys), strict=True))


def _check_settings(settings):
    if not settings.output:
        raise SettingsError("output is missing; name the cohort's voxel table with --output, e.g. --output cohort.voxels.")
    from sparkneuro.preprocess.regrid import INTERPOLATIONS

    check_choice("interpolation", settings.interpolation, INTERPOLATIONS)
    check_choice("harmonise", settings.harmonise, (None, "combat"))
    check_number("block_size", settings.block_size, minimum=1, integer=True)
    check_number("mask_threshold", settings.mask_threshold, minimum=0, maximum=1, exclusive=True)
    if settings.voxel_size is not None:
        check_number("voxel_size", settings.voxel_size, minimum=0, maximum=50, exclusive=True)
        if settings.grid != FIRST:
            raise SettingsError("grid and voxel_size both say what the grid is; give one of them.")
    if (settings.covariates or settings.training_subjects) and settings.harmonise is None:
        raise SettingsError("covariates and training_subjects are for --harmonise combat; add it, or leave them out.")
    for name in ("grid", "mask"):
        path = getattr(settings, name)
        if path and path != FIRST and not store.exists(path):
            words = "first or a NIfTI file" if name == "grid" else "a NIfTI file"
            raise SettingsError(f"{name} must be {words}; there is no file {path}.")


def _hash_file(word):
    if not store.exists(word) or store.is_folder(word):
        return word
    return f"sha256:{hashlib.sha256(store.read_bytes(word)).hexdigest()}"


def _describe_grid(path):
    header = read_header(path)
    return {"shape": list(header.shape[:3]), "affine": header.affine.tolist()}


def _read_earlier(table):
    recipe = read_recipe(table)
    if recipe is None and store.exists(table) and (not store.is_folder(table) or store.list_files(table, recursive=True)):
        raise SettingsError(f"{table}: this is something else than a cohort; choose another --output.")
    if recipe is not None and "merge" not in recipe:
        raise SettingsError(f"{table}: this voxel table was made by another job than a merge; choose another --output.")
    return recipe


def _find_sources(settings, table, known):
    paths = [store.make_absolute(path).rstrip("/") for path in settings.sources]
    twice = [path for number, path in enumerate(paths) if path in paths[:number]]
    if twice or table in paths:
        reason = f"{twice[0]} is named twice" if twice else "the output is one of them"
        raise SettingsError(f"sources must be different data sets; {reason}.")
    datasets = name_datasets(paths, [tell_kind(path) for path in paths], known)
    sources = [look_at(dataset, settings) for dataset in datasets]
    keys = {}
    for source in sources:
        for run in source.runs:
            if keys.setdefault(run.key, run) is not run:
                both = f"{keys[run.key].origin} and {run.origin}"
                raise FormatError(f"{source.dataset.source}: {both} would both be {run.key} in the cohort; rename one.")
    return sources


def _compare(table, earlier, recipe):
    for name, value in recipe["merge"].items():
        old = earlier["merge"].get(name)
        if old != value:
            begun = f"this cohort was begun with {name} {_show(old)}, not {_show(value)}"
            raise SettingsError(f"{table}: {begun}; give the same setting, or another --output.")


def _show(value):
    return " ".join(map(str, value)) or "nothing" if isinstance(value, list) else value


def _make_design(settings, sources, known):
    if settings.harmonise is None:
        return None
    from sparkneuro.pipelines.merge_harmonise import make_design

    absent = [dataset for dataset in known if dataset not in [source.dataset for source in sources]]
    if absent:
        raise SettingsError(f"combat is fitted to all data sets of a cohort; name {absent[0].source} among the sources, too.")
    return make_design(settings, sources)


def _find_missing(plan, receipts):
    wanted = {run.key: (source, run) for source in plan.sources for run in source.runs}
    files = set(store.list_files(plan.table, recursive=True)) if receipts else set()
    ours = {source.dataset.label for source in plan.sources}
    superfluous = tuple(key for key in receipts if key not in wanted and receipts[key]["dataset"] in ours)
    missing = {
        key: (source, run) for key, (source, run) in wanted.items()
        if MASK not in files or not _is_whole(receipts.get(key), run, plan.stamp(run), files)
    }  # fmt: skip
    return replace(plan, missing=missing, superfluous=superfluous)


def _is_whole(receipt, run, stamp, files):
    if receipt is None or receipt["stamp"] != stamp:
        return False
    return all(block_path("", run, block).lstrip("/") in files for block in range(receipt["n_blocks"]))
