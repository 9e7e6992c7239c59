"""Ridge regression of many targets on the same features, each penalty chosen by cross-validation."""

from dataclasses import dataclass

import numpy as np

from sparkneuro.encoding.choice import choose_criterion, choose_each, choose_one, make_criterion
from sparkneuro.encoding.decomposition import decompose
from sparkneuro.encoding.folds import check_runs
from sparkneuro.encoding.inputs import check_alphas, check_features, check_targets, mean_of_columns
from sparkneuro.encoding.kfold import SCORINGS
from sparkneuro.encoding.residuals import symmetric_product
from sparkneuro.encoding.search import SEARCHES
from sparkneuro.errors import SettingsError
from sparkneuro.validation import check_choice

TARGETS_AT_ONCE = 2048
GRAM_BYTES = 256 << 20
"""Of the targets whose products of scans are summed at once: with fewer the time goes into adding up."""
LARGEST_GRAM = 16_384
"""Scans up to which the products of scans with scans are kept: 2 GB in float64."""


@dataclass(frozen=True)
class RidgeFit:
    """Coefficients and how their penalties were chosen.

    Parameters
    ----------
    coef : ndarray of shape (n_features, n_targets)
        Change of the target with the feature.
    intercept : ndarray of shape (n_targets,)
        In the unit of the targets.
    alphas : ndarray of shape (n_targets,), float64
        The penalty of each target.
    losses : ndarray of shape (n_alphas,) or (n_alphas, n_targets), float64, or None
        The criterion of each penalty for all targets or for each; NaN where it was not tried, None for a known penalty.
    """

    coef: np.ndarray
    intercept: np.ndarray
    alphas: np.ndarray
    losses: np.ndarray | None


def fit_ridge(
    X, Y, alphas, criterion=None, alpha_per_target=False, search="climb", run_labels=None, n_folds=5, scoring="l2",
    fit_intercept=True,
):  # fmt: skip
    """Fit ridge regressions of many targets on the same features.

    Minimises ``||Y - X B||^2 + alpha ||B||^2``. The features are decomposed once; targets are taken block by block, so that
    beside the results only some hundred megabytes are needed.

    Parameters
    ----------
    X : ndarray of shape (n_scans, n_features)
        Features, float32 or float64. Not modified.
    Y : ndarray of shape (n_scans, n_targets)
        Targets; computed with in their own type.
    alphas : sequence of float
        Penalties to choose from, above 0 and ascending; an only one is taken as it is.
    criterion : {"loo", "gcv", "leave_one_run_out", "kfold"} or None
        What the choice minimises. By default leaving one run out where there are runs, else leaving one scan out.
    alpha_per_target : bool
        Whether each target has its own penalty.
    search : {"climb", "exhaustive"}
        Whether penalties are tried from the minimum of generalised cross-validation on until neighbours are worse, or all.
    run_labels : sequence of shape (n_scans,) or None
        Which run each scan is of; scans of a run stand together. k-fold then takes whole runs together.
    n_folds : int
        Folds of "kfold".
    scoring : {"l2", "correlation"}
        What "kfold" compares.
    fit_intercept : bool
        Whether features and targets are centred.

    Returns
    -------
    fit : RidgeFit
        Coefficients, intercepts, penalties and losses.

    Raises
    ------
    SettingsError
        When options make no sense together.
    FormatError
        When features or targets hold NaN, or do not go together.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((60, 4))
    >>> Y = X @ rng.standard_normal((4, 3))
    >>> fit_ridge(X, Y, [0.001, 1.0]).alphas
    array([0.001, 0.001, 0.001])
    """
    alphas = check_alphas(alphas)
    X = check_features(X)
    Y = check_targets(Y, len(X))
    runs = None if run_labels is None else check_runs(run_labels, len(X))
    criterion = choose_criterion(criterion, runs, len(alphas))
    check_choice("search", search, SEARCHES)
    check_choice("scoring", scoring, SCORINGS)
    if scoring != "l2" and criterion not in ("kfold", "none"):
        raise SettingsError(f"scoring must be l2 unless criterion is kfold; got {scoring!r} with {criterion!r}.")
    dtype = np.result_type(X.dtype, Y.dtype)
    Y_mean = mean_of_columns(Y) if fit_intercept else np.zeros(Y.shape[1])
    decomposition = decompose(X, fit_intercept, dtype)
    rule = make_criterion(criterion, decomposition, X, alphas, runs, n_folds, scoring)
    fit_parts = _fit_each if alpha_per_target and rule is not None else _fit_all
    coef, chosen, losses = fit_parts(decomposition, rule, Y, Y_mean, alphas, search)
    intercept = Y_mean - decomposition.X_mean.astype(dtype) @ coef
    return RidgeFit(coef, intercept.astype(dtype), alphas[chosen], losses)


