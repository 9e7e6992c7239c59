"""The features of a cohort's runs into a design: read run by run, z-scored, delayed, decomposed.

They lie in a file beside the driver, never whole in memory: what is decomposed may be larger than that.
"""

import hashlib
import json
import logging
import tempfile
from dataclasses import asdict
from functools import partial

import numpy as np

from sparkneuro.data import store
from sparkneuro.data.array_file import create_array, write_array
from sparkneuro.data.feature_table import read_features
from sparkneuro.encoding.banded import sample_gammas
from sparkneuro.encoding.choice import choose_criterion
from sparkneuro.encoding.delayed_features import DelayedFeatures
from sparkneuro.encoding.delays import delayed_gram
from sparkneuro.encoding.design import RECORD, Design, finds_gram, write_design
from sparkneuro.encoding.folds import random_split
from sparkneuro.encoding.inputs import describe_places
from sparkneuro.errors import FormatError, SettingsError

log = logging.getLogger(__name__)

ROWS_AT_ONCE = 1024


def build_design(member, settings):
    """Make the design of all subjects with one stimulus, or take up the one that is there.

    Parameters
    ----------
    member : SubjectRuns
        One of these subjects.
    settings : EncoderSettings
        The settings.

    Returns
    -------
    design : Design
        Finished.

    Raises
    ------
    FormatError
        When features hold NaN, or none varies.
    SettingsError
        When the criterion needs more runs than there are.
    """
    design, order = describe_design(member, settings)
    if store.exists(store.join(design.path, RECORD)) and Design.open(design.path).identity == design.identity:
        return Design.open(design.path)
    if design.criterion == "kfold" and 1 < len(design.run_sizes) < design.n_folds:
        log.warning("%d folds of %d training runs cut runs apart, and their halves know each other; take --folds %d.",
                    design.n_folds, len(design.run_sizes), len(design.run_sizes))  # fmt: skip
    store.delete(design.path)
    sizes = [run.n_scans for run in member.runs]
    with tempfile.TemporaryDirectory(prefix="sparkneuro-features-") as folder:
        X, mean, scale = _gather_features(folder, member, design, settings, order)
        for name, values in (("feature_mean", mean), ("feature_scale", scale)):
            write_array(store.join(design.path, f"{name}.npy"), values)
        runs = _slices(sizes)
        train = np.arange(design.n_train) if order is None else order[: design.n_train]
        test = np.arange(design.n_train, len(X)) if order is None else order[design.n_train :]
        _write(design, settings, X, runs, train, test, member, order)
    return design


def describe_design(member, settings):
    """Work out a design's sizes and choices.

    Parameters
    ----------
    member : SubjectRuns
        One of its subjects.
    settings : EncoderSettings
        The settings.

    Returns
    -------
    design : Design
        Not written yet.
    order : ndarray of int or None
        Training scans before test scans, where they are not whole runs.
    """
    sizes = [run.n_scans for run in member.runs]
    n_train, run_sizes, order = member.n_scans - member.n_test, sizes[: len(sizes) - member.n_test_runs], None
    if settings.split == "random":
        held_out = random_split(member.n_scans, settings.test_fraction, settings.seed)
        order = np.concatenate([np.flatnonzero(~held_out), np.flatnonzero(held_out)])
        n_train = int((~held_out).sum())
        run_sizes = [int((~held_out[run]).sum()) for run in _slices(sizes)]
        run_sizes = [size for size in run_sizes if size]
    shortest, longest = min(sizes), max(map(abs, settings.delays))
    if longest >= shortest:
        raise SettingsError(f"delays must be shorter than every run; got a delay of {longest} and a run of {shortest} scans.")
    n_features = len(settings.delays) * sum(space[0].n_features for space in member.features)
    gammas = sample_gammas(settings.n_gammas, len(member.features), seed=settings.seed) if settings.n_gammas > 1 else np.ones(
        (1, len(member.features))
    )  # fmt: skip
    n_choices = len(settings.alphas) * len(gammas)
    criterion = choose_criterion(settings.criterion or "leave_one_run_out", _slices(run_sizes), n_choices)
    if criterion == "kfold" and settings.n_folds > n_train:
        raise SettingsError(f"n_folds must be at most the number of training scans, {n_train}; got {settings.n_folds}.")
    made_from = {
        name: value for name, value in asdict(settings).items() if name not in ("output", "predictions", "alpha_per_target")
    }  # fmt: skip
    identity = hashlib.sha256(json.dumps([member.stimulus, made_from]).encode()).hexdigest()[:16]
    design = Design(
        store.join(settings.output, "designs", member.stimulus), n_train, member.n_scans - n_train, n_features,
        tuple(run_sizes), tuple(map(float, settings.alphas)), tuple(map(tuple, gammas.tolist())), criterion, settings.scoring,
        settings.search, settings.n_folds, settings.coefficients, order is not None, identity,
    )  # fmt: skip
    return design, order


