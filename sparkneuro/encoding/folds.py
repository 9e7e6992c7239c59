"""Which scans are trained on and which are tested on: whole runs, unless the paper's random scans are asked for.

BOLD and features are autocorrelated, so scans that stand next to each other are not independent: a split between them lets
the training set know the test set. A run boundary is the place where nothing leaks.
"""

import warnings

import numpy as np

from sparkneuro.errors import FormatError, SettingsError
from sparkneuro.validation import check_number


def check_runs(run_labels, n_scans):
    """Find the runs, as stretches of scans with one label.

    Parameters
    ----------
    run_labels : array-like of shape (n_scans,) or None
        Name of the run that each scan belongs to; None makes all scans one run.
    n_scans : int
        How many scans there are.

    Returns
    -------
    runs : list of slice
        Scans of each run, in the order of the scans.

    Raises
    ------
    FormatError
        When there is not one label per scan, a run comes back after another, or there is no scan.

    Examples
    --------
    >>> check_runs(["a", "a", "a", "b", "b"], 5)
    [slice(0, 3, None), slice(3, 5, None)]
    """
    labels = np.zeros(n_scans, int) if run_labels is None else np.asarray(run_labels)
    if labels.shape != (n_scans,) or n_scans == 0:
        raise FormatError(f"run_labels must hold one label for each of {n_scans} scans, at least one; got shape {labels.shape}.")
    starts = np.flatnonzero(np.r_[True, labels[1:] != labels[:-1]]).tolist()
    seen = set()
    for start in starts:
        if (name := labels[start].item() if isinstance(labels[start], np.generic) else labels[start]) in seen:
            remedy = "put the scans of a run together, or give the second stretch a label of its own"
            raise FormatError(f"the scans of a run must follow each other; run {name!r} comes back at scan {start}: {remedy}.")
        seen.add(name)
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], n_scans], strict=True)]


def choose_test_runs(runs, fraction=0.1, seed=0):
    """Draw the runs to test on.

    Parameters
    ----------
    runs : sequence of str
        Names of all runs, each once.
    fraction : float
        Share of the runs to draw, above 0 and below 1; at least one is drawn and at least one left.
    seed : int
        Seed of the draw.

    Returns
    -------
    test_runs : list of str
        The drawn runs, in the order of `runs`.

    Raises
    ------
    SettingsError
        When there is one run only, or a name comes twice.

    Examples
    --------
    >>> len(choose_test_runs(["run-1", "run-2", "run-3"], fraction=0.1))
    1
    """
    runs = list(runs)
    if len(set(runs)) < len(runs):
        raise SettingsError(f"every run must have a name of its own; got {', '.join(map(str, runs))}.")
    if len(runs) < 2:
        remedy = "fit without one (split none, criterion loo), or on random scans (split random), which leaks"
        raise SettingsError(f"a test on held-out runs needs at least 2 runs; got {len(runs)}: {remedy}.")
    drawn = np.random.default_rng(seed).choice(len(runs), _count_test(len(runs), fraction), replace=False)
    return [runs[i] for i in sorted(drawn)]


def random_split(n_scans, fraction=0.1, seed=0):
    """Draw scans to test on at random, as the paper does, and warn that this leaks.

    Parameters
    ----------
    n_scans : int
        How many scans there are, at least 2.
    fraction : float
        Share of the scans to draw, above 0 and below 1; at least one is drawn and at least one left.
    seed : int
        Seed of the draw.

    Returns
    -------
    is_test : ndarray of shape (n_scans,), bool
        Whether a scan is tested on.
    """
    check_number("n_scans", n_scans, minimum=2, integer=True)
    warnings.warn(
        "scans drawn at random leak, because their neighbours in time are trained on: scores are inflated (independent AR(1) "
        "series of coefficient 0.8 score r = 0.47 with 10 scans per feature, and more with fewer); hold out whole runs.",
        UserWarning,
        stacklevel=2,
    )
    is_test = np.zeros(n_scans, bool)
    is_test[np.random.default_rng(seed).choice(n_scans, _count_test(n_scans, fraction), replace=False)] = True
    return is_test


def kfold_by_run(run_slices, n_folds=5):
    """Share whole runs out among folds of about as many scans each.

    The longest run that is left goes to the fold that has the fewest scans; nothing is drawn.

    Parameters
    ----------
    run_slices : sequence of slice
        Scans of each run, as `check_runs` returns them.
    n_folds : int
        How many folds, 2 to the number of runs.

    Returns
    -------
    folds : list of list of slice
        Runs of each fold, in the order of the scans; none is empty.

    Raises
    ------
    SettingsError
        When there are more folds than runs.

    Examples
    --------
    >>> kfold_by_run([slice(0, 3), slice(3, 5), slice(5, 6)], n_folds=2)
    [[slice(0, 3, None)], [slice(3, 5, None), slice(5, 6, None)]]
    """
    check_number("n_folds", n_folds, minimum=2, integer=True)
    if n_folds > len(run_slices):
        raise SettingsError(f"n_folds must be at most the number of runs, {len(run_slices)}; got {n_folds}.")
    folds, n_scans = [[] for _ in range(n_folds)], [0] * n_folds
    for run in sorted(run_slices, key=lambda run: run.start - run.stop):
        lightest = n_scans.index(min(n_scans))
        folds[lightest].append(run)
        n_scans[lightest] += run.stop - run.start
    return [sorted(fold, key=lambda run: run.start) for fold in folds]


def kfold_contiguous(n_scans, n_folds=5):
    """Cut the scans into folds that follow each other, as ``KFold(shuffle=False)`` of scikit-learn does.

    Parameters
    ----------
    n_scans : int
        How many scans there are.
    n_folds : int
        How many folds, 2 to n_scans; the first ``n_scans % n_folds`` have one scan more.

    Returns
    -------
    folds : list of slice
        Scans of each fold.

    Examples
    --------
    >>> kfold_contiguous(5, 2)
    [slice(0, 3, None), slice(3, 5, None)]
    """
    check_number("n_folds", n_folds, minimum=2, maximum=n_scans, integer=True)
    sizes = np.full(n_folds, n_scans // n_folds)
    sizes[: n_scans % n_folds] += 1
    edges = np.r_[0, np.cumsum(sizes)].tolist()
    return [slice(start, stop) for start, stop in zip(edges[:-1], edges[1:], strict=True)]


def _count_test(n, fraction):
    check_number("fraction", fraction, minimum=0, exclusive=True)
    if fraction >= 1:
        raise SettingsError(f"fraction must be below 1, so that something is left to train on; got {fraction!r}.")
    return min(max(round(fraction * n), 1), n - 1)
