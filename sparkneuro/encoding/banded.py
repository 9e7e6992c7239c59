"""Banded ridge regression: feature spaces side by side, each with a penalty of its own.

Space i has the penalty ``alpha / gamma_i``, which is an ordinary ridge regression on ``sqrt(gamma_i) X_i``. Gammas are drawn at
random; the products of features with features, or of scans with scans, are computed once and scaled for each draw.
"""

from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral

import numpy as np

from sparkneuro.encoding.choice import choose_criterion, choose_each, choose_one, make_criterion
from sparkneuro.encoding.decomposition import decompose, gram_matrix, kernel_matrix, prefers_kernel
from sparkneuro.encoding.folds import check_runs
from sparkneuro.encoding.inputs import check_alphas, check_features, check_targets, mean_of_columns
from sparkneuro.encoding.kfold import SCORINGS
from sparkneuro.encoding.ridge import TARGETS_AT_ONCE, coefficients
from sparkneuro.encoding.search import SEARCHES
from sparkneuro.errors import FormatError, SettingsError
from sparkneuro.validation import check_choice, check_number


@dataclass(frozen=True)
class BandedFit:
    """Coefficients of every feature space and how their penalties were chosen.

    Parameters
    ----------
    coef : tuple of ndarray of shape (n_features_i, n_targets)
        Change of the target with the feature, one array a space; exactly 0 where its gamma is 0.
    intercept : ndarray of shape (n_targets,)
        In the unit of the targets.
    alphas : ndarray of shape (n_targets,), float64
        The penalty of each target.
    gammas : ndarray of shape (n_targets, n_spaces), float64
        The weight of each space for each target; the penalty of space i is ``alpha / gamma_i``.
    loss : ndarray of shape (n_targets,), float64
        The criterion of what was chosen; NaN where there was nothing to choose from.
    losses : ndarray of shape (n_iter, n_targets), float64
        The criterion of every draw of gammas, with its best penalty: himalaya's ``cv_scores`` with the sign changed.
    """

    coef: tuple
    intercept: np.ndarray
    alphas: np.ndarray
    gammas: np.ndarray
    loss: np.ndarray
    losses: np.ndarray

    @property
    def deltas(self):
        """``log(gamma / alpha)`` of shape (n_targets, n_spaces): himalaya's ``deltas_``, transposed; -inf where gamma is 0."""
        with np.errstate(divide="ignore"):
            return np.log(self.gammas / self.alphas[:, None])


def sample_gammas(n_iter, n_spaces, concentration=(0.1, 1.0), seed=0):
    """Draw weights of feature spaces from Dirichlet distributions, equal weights first.

    The first row is ``1 / n_spaces`` everywhere, as in himalaya's random search. Row i has the concentration
    ``concentration[i % len(concentration)]``, and a longer draw begins with the rows of a shorter one.

    Parameters
    ----------
    n_iter : int
        Rows to draw, with the first.
    n_spaces : int
        Feature spaces.
    concentration : sequence of float
        Above 0: far below 1 favours one space alone, 1 is uniform, far above 1 favours equal weights.
    seed : int
        Seed of the draw.

    Returns
    -------
    gammas : ndarray of shape (n_iter, n_spaces), float64
        Not negative; every row adds up to 1.

    Raises
    ------
    SettingsError
        When a number is out of bounds.

    Examples
    --------
    >>> sample_gammas(5, 3).sum(axis=1)
    array([1., 1., 1., 1., 1.])
    """
    check_number("n_iter", n_iter, minimum=1, integer=True)
    check_number("n_spaces", n_spaces, minimum=1, integer=True)
    concentration = np.atleast_1d(np.asarray(concentration, np.float64))
    if not (concentration.size and np.isfinite(concentration).all() and (concentration > 0).all()):
        raise SettingsError(f"concentration must hold numbers above 0; got {concentration.tolist()}.")
    rng = np.random.default_rng(seed)
    gammas = [rng.dirichlet(np.full(n_spaces, concentration[i % len(concentration)])) for i in range(n_iter)]
    return np.stack([np.full(n_spaces, 1 / n_spaces), *gammas[1:]])