def _write(design, settings, X, runs, train, test, member, order):
    widths = [space[0].n_features for space in member.features]
    spaces = np.tile(np.repeat(np.arange(len(widths)), widths), len(settings.delays))
    scales = np.sqrt(np.asarray(design.gammas))[:, spaces]
    gram = None
    if order is None and finds_gram(design.n_train, design.n_features):
        training_runs = runs[: len(design.run_sizes)]
        labels = np.repeat(np.arange(len(training_runs)), [run.stop - run.start for run in training_runs])
        gram = delayed_gram(X[: design.n_train], settings.delays, labels)
    make = partial(DelayedFeatures, X, settings.delays, runs)
    write_design(
        design, lambda scale: make(scans=train, scale=scale), lambda scale: make(scans=test, scale=scale), scales, gram, order
    )


def _gather_features(folder, member, design, settings, order):
    """All runs' features in one file, z-scored over the training scans where that is wanted."""
    n_features = design.n_features // len(settings.delays)
    X = create_array(f"{folder}/X.npy", (member.n_scans, n_features), np.float32)
    first = np.zeros(n_features)
    if settings.standardize:  # about the first scan, so that float64 features far from zero keep their digits in float32
        first = np.concatenate([read_features(space[0], 0, 1, np.float64)[0] for space in member.features])
    start = 0
    for place, run in enumerate(member.runs):
        column = 0
        for space in member.features:
            width = space[place].n_features
            features = read_features(space[place], dtype=np.float64)
            features -= first[column : column + width]
            X[start : start + run.n_scans, column : column + width] = features
            column += width
        start += run.n_scans
    train = slice(0, design.n_train) if order is None else order[: design.n_train]
    mean, scale = _moments(X, train)
    constant = np.flatnonzero(scale == 0)
    if len(constant) == n_features:
        raise FormatError(f"{', '.join(settings.features)}: at least one feature must vary over the training scans; none does.")
    if len(constant):
        log.warning("%s never change over the training scans; their coefficients are 0.", describe_places(constant, "feature"))
    if not settings.standardize:
        return X, np.zeros(n_features), np.ones(n_features)
    scale[constant] = 1.0
    for rows in _chunks(len(X)):
        X[rows] = ((X[rows] - mean) / scale).astype(np.float32)
    return X, mean + first, scale


def _moments(X, train):
    chosen = np.arange(len(X))[train]
    total, squares = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    for rows in _chunks(len(chosen)):
        total += X[chosen[rows]].sum(axis=0, dtype=np.float64)
    mean = total / len(chosen)
    for rows in _chunks(len(chosen)):
        squares += np.square(X[chosen[rows]] - mean).sum(axis=0)
    scale = np.sqrt(squares / len(chosen))
    # The mean of equal numbers may miss them by a rounding error.
    scale[scale <= 1e-7 * np.abs(mean)] = 0.0
    return mean, scale


def _slices(sizes):
    ends = np.cumsum(sizes).tolist()
    return [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]


def _chunks(length):
    return [slice(start, min(start + ROWS_AT_ONCE, length)) for start in range(0, length, ROWS_AT_ONCE)]
