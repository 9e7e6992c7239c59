"""Harmonisation of a cohort: one value a subject and voxel, ComBat fitted to training subjects, what it makes of each subject.

What is harmonised is the amplitude of the series, as the log of their standard deviation, and their mean level where it was
not removed. A subject's value is that of its runs together: the mean of their variances, and of their means.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO

import numpy as np

from sparkneuro.data import store
from sparkneuro.data.array_file import write_array
from sparkneuro.data.cohort import find_participants, join_participants
from sparkneuro.data.task_progress import show_progress
from sparkneuro.environment import available_memory
from sparkneuro.errors import SettingsError
from sparkneuro.pipelines.ingest_plan import raise_first
from sparkneuro.pipelines.merge_grid import SCRATCH
from sparkneuro.pipelines.merge_sources import stamp_of

FOLDER = "harmonisation"
_READERS = 16
_SUBJECTS_AT_ONCE = 16


@dataclass(frozen=True, eq=False)
class Design:
    """What ComBat is fitted to, before any series is read.

    Parameters
    ----------
    subjects : tuple of str
        Labels in the cohort, sorted.
    sites : tuple of str
        Label of each subject's data set.
    covariates : ndarray of shape (n_subjects, n_columns)
        What is kept.
    columns : tuple of str
        Names of these columns.
    is_training : ndarray of shape (n_subjects,), bool
        Subjects that the model is fitted to.
    measures : tuple of str
        ``amplitude``, and ``level`` where means were not removed.
    stamp : str
        Changes when anything of it does, or a run of any subject.
    """

    subjects: tuple
    sites: tuple
    covariates: np.ndarray
    columns: tuple
    is_training: np.ndarray
    measures: tuple
    stamp: str


def make_design(settings, sources):
    """Check what harmonisation needs and lay out its design.

    Parameters
    ----------
    settings : sparkneuro.pipelines.merge.Settings
        The settings.
    sources : sequence of Source
        All data sets of the cohort.

    Returns
    -------
    design : Design
        The design.

    Raises
    ------
    SettingsError
        When series are z-scored, a covariate or training subject is unknown, or the model cannot be fitted.
    """
    from sparkneuro.preprocess.harmonise import check_design, code_covariates

    if any(source.units == "z-score" for source in sources):
        why = "combat harmonises the amplitude of series, and z-scored series all have the same"
        raise SettingsError(f"{why}; make the tables with --no-standardize, and say it here for BIDS folders.")
    runs = [(source.dataset, run) for source in sources for run in source.runs]
    members = {run.subject: (dataset, run.participant) for dataset, run in runs}
    known = {source.dataset.label: find_participants(source.dataset.source, source.first_run) for source in sources}
    rows = join_participants(members.values(), known)
    subjects, sites = tuple(rows), tuple(members[label][0].label for label in rows)
    covariates, columns = code_covariates(rows, settings.covariates)
    is_training = _find_training(settings.training_subjects, members, subjects)
    lacking = sorted(set(sites) - {site for site, training in zip(sites, is_training, strict=True) if training})
    if lacking:
        name = next(source.dataset.name for source in sources if source.dataset.label == lacking[0])
        raise SettingsError(f"combat cannot harmonise {lacking[0]} ({name}): it has no training subject; name some of them.")
    check_design([site for site, training in zip(sites, is_training, strict=True) if training], covariates[is_training], columns)
    measures = ("amplitude",) if any(source.centred for source in sources) else ("amplitude", "level")
    stamps = sorted(run.stamp + run.key for _, run in runs)
    stamp = stamp_of([stamps, subjects, sites, covariates.tolist(), columns, is_training.tolist(), measures])
    return Design(subjects, sites, covariates, tuple(columns), is_training, measures, stamp)


def _find_training(words, members, subjects):
    """Read labels of training subjects, or a file with one a line: ``ds01sub01``, or ``NAME:01`` by the data set's name."""
    labels = []
    for word in words:
        if store.exists(word) and not store.is_folder(word):
            lines = [line.split("\t")[0].strip() for line in store.read_bytes(word).decode("utf-8-sig").splitlines()]
            labels += [line for line in lines if line and line != "participant_id"]
        else:
            labels.append(word)
    if not labels:
        return np.ones(len(subjects), bool)
    by_name = {f"{dataset.name}:{label}": subject for subject, (dataset, label) in members.items()}
    chosen = {by_name.get(label.replace(":sub-", ":"), label.removeprefix("sub-")) for label in labels}
    strange = sorted(chosen - set(subjects))
    if strange:
        some = f"{', '.join(subjects[:3])}, ... or {next(iter(by_name))}"
        raise SettingsError(f"training_subjects must be subjects of the cohort; there is no {strange[0]}, but {some}.")
    return np.array([subject in chosen for subject in subjects])