def fit_banded_ridge(
    spaces, Y, alphas, gammas=20, criterion=None, alpha_per_target=True, search="climb", run_labels=None, n_folds=5,
    scoring="l2", fit_intercept=True, seed=0,
):  # fmt: skip
    """Fit ridge regressions of many targets on several feature spaces, the weight of each space chosen for each target.

    Minimises ``||Y - sum_i X_i B_i||^2 + sum_i (alpha / gamma_i) ||B_i||^2``. Each draw of gammas costs one `fit_ridge` on all
    features; beside that, all products of features with features are kept, or those of scans with scans for each space.

    Parameters
    ----------
    spaces : sequence of ndarray of shape (n_scans, n_features_i)
        Feature spaces, float32 or float64. Not modified.
    Y : ndarray of shape (n_scans, n_targets)
        Targets, taken block by block.
    alphas : sequence of float
        Penalties to choose from, above 0 and ascending.
    gammas : int or array_like of shape (n_iter, n_spaces)
        Weights to choose from, not negative, or how many to draw by `sample_gammas`. Of equally good ones the first is taken.
    alpha_per_target : bool
        Whether each target has its own penalty; else each draw of gammas has one, and targets choose among the draws.
    criterion, search, run_labels, n_folds, scoring, fit_intercept : optional
        How a penalty is chosen, see `fit_ridge`; draws of gammas are compared by the same criterion.
    seed : int
        Seed of the draw of gammas.

    Returns
    -------
    fit : BandedFit
        Coefficients, intercepts, penalties and losses.

    Raises
    ------
    SettingsError
        When options make no sense together, or gammas do not go with the spaces.
    FormatError
        When features or targets hold NaN, or do not go together.

    References
    ----------
    Dupre la Tour, Eickenberg, Nunez-Elizalde, Gallant (2022). Feature-space selection with banded ridge regression.
    NeuroImage 264, 119728.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> motion, words = rng.standard_normal((60, 4)), rng.standard_normal((60, 7))
    >>> Y = words @ rng.standard_normal((7, 2)) + rng.standard_normal((60, 2))
    >>> fit_banded_ridge([motion, words], Y, [1.0, 10.0], gammas=[[0.5, 0.5], [1, 0], [0, 1]]).gammas
    array([[0., 1.],
           [0., 1.]])
    """
    spaces, alphas = _check_spaces(spaces), check_alphas(alphas)
    Y = check_targets(Y, len(spaces[0]))
    gammas = sample_gammas(gammas, len(spaces), seed=seed) if isinstance(gammas, Integral) else _check_gammas(gammas, len(spaces))
    runs = None if run_labels is None else check_runs(run_labels, len(Y))
    criterion = choose_criterion(criterion, runs, len(alphas) * len(gammas))
    check_choice("search", search, SEARCHES)
    check_choice("scoring", scoring, SCORINGS)
    if scoring != "l2" and criterion not in ("kfold", "none"):
        raise SettingsError(f"scoring must be l2 with criterion {criterion!r}; got {scoring!r}, which only 'kfold' knows.")
    problem = _Problem(spaces, Y, fit_intercept)
    make_rule = partial(make_criterion, criterion, alphas=alphas, runs=runs, n_folds=n_folds, scoring=scoring, centred=True)
    coef, places, losses = _try_gammas(problem, gammas, make_rule, alphas, alpha_per_target, search)
    best, everyone = np.where(np.isnan(losses), np.inf, losses).argmin(axis=0), np.arange(Y.shape[1])
    intercept = (problem.Y_mean - problem.X_mean @ coef).astype(coef.dtype)
    coef, alphas = tuple(np.split(coef, problem.edges)), alphas[places[best, everyone]]
    return BandedFit(coef, intercept, alphas, gammas[best], losses[best, everyone], losses)


def predict_banded(fit, spaces):
    """Predict targets, and tell what each feature space contributes.

    ``split_r2(Y - fit.intercept, contributions)`` adds up to the R^2 of the prediction, see `split_r2`.

    Parameters
    ----------
    fit : BandedFit
        Of `fit_banded_ridge`.
    spaces : sequence of ndarray of shape (n_scans, n_features_i)
        The same features of other scans, in the order of the fit.

    Returns
    -------
    contributions : ndarray of shape (n_spaces, n_scans, n_targets)
        ``X_i B_i``, in the unit of the targets.
    prediction : ndarray of shape (n_scans, n_targets)
        Their sum and the intercept.

    Raises
    ------
    FormatError
        When the spaces are not those of the fit.
    """
    spaces = _check_spaces(spaces)
    expected, came = [len(coef) for coef in fit.coef], [X.shape[1] for X in spaces]
    if came != expected:
        raise FormatError(f"spaces must have {expected} features, as in the fit; got {came}.")
    contributions = np.stack([X @ coef for X, coef in zip(spaces, fit.coef, strict=True)])
    return contributions, contributions.sum(axis=0) + fit.intercept


