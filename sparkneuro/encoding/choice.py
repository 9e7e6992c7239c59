"""Which penalty: the criteria by their names, and the choice for each target or for all."""

import numpy as np

from sparkneuro.encoding.folds import kfold_by_run, kfold_contiguous
from sparkneuro.encoding.gcv import GeneralizedCrossValidation
from sparkneuro.encoding.kfold import KFold
from sparkneuro.encoding.leave_one_out import LeaveOneOut
from sparkneuro.encoding.leave_run_out import LeaveRunOut
from sparkneuro.encoding.residuals import sum_of_squares, take_targets
from sparkneuro.encoding.search import search_alphas
from sparkneuro.errors import SettingsError
from sparkneuro.validation import check_choice

CRITERIA = ("loo", "gcv", "leave_one_run_out", "kfold")


def choose_criterion(criterion, runs, n_alphas):
    """Choose what a choice of penalty minimises, and check that it can be had.

    Parameters
    ----------
    criterion : str or None
        What is wanted.
    runs : list of slice or None
        Scans of each run.
    n_alphas : int
        Penalties to choose from.

    Returns
    -------
    criterion : str
        One of `CRITERIA`; "none" where there is nothing to choose.

    Raises
    ------
    SettingsError
        When it is unknown, or needs more runs than there are.
    """
    if criterion is None:
        criterion = "loo" if runs is None else "leave_one_run_out"
    check_choice("criterion", criterion, CRITERIA)
    if n_alphas == 1:
        return "none"
    if criterion == "leave_one_run_out" and (runs is None or len(runs) < 2):
        came = "no run labels" if runs is None else "one run"
        raise SettingsError(f"leave_one_run_out must have at least two runs; got {came}. Take criterion loo or kfold instead.")
    return criterion


def make_criterion(criterion, decomposition, X, alphas, runs=None, n_folds=5, scoring="l2", centred=False):
    """Make the criterion that a choice of penalty minimises.

    Parameters
    ----------
    criterion : str
        One of `CRITERIA`, or "none".
    decomposition : Decomposition
        Of the features.
    X : ndarray of shape (n_scans, n_features)
        Features; only k-fold looks at them again.
    alphas : ndarray of shape (n_alphas,)
        Penalties, ascending.
    runs : list of slice or None
        Scans of each run.
    n_folds : int
        Folds of "kfold".
    scoring : {"l2", "correlation"}
        What "kfold" compares.
    centred : bool
        Whether `X` has lost its mean already.

    Returns
    -------
    rule : object or None
        With `project`, `start_sums`, `add`, `loss` and `evaluate`; None for "none".
    """
    if criterion == "none":
        return None
    if criterion == "leave_one_run_out":
        return LeaveRunOut(decomposition, alphas, runs)
    if criterion == "kfold":
        dtype = decomposition.U.dtype
        X = X if centred else np.subtract(X, decomposition.X_mean.astype(dtype), dtype=dtype)
        return KFold(decomposition, X, alphas, make_folds(len(X), n_folds, runs), scoring)
    return {"loo": LeaveOneOut, "gcv": GeneralizedCrossValidation}[criterion](decomposition, alphas)


def make_folds(n_scans, n_folds, runs=None):
    """Choose the scans of each fold: whole runs where there are as many, else contiguous stretches.

    Parameters
    ----------
    n_scans, n_folds : int
        Numbers of scans and folds.
    runs : list of slice or None
        Scans of each run.

    Returns
    -------
    folds : list of slice or of ndarray of int
        Held-out scans.
    """
    if runs is None or len(runs) < n_folds:
        return kfold_contiguous(n_scans, n_folds)
    groups = kfold_by_run(runs, n_folds)
    return [np.concatenate([np.arange(run.start, run.stop) for run in group]) for group in groups]


def choose_each(rule, projections, Y, search):
    """Choose each target's penalty.

    Parameters
    ----------
    rule : object
        Of `make_criterion`.
    projections : ndarray of shape (n_projections, n_targets)
        Of the rule's `project`.
    Y : ndarray of shape (n_scans, n_targets)
        Centred targets.
    search : {"climb", "exhaustive"}
        See `search_alphas`.

    Returns
    -------
    chosen : ndarray of shape (n_targets,), int
        Places of penalties.
    losses : ndarray of shape (n_alphas, n_targets), float64
        NaN where a penalty was not tried.
    """
    places = rule.start(projections, Y)
    if isinstance(rule, GeneralizedCrossValidation):
        return places, rule.gcv_losses(np.square(projections), sum_of_squares(Y))
    # In the order of where they start, targets that are tried together stand together: few are copied.
    order = np.argsort(places, kind="stable")
    projections, Y = projections.T[order].T, Y.T[order].T

    def evaluate(index, columns):
        return rule.evaluate(index, take_targets(projections, columns), take_targets(Y, columns))

    found = search_alphas(evaluate, len(rule.alphas), places[order], search)
    chosen, losses = np.empty_like(found[0]), np.empty_like(found[1])
    chosen[order], losses[:, order] = found
    return chosen, losses


def choose_one(rule, sums, search):
    """Choose one penalty for all targets.

    Parameters
    ----------
    rule : object
        Of `make_criterion`.
    sums : dict of str to ndarray
        Of all targets.
    search : {"climb", "exhaustive"}
        See `search_alphas`.

    Returns
    -------
    chosen : int
        Place of the penalty.
    losses : ndarray of shape (n_alphas,), float64
        NaN where a penalty was not tried.
    """
    start = np.array([rule.start_all(sums)])
    best, losses = search_alphas(lambda index, columns: [rule.loss(sums, index)], len(rule.alphas), start, search)
    return int(best[0]), losses[:, 0]