def coefficients(decomposition, alphas, Z, out=None):
    """Compute coefficients from projected targets, ``V (s / (s^2 + alpha) * Z)``.

    Parameters
    ----------
    decomposition : Decomposition
        Of the features.
    alphas : ndarray of shape (n_targets,)
        The penalty of each target.
    Z : ndarray of shape (rank, n_targets)
        ``U'Y``.
    out : ndarray of shape (n_features, n_targets) or None
        Where they are written.

    Returns
    -------
    coef : ndarray of shape (n_features, n_targets)
        In the type of `Z`.
    """
    penalties, places = np.unique(alphas, return_inverse=True)
    weights = decomposition.coefficient_weights(penalties).astype(Z.dtype)
    return np.matmul(decomposition.V, weights.T[:, places] * Z, out=out)


def coefficient_operator(decomposition, alpha, V=None):
    """Compute the matrix that turns centred targets into coefficients, ``V diag(s / (s^2 + alpha)) U'``.

    Parameters
    ----------
    decomposition : Decomposition
        Of the features.
    alpha : float
        The penalty of all targets.
    V : ndarray of shape (n, rank) or None
        Rows that take the place of the right singular vectors: ``(X_test - mean) V`` gives the matrix that turns targets into
        predictions.

    Returns
    -------
    operator : ndarray of shape (n_features, n_scans)
        In the type of U.
    """
    weights = decomposition.coefficient_weights([alpha])[0].astype(decomposition.U.dtype)
    return ((decomposition.V if V is None else V) * weights) @ decomposition.U.T


def prefers_gram(n_scans, rank, n_targets=np.inf):
    """Tell whether one penalty for all targets is found faster from ``Y Y'`` than from projected targets.

    Parameters
    ----------
    n_scans, rank : int
        Shape of the left singular vectors.
    n_targets : float
        How many targets there are.

    Returns
    -------
    gram : bool
        Whether the products of scans with scans can be kept and cost fewer operations: ``n^2`` a target and ``4 n^2 k`` once,
        against ``4 n k + k^2`` a target.
    """
    saved = 4 * n_scans * rank + rank**2 - n_scans**2
    return n_scans <= LARGEST_GRAM and saved >= 4 * n_scans**2 * rank / n_targets


def _fit_all(decomposition, rule, Y, Y_mean, alphas, search):
    """One penalty for all targets: sums over targets, then one product for the coefficients."""
    chosen, losses = 0, None
    if rule is not None:
        chosen, losses = choose_one(rule, _sum_targets(decomposition, rule, Y, Y_mean), search)
    coef = np.empty((decomposition.n_features, Y.shape[1]), decomposition.U.dtype)
    operator = coefficient_operator(decomposition, alphas[chosen]) if Y.shape[1] > decomposition.n_features else None
    for columns, part in _centred_blocks(Y, Y_mean, coef.dtype, TARGETS_AT_ONCE):
        if operator is None:
            coefficients(decomposition, np.full(part.shape[1], alphas[chosen]), decomposition.project(part), out=coef[:, columns])
        else:
            np.matmul(operator, part, out=coef[:, columns])
    return coef, np.full(Y.shape[1], chosen), losses


def _sum_targets(decomposition, rule, Y, Y_mean):
    sums, dtype = rule.start_sums(), decomposition.U.dtype
    if rule.takes_gram and prefers_gram(len(Y), decomposition.rank, Y.shape[1]):
        gram = np.zeros((len(Y), len(Y)))
        for _, part in _centred_blocks(Y, Y_mean, dtype, GRAM_BYTES // (dtype.itemsize * len(Y)) + 1):
            gram += symmetric_product(part)
        rule.add_gram(sums, gram, Y.shape[1])
        return sums
    for _, part in _centred_blocks(Y, Y_mean, dtype, TARGETS_AT_ONCE):
        rule.add(sums, rule.project(part), part)
    return sums


def _fit_each(decomposition, rule, Y, Y_mean, alphas, search):
    """A penalty for each target: choice and coefficients block by block, in one pass."""
    n_targets, dtype = Y.shape[1], decomposition.U.dtype
    coef = np.empty((decomposition.n_features, n_targets), dtype)
    chosen, losses = np.empty(n_targets, int), np.empty((len(alphas), n_targets))
    for columns, part in _centred_blocks(Y, Y_mean, dtype, TARGETS_AT_ONCE, "F"):
        projections = rule.project(part)
        chosen[columns], losses[:, columns] = choose_each(rule, projections, part, search)
        coef[:, columns] = coefficients(decomposition, alphas[chosen[columns]], rule.of_all_scans(projections))
    return coef, chosen, losses


def _centred_blocks(Y, Y_mean, dtype, size, order="C"):
    """Blocks of targets less their means; each is overwritten by the next."""
    mean = Y_mean.astype(dtype)
    buffer = np.empty((len(Y), min(size, Y.shape[1])), dtype, order)
    for start in range(0, Y.shape[1], size):
        columns = slice(start, min(start + size, Y.shape[1]))
        part = buffer[:, : columns.stop - start]
        yield columns, np.subtract(Y[:, columns], mean[columns], out=part, casting="same_kind")