class _Problem:
    """All spaces side by side and centred, with the products that are only scaled from one draw of gammas to the next."""

    def __init__(self, spaces, Y, fit_intercept):
        self.sizes, self.fit_intercept, self.Y = [X.shape[1] for X in spaces], fit_intercept, Y
        self.edges = np.cumsum(self.sizes)[:-1]
        self.X = np.concatenate(spaces, axis=1, dtype=np.result_type(Y, *spaces))
        self.X_mean, self.Y_mean = (mean_of_columns(matrix) * fit_intercept for matrix in (self.X, Y))
        np.subtract(self.X, self.X_mean, out=self.X, casting="same_kind")
        self.by_scans, zeros = prefers_kernel(*self.X.shape), np.zeros(self.X.shape[1])
        self.gram = None if self.by_scans else gram_matrix(self.X, zeros)
        self.kernels = [kernel_matrix(X, zeros) for X in np.split(self.X, self.edges, axis=1)] if self.by_scans else None

    def scale(self, gamma):
        """Features of some weight times its root, their decomposition, and the one that gives coefficients of all features."""
        weights = np.sqrt(np.repeat(gamma, self.sizes))
        kept = np.flatnonzero(weights)
        X = self.X[:, kept] * weights[kept].astype(self.X.dtype)
        decomposition = self._decompose(X, gamma, weights, kept)
        V = np.zeros((len(weights), decomposition.rank), X.dtype)
        V[kept] = decomposition.V * weights[kept, None].astype(X.dtype)
        return X, decomposition, replace(decomposition, V=V, X_mean=self.X_mean)

    def target_blocks(self):
        """Centred targets, the values of one together in memory."""
        for start in range(0, self.Y.shape[1], TARGETS_AT_ONCE):
            columns = slice(start, start + TARGETS_AT_ONCE)
            part, mean = self.Y[:, columns], self.Y_mean[columns].astype(self.X.dtype)
            yield columns, np.subtract(part, mean, order="F", dtype=self.X.dtype)

    def _decompose(self, X, gamma, weights, kept):
        if not self.by_scans:
            gram = self.gram[np.ix_(kept, kept)] * weights[kept]
            gram *= weights[kept, None]
            return decompose(X, self.fit_intercept, X.dtype, gram=gram)
        kernel = sum(weight * kernel for weight, kernel in zip(gamma, self.kernels, strict=True))
        # The decomposition of X' from its Gram matrix XX' is that of X with its sides exchanged.
        found = decompose(X.T, False, X.dtype, gram=kernel)
        return replace(found, U=found.V, V=found.U, X_mean=np.zeros(len(kept)), fit_intercept=self.fit_intercept)


def _try_gammas(problem, gammas, make_rule, alphas, alpha_per_target, search):
    """Coefficients of each target's best draw, and the place and loss of the penalty of every draw."""
    n_targets = problem.Y.shape[1]
    places, losses = np.zeros((len(gammas), n_targets), int), np.full((len(gammas), n_targets), np.nan)
    coef, lowest = np.zeros((len(problem.X_mean), n_targets), problem.X.dtype), np.full(n_targets, np.inf)
    for draw, gamma in enumerate(gammas):
        X, decomposition, unscaled = problem.scale(gamma)
        rule = make_rule(decomposition, X)
        shared = None if alpha_per_target or rule is None else _choose_shared(rule, problem, search)
        for columns, part in problem.target_blocks():
            Z, places[draw, columns], losses[draw, columns] = _choose(rule, decomposition, part, search, shared)
            # Where no loss is a number, the first draw stays.
            better = np.flatnonzero((losses[draw, columns] < lowest[columns]) | (draw == 0))
            chosen = alphas[places[draw, columns][better]]
            coef[:, columns][:, better] = coefficients(unscaled, chosen, Z.T[better].T)
        lowest = np.fmin(lowest, losses[draw])
    return coef, places, losses


def _choose(rule, decomposition, part, search, shared):
    """``U'Y`` of a block of targets, and the place and loss of each target's penalty."""
    if rule is None:
        return decomposition.project(part), 0, np.nan
    projections = rule.project(part)
    Z = rule.of_all_scans(projections)
    if shared is not None:
        return Z, shared, rule.evaluate(shared, projections, part)
    places, losses = choose_each(rule, projections, part, search)
    return Z, places, losses[places, np.arange(len(places))]


def _choose_shared(rule, problem, search):
    """The place of one penalty for all targets."""
    sums = rule.start_sums()
    for _, part in problem.target_blocks():
        rule.add(sums, rule.project(part), part)
    return choose_one(rule, sums, search)[0]


def _check_spaces(spaces):
    spaces = [check_features(X, f"spaces[{i}]") for i, X in enumerate(spaces)]
    if not spaces:
        raise FormatError("spaces must hold at least one feature space; got none.")
    if len({len(X) for X in spaces}) > 1:
        raise FormatError(f"all spaces must have the same scans; got {', '.join(str(len(X)) for X in spaces)} scans.")
    return spaces


def _check_gammas(gammas, n_spaces):
    gammas = np.asarray(gammas, np.float64)
    if gammas.ndim != 2 or gammas.shape[1] != n_spaces or not len(gammas):
        raise SettingsError(f"gammas must be a whole number or have shape (n_iter, {n_spaces}); got shape {gammas.shape}.")
    if len(wrong := gammas[~(np.isfinite(gammas) & (gammas >= 0))]):
        raise SettingsError(f"gammas must be finite and not negative; got {wrong[0]:g}.")
    if (empty := np.flatnonzero(~gammas.any(axis=1))).size:
        raise SettingsError(f"every row of gammas must give weight to a space; row {empty[0]} is zero everywhere.")
    return gammas
