"""Which subjects are fitted on which runs: features and BOLD matched run by run, test runs chosen, equal stimuli found."""

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache

from sparkneuro.data import store
from sparkneuro.data.bids import run_key
from sparkneuro.data.feature_table import FeatureTable, fingerprint
from sparkneuro.encoding.folds import choose_test_runs
from sparkneuro.errors import SettingsError


@dataclass(frozen=True)
class SubjectRuns:
    """The runs of one subject, training runs first.

    Parameters
    ----------
    subject : str
        Label.
    runs : tuple of Run
        Of the voxel table.
    features : tuple of tuple of FeatureRun
        For each feature space, one a run.
    n_test_runs : int
        How many of the last runs are held out.
    stimulus : str
        Equal for subjects with the same features in the same order: they share a decomposition.
    """

    subject: str
    runs: tuple
    features: tuple
    n_test_runs: int
    stimulus: str

    @property
    def n_test(self):
        """Scans of the held-out runs."""
        return sum(run.n_scans for run in self.runs[len(self.runs) - self.n_test_runs :])

    @property
    def n_scans(self):
        """Scans of all runs."""
        return sum(run.n_scans for run in self.runs)


def match_subjects(table, subjects, settings):
    """Match each subject's BOLD runs with features, and choose which are held out.

    Parameters
    ----------
    table : VoxelTable
        The targets.
    subjects : sequence of str
        Labels.
    settings : EncoderSettings
        Feature tables and split.

    Returns
    -------
    cohort : list of SubjectRuns
        In the order of `subjects`.

    Raises
    ------
    FormatError
        When a run has no features, or features of another number of scans.
    SettingsError
        When the split cannot be had.
    """
    spaces = [FeatureTable.open(path) for path in settings.features]
    return [_match_subject(table, subject, spaces, settings) for subject in subjects]


def choose_subjects(table, wanted=()):
    """Choose subjects of a voxel table.

    Parameters
    ----------
    table : VoxelTable
        The targets.
    wanted : sequence of str
        Labels, with or without ``sub-``; all when empty.

    Returns
    -------
    subjects : list of str
        Labels.

    Raises
    ------
    SettingsError
        When one is not in the table.
    """
    known = sorted({run.subject for run in table.runs})
    chosen = [subject.removeprefix("sub-") for subject in wanted] or known
    if unknown := [subject for subject in chosen if subject not in known]:
        raise SettingsError(f"--subjects must be subjects of the table ({', '.join(known)}); got {', '.join(unknown)}.")
    return chosen


def run_name(run):
    """Name a run without its subject, e.g. ``task-movie_run-1``.

    Parameters
    ----------
    run : Run or FeatureRun
        Anything with labels.

    Returns
    -------
    name : str
        The name.
    """
    key = run_key("x", run.session, run.task, run.run)
    return key.partition("_")[2] or "the only run"


def _match_subject(table, subject, spaces, settings):
    runs = sorted((run for run in table.runs if run.subject == subject), key=lambda run: run.key)
    if not runs:
        raise SettingsError(f"{table.path} must hold runs of subject {subject}; it has none.")
    held_out = _choose_held_out(subject, runs, settings)
    ordered = tuple(sorted(runs, key=lambda run: run_name(run) in held_out))  # stable: training runs first, each part by key
    features = tuple(space.match(ordered) for space in spaces)
    content = [[[_fingerprint(run, store.stat(run.path)), run.n_scans] for run in space] for space in features]
    stimulus = hashlib.sha256(json.dumps([content, len(held_out)]).encode()).hexdigest()[:16]
    return SubjectRuns(subject, ordered, features, len(held_out), stimulus)


@lru_cache(maxsize=4096)
def _fingerprint(run, changed):
    """Of a run's features, read once a process: for all subjects, for the checks before a fit and for the fit."""
    return fingerprint(run)


def _choose_held_out(subject, runs, settings):
    names = [run_name(run) for run in runs]
    if settings.split != "runs":
        return []
    if not settings.test_runs:
        return choose_test_runs(names, settings.test_fraction, settings.seed)
    unknown = [name for name in settings.test_runs if name not in names]
    if unknown:
        raise SettingsError(f"test_runs must be runs of subject {subject} ({', '.join(names)}); got {', '.join(unknown)}.")
    if set(names) <= set(settings.test_runs):
        raise SettingsError(f"test_runs must leave a run to train on; all {len(names)} runs of subject {subject} are named.")
    return [name for name in names if name in settings.test_runs]  # each once, however often it is named