def harmonise(plan, jobs, n_voxels, spark):
    """Measure all runs, fit the models, write them, and what they make of each subject.

    One Spark task a run measures it; the small statistics, a float32 a subject and voxel, come to the driver, which fits.

    Parameters
    ----------
    plan : Plan
        What is to be done.
    jobs : dict of str to dict
        Jobs of `merge_run`, by key; those of all runs.
    n_voxels : int
        Voxels of the cohort's mask.
    spark : pyspark.sql.SparkSession
        The session.

    Returns
    -------
    adjustments : dict of str to str
        By subject, path of what its series are multiplied by and what is added: a ``.npy`` of shape (2, n_voxels).

    Raises
    ------
    SettingsError
        When the statistics need more memory than the driver has, or no voxel is left.
    """
    design, folder = plan.design, store.join(plan.table, SCRATCH, "adjustments")
    paths = {subject: store.join(folder, f"{subject}-{design.stamp}.npy") for subject in design.subjects}
    if all(name in store.list_files(folder) for name in (path.rpartition("/")[2] for path in paths.values())):
        return paths
    check_memory(design, n_voxels)
    values = _collect(design, _measure(plan, jobs, spark), n_voxels)
    models = {measure: _fit(design, values[measure]) for measure in design.measures}
    for measure, model in models.items():
        model.save(store.join(plan.table, FOLDER, f"{measure}.npz"))
    _describe(plan, models)
    for first in range(0, len(design.subjects), _SUBJECTS_AT_ONCE):
        subjects = slice(first, first + _SUBJECTS_AT_ONCE)
        changes = {measure: _change(design, models[measure], values[measure], subjects) for measure in design.measures}
        for number, subject in enumerate(design.subjects[subjects]):
            factor = np.exp(changes["amplitude"][number])
            shift = changes["level"][number] if "level" in changes else np.zeros(n_voxels)
            both = np.where(np.isfinite(factor) & np.isfinite(shift), [factor, shift], np.nan)
            write_array(paths[subject], both.astype(np.float32))
    return paths


def check_memory(design, n_voxels, available=None):
    """Check that the driver can hold what a fit needs.

    Parameters
    ----------
    design : Design
        The design.
    n_voxels : int
        Voxels of the cohort's mask.
    available : int or None
        Bytes that there are; those of this machine when absent.

    Raises
    ------
    SettingsError
        When it needs more.
    """
    from sparkneuro.preprocess.harmonise import COPIES

    available = available_memory() if available is None else available
    needed = n_voxels * (8 * COPIES * int(design.is_training.sum()) + 4 * len(design.measures) * len(design.subjects))
    if needed > available:
        sizes = f"{needed / 1e9:.1f} GB of memory on the driver for {int(design.is_training.sum())} training subjects"
        remedy = "take a coarser grid (--voxel-size), fewer --training-subjects, or a driver with more memory"
        raise SettingsError(f"combat needs {sizes} and {n_voxels} voxels, and there are {available / 1e9:.1f}; {remedy}.")


def _measure(plan, jobs, spark):
    """Paths of the statistics of each subject's runs, measured where they are missing."""
    from sparkneuro.data.spark import run_jobs
    from sparkneuro.pipelines.merge_task import measure_run

    folder = store.join(plan.table, SCRATCH, "statistics")
    runs = [run for source in plan.sources for run in source.runs]
    names = {run.key: f"{run.key}-{run.stamp}.npy" for run in runs}
    there = set(store.list_files(folder))
    missing = [{**jobs[key], "statistics": store.join(folder, name)} for key, name in names.items() if name not in there]
    sizes = {names[run.key]: run.n_bytes for run in runs}
    with show_progress("measure", sizes, lambda: store.list_files(folder)):
        _, failures = run_jobs(spark, measure_run, missing) if missing else ([], [])
    raise_first(failures)
    paths = {}
    for run in runs:
        paths.setdefault(run.subject, []).append(store.join(folder, names[run.key]))
    return paths


def _collect(design, paths, n_voxels):
    """Values of all subjects, (n_subjects, n_voxels) float32 for each measure; NaN where a subject has no row."""
    values = {measure: np.empty((len(design.subjects), n_voxels), np.float32) for measure in design.measures}

    def read(number):
        runs = np.stack([np.load(BytesIO(store.read_bytes(path))) for path in paths[design.subjects[number]]]).astype(np.float64)
        has = np.isfinite(runs[:, 1])
        with np.errstate(divide="ignore", invalid="ignore"):
            mean, variance = (np.where(has, runs[:, row], 0).sum(axis=0) / has.sum(axis=0) for row in (0, 1))
            values["amplitude"][number] = np.where(variance > 0, 0.5 * np.log(variance), np.nan)
        if "level" in values:
            values["level"][number] = mean

    with ThreadPoolExecutor(_READERS) as readers:
        list(readers.map(read, range(len(design.subjects))))
    return values


def _fit(design, values):
    from sparkneuro.preprocess.harmonise import fit_combat

    training = np.flatnonzero(design.is_training)
    sites = [design.sites[number] for number in training]
    return fit_combat(values[training], sites, design.covariates[training], design.columns)


def _change(design, model, values, subjects):
    """What harmonisation adds to the values of some subjects, (n, n_voxels); NaN where the model does not hold."""
    harmonised = model.apply(values[subjects], design.sites[subjects], design.covariates[subjects])
    change = np.full((len(harmonised), len(model.kept)), np.nan)
    change[:, model.kept] = harmonised - values[subjects][:, model.kept]
    return change


def _describe(plan, models):
    design = plan.design
    content = {
        "method": "combat", "measures": {measure: int(model.kept.sum()) for measure, model in models.items()},
        "covariates": list(design.columns), "sites": sorted(set(design.sites)),
        "training_subjects": [subject for subject, training in zip(design.subjects, design.is_training, strict=True) if training],
    }
    store.write_bytes(store.join(plan.table, FOLDER, "harmonisation.json"), json.dumps(content, indent=1).encode())
