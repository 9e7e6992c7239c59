"""What every criterion of a penalty shares: its sums over targets, and where its search starts."""

import numpy as np

from sparkneuro.encoding.residuals import sum_of_squares


class Criterion:
    """A loss of held-out scans, for each penalty, from one decomposition of all scans.

    A subclass has the mathematics: ``_evaluate``, and for one penalty for all targets ``_own_sums``, ``_add`` and ``_loss``;
    where `takes_gram`, ``_add_gram`` too. Sums over targets are the only thing that parts of the targets must exchange.

    Parameters
    ----------
    decomposition : Decomposition
        Of the features.
    alphas : ndarray of shape (n_alphas,)
        Penalties, ascending.
    """

    takes_gram = False
    """Whether products of scans with scans say enough of the targets."""

    def __init__(self, decomposition, alphas):
        self.decomposition, self.alphas = decomposition, np.asarray(alphas, np.float64)
        self.shrinkage = decomposition.shrinkage(self.alphas)
        self.given_up = given_up(decomposition.eigenvalues, self.alphas)

    def project(self, Y):
        """Project targets on what the criterion needs.

        Parameters
        ----------
        Y : ndarray of shape (n_scans, n_targets)
            Centred targets.

        Returns
        -------
        Z : ndarray of shape (rank, n_targets)
            ``U'Y``.
        """
        return self.decomposition.project(Y)

    def of_all_scans(self, projections):
        """Find the projections from which coefficients follow.

        Parameters
        ----------
        projections : ndarray of shape (n_projections, n_targets)
            Of `project`.

        Returns
        -------
        Z : ndarray of shape (rank, n_targets)
            ``U'Y`` of all scans: they come first, whatever else a criterion projects on.
        """
        return projections[: self.decomposition.rank]

    def start_sums(self, allocate=np.zeros):
        """Make the sums over targets from which one penalty for all is chosen.

        Parameters
        ----------
        allocate : callable
            ``allocate(shape, dtype)`` makes an array of zeros, in a file where it is larger than a task should keep in memory.

        Returns
        -------
        sums : dict of str to ndarray
            Zeros; sums of parts of the targets add up elementwise. ``total``, the sum of squares of all targets; ``energy``, of
            each of their projections; ``n_targets``; and what the criterion itself needs.
        """
        shared = {"total": np.zeros(1), "energy": np.zeros(self.decomposition.rank), "n_targets": np.zeros(1)}
        return {**shared, **self._own_sums(allocate)}

    def add(self, sums, projections, Y):
        """Add targets to the sums, in place.

        Parameters
        ----------
        sums : dict of str to ndarray
            Of `start_sums`.
        projections : ndarray of shape (n_projections, n_targets)
            Of `project`.
        Y : ndarray of shape (n_scans, n_targets)
            Centred targets.
        """
        Z = self.of_all_scans(projections)
        sums["n_targets"] += Y.shape[1]
        sums["total"] += sum_of_squares(Y).sum()
        sums["energy"] += np.einsum("kj,kj->k", Z, Z)
        self._add(sums, projections, Y)

    def add_gram(self, sums, gram, n_targets):
        """Add targets of which only the products of scans with scans are known.

        Parameters
        ----------
        sums : dict of str to ndarray
            Of `start_sums`.
        gram : ndarray of shape (n_scans, n_scans)
            ``Y Y'`` of centred targets.
        n_targets : int
            How many they are.
        """
        U = self.decomposition.U
        product = gram.astype(U.dtype, copy=False) @ U
        inner = U.T @ product
        sums["n_targets"] += n_targets
        sums["total"] += np.trace(gram)
        sums["energy"] += np.diagonal(inner)
        self._add_gram(sums, gram, product, inner)

    def loss(self, sums, index):
        """Compute the criterion of one penalty for all targets.

        Parameters
        ----------
        sums : dict of str to ndarray
            Of all targets.
        index : int
            Which penalty.

        Returns
        -------
        loss : float
            Mean over targets of what `evaluate` gives.
        """
        return float(self._loss(sums, index) / sums["n_targets"][0])

    def evaluate(self, index, projections, Y):
        """Compute the criterion of one penalty for each target.

        Parameters
        ----------
        index : int
            Which penalty.
        projections : ndarray of shape (n_projections, n_targets)
            Of `project`.
        Y : ndarray of shape (n_scans, n_targets)
            Centred targets.

        Returns
        -------
        losses : ndarray of shape (n_targets,), float64
            Mean squared held-out error, in the unit of the targets squared; or a correlation with the sign changed.
        """
        return self._evaluate(index, projections, Y)

    def start(self, projections, Y):
        """Choose where the search of each target's penalty starts.

        Parameters
        ----------
        projections : ndarray of shape (n_projections, n_targets)
            Of `project`.
        Y : ndarray of shape (n_scans, n_targets)
            Centred targets.

        Returns
        -------
        index : ndarray of shape (n_targets,), int
            The penalty with the smallest generalised cross-validation.
        """
        return self.gcv_losses(np.square(self.of_all_scans(projections)), sum_of_squares(Y)).argmin(axis=0)

    def start_all(self, sums):
        """Choose where the search of the penalty of all targets starts.

        Parameters
        ----------
        sums : dict of str to ndarray
            Of all targets.

        Returns
        -------
        index : int
            The penalty with the smallest generalised cross-validation.
        """
        return int(self.gcv_losses(sums["energy"][:, None], sums["total"]).argmin())

    def gcv_losses(self, energy, squares):
        """Compute generalised cross-validation, see `gcv_losses`, of every penalty.

        Parameters
        ----------
        energy : ndarray of shape (rank, n_targets)
            Squares of the projected targets.
        squares : ndarray of shape (n_targets,)
            Sums of squares of the centred targets.

        Returns
        -------
        losses : ndarray of shape (n_alphas, n_targets), float64
            In the unit of the targets squared.
        """
        return gcv_losses(self.given_up, self.decomposition.n_scans, self.decomposition.fit_intercept, energy, squares)

    def _weight(self, index):
        """What residuals are found from: what is kept of each direction, or given up where directions span all scans."""
        return (self.given_up if self.decomposition.saturated else self.shrinkage)[index]


