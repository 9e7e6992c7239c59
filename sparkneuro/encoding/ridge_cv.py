"""Ridge regression of many targets, with the interface of scikit-learn."""

import warnings

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from sparkneuro.encoding.inputs import describe_places, find_constant
from sparkneuro.encoding.ridge import fit_ridge

FLOATS = (np.float64, np.float32)


class RidgeCV(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Ridge regression whose penalty is chosen by an exact cross-validation from one decomposition of the features.

    Minimises ``||y - X w||^2 + alpha ||w||^2`` for each target; see `fit_ridge` for how. float32 stays float32.

    Parameters
    ----------
    alphas : sequence of float
        Penalties to choose from, above 0 and ascending; an only one is taken as it is.
    criterion : {"loo", "gcv", "leave_one_run_out", "kfold"} or None
        What the choice minimises. By default leaving one run out where `fit` is given runs, else leaving one scan out.
    alpha_per_target : bool
        Whether each target has its own penalty.
    search : {"climb", "exhaustive"}
        Whether penalties are tried from the minimum of generalised cross-validation on until neighbours are worse, or all.
    n_folds : int
        Folds of "kfold".
    scoring : {"l2", "correlation"}
        What "kfold" compares.
    fit_intercept : bool
        Whether features and targets are centred.

    Attributes
    ----------
    coef_ : ndarray of shape (n_targets, n_features) or (n_features,)
        Change of each target with each feature; one-dimensional where `y` was.
    intercept_ : ndarray of shape (n_targets,) or float
        In the unit of the targets; zero without an intercept.
    alpha_ : float or ndarray of shape (n_targets,)
        The chosen penalty; of each target with `alpha_per_target`.
    losses_ : ndarray of shape (n_alphas,) or (n_alphas, n_targets), float64, or None
        The criterion of each penalty; NaN where the search did not try it, None for an only penalty.
    n_features_in_ : int
        Features that were fitted.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, where `X` was a table with names.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((60, 4))
    >>> model = RidgeCV(alphas=(0.001, 1.0)).fit(X, X @ [1.0, 0.0, 2.0, -1.0])
    >>> model.alpha_, model.coef_.round(2).tolist()
    (0.001, [1.0, 0.0, 2.0, -1.0])
    """

    def __init__(
        self, alphas=(0.1, 1.0, 10.0), *, criterion=None, alpha_per_target=False, search="climb", n_folds=5, scoring="l2",
        fit_intercept=True,
    ):  # fmt: skip
        self.alphas = alphas
        self.criterion = criterion
        self.alpha_per_target = alpha_per_target
        self.search = search
        self.n_folds = n_folds
        self.scoring = scoring
        self.fit_intercept = fit_intercept

    def fit(self, X, y, run_labels=None):
        """Choose the penalty and fit the coefficients.

        Parameters
        ----------
        X : array_like of shape (n_scans, n_features)
            Features.
        y : array_like of shape (n_scans, n_targets) or (n_scans,)
            Targets.
        run_labels : sequence of shape (n_scans,) or None
            Which run each scan is of; scans of a run stand together.

        Returns
        -------
        self : RidgeCV
            Fitted.

        Raises
        ------
        SettingsError
            When options make no sense together.
        FormatError
            When features or targets hold NaN, or do not go together.

        Warns
        -----
        UserWarning
            When a feature or a target never changes: nothing can be learnt from it.
        """
        # What is not finite is refused by fit_ridge, which says where it stands.
        lenient = {"dtype": FLOATS, "ensure_all_finite": False}
        checks = ({**lenient, "ensure_min_samples": 2}, {**lenient, "ensure_2d": False, "allow_nd": True})
        X, y = validate_data(self, X, y, validate_separately=checks)
        fit = fit_ridge(
            X, y[:, None] if y.ndim == 1 else y, self.alphas, self.criterion, self.alpha_per_target, self.search, run_labels,
            self.n_folds, self.scoring, self.fit_intercept,
        )  # fmt: skip
        if self.fit_intercept:
            _warn_of_constants(X, y)
        self.coef_, self.intercept_, self.alpha_, self.losses_ = fit.coef.T, fit.intercept, fit.alphas, fit.losses
        if y.ndim == 1:
            self.coef_, self.intercept_ = fit.coef[:, 0], float(fit.intercept[0])
            self.losses_ = None if fit.losses is None else fit.losses.reshape(-1)
        if y.ndim == 1 or not self.alpha_per_target:
            self.alpha_ = float(fit.alphas[0])
        return self

    def predict(self, X):
        """Predict the targets of other scans.

        Parameters
        ----------
        X : array_like of shape (n_scans, n_features)
            Features.

        Returns
        -------
        prediction : ndarray of shape (n_scans, n_targets) or (n_scans,)
            In the unit of the targets.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=FLOATS, reset=False)
        return X @ self.coef_.T + self.intercept_


def _warn_of_constants(X, y):
    features, targets = find_constant(X), find_constant(y if y.ndim == 2 else y[:, None])
    if len(features):
        what = "a feature that never changes explains nothing and has the coefficient 0"
        warnings.warn(f"{what}: {describe_places(features, 'feature')}.", UserWarning, stacklevel=3)
    if len(targets):
        what = "a target that never changes cannot be explained and has coefficients of 0"
        warnings.warn(f"{what}: {describe_places(targets, 'target')}.", UserWarning, stacklevel=3)