def given_up(eigenvalues, alphas):
    """Tell how much of each direction a ridge regression gives up, ``alpha / (s^2 + alpha)``: 1 - shrinkage to all digits.

    Parameters
    ----------
    eigenvalues : ndarray of shape (rank,)
        Squared singular values.
    alphas : ndarray of shape (n_alphas,)
        Penalties.

    Returns
    -------
    given_up : ndarray of shape (n_alphas, rank), float64
        Between 0 and 1.
    """
    return alphas[:, None] / (eigenvalues + alphas[:, None])


def gcv_losses(given_up, n_scans, fit_intercept, energy, squares):
    """Compute the criterion of every penalty.

    Parameters
    ----------
    given_up : ndarray of shape (n_alphas, rank)
        How much of each direction each penalty gives up.
    n_scans : int
        Scans of the targets.
    fit_intercept : bool
        Whether they are centred.
    energy : ndarray of shape (rank, n_targets)
        Squares of the projected targets.
    squares : ndarray of shape (n_targets,)
        Sums of squares of the centred targets.

    Returns
    -------
    losses : ndarray of shape (n_alphas, n_targets), float64
        In the unit of the targets squared.
    """
    # What is in no direction. Where they span all scans this is nothing, and rounding must not drown what shrinkage leaves.
    n_outside = max(n_scans - fit_intercept - given_up.shape[1], 0)
    outside = np.maximum(squares - energy.sum(axis=0, dtype=np.float64), 0.0) if n_outside else 0.0
    residual = outside + np.square(given_up).astype(energy.dtype) @ energy
    freedom = n_outside + given_up.sum(axis=1, keepdims=True)
    return residual * n_scans / np.square(freedom)
