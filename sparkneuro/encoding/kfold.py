"""k-fold cross-validation, each fold from a decomposition of its training scans.

What the training scans say about a target, ``X_tr' Y_tr``, is the total less the fold's own part, so the targets are multiplied
with the features once and not once a fold.
"""

from functools import partial

import numpy as np

from sparkneuro.encoding.criterion import Criterion
from sparkneuro.encoding.decomposition import gram_matrix, prefers_kernel
from sparkneuro.encoding.fold import Fold, as_slice, fold_by_products, fold_by_scans
from sparkneuro.encoding.residuals import column_blocks, sum_of_squares, symmetric_product

SCORINGS = ("l2", "correlation")
FOLD_PARTS = ("test", "eigenvalues", "basis", "projector")


class KFold(Criterion):
    """The criterion of himalaya's `RidgeCV`, and scikit-learn's with ``cv=k``.

    Parameters
    ----------
    decomposition : Decomposition
        Of all scans.
    X : ndarray of shape (n_scans, n_features)
        The features less their mean.
    alphas : ndarray of shape (n_alphas,)
        Penalties, ascending.
    folds : list of slice or of ndarray of int
        Held-out scans of each fold.
    scoring : {"l2", "correlation"}
        Mean squared error, or Pearson correlation with the sign changed. Folds count equally.
    """

    def __init__(self, decomposition, X, alphas, folds, scoring="l2"):
        self._set(decomposition, X, alphas, scoring)
        smallest = len(X) - max(len(X[test]) for test in folds)
        self._by_products = not prefers_kernel(smallest, X.shape[1])
        gram = gram_matrix(X, np.zeros(X.shape[1])) if self._by_products else None
        make = partial(fold_by_products, X, gram) if self._by_products else partial(fold_by_scans, X)
        for test in folds:
            test = np.arange(len(X))[test]
            eigenvalues, basis, projector = make(test, self.fit_intercept)
            self._append(test, eigenvalues, basis.astype(X.dtype), projector.astype(X.dtype))

    @classmethod
    def from_arrays(cls, decomposition, alphas, scoring, arrays):
        """Make the criterion that `to_arrays` took apart.

        Parameters
        ----------
        decomposition : Decomposition
            Of all scans.
        alphas : ndarray of shape (n_alphas,)
            Penalties, ascending.
        scoring : {"l2", "correlation"}
            See the class.
        arrays : dict of str to ndarray
            Of `to_arrays`, e.g. mapped into memory.

        Returns
        -------
        rule : KFold
            The same criterion.
        """
        rule = cls.__new__(cls)
        rule._set(decomposition, arrays["X"], alphas, scoring)
        for place in range((len(arrays) - 1) // 4):
            rule._append(*(arrays[f"fold{place}_{part}"] for part in FOLD_PARTS))
        rule._by_products = rule.folds[0].projector.shape[1] == arrays["X"].shape[1] + 1
        return rule

    def to_arrays(self):
        """Take the criterion apart into arrays that can be written.

        Returns
        -------
        arrays : dict of str to ndarray
            The features, and four arrays a fold.
        """
        arrays = {"X": self.X}
        for place, fold in enumerate(self.folds):
            parts = (np.arange(len(self.X))[fold.test], fold.eigenvalues, fold.basis, fold.projector)
            arrays |= {f"fold{place}_{part}": array for part, array in zip(FOLD_PARTS, parts, strict=True)}
        return arrays

    @staticmethod
    def array_names(n_folds):
        """Name the arrays of `to_arrays`.

        Parameters
        ----------
        n_folds : int
            Folds.

        Returns
        -------
        names : list of str
            Their names.
        """
        return ["X", *(f"fold{place}_{part}" for place in range(n_folds) for part in FOLD_PARTS)]

    def _set(self, decomposition, X, alphas, scoring):
        super().__init__(decomposition, alphas)
        self.X, self.folds, self.scoring, self.fit_intercept = X, [], scoring, decomposition.fit_intercept
        self.n_projections = decomposition.rank
        self._projector = (decomposition.V / np.sqrt(decomposition.eigenvalues).astype(X.dtype)).T

    def _append(self, test, eigenvalues, basis, projector):
        rows = slice(self.n_projections, self.n_projections + len(projector) + 1)
        shrinkage = eigenvalues / (eigenvalues + self.alphas[:, None])
        kept = as_slice(test)
        self.folds.append(Fold(kept, len(self.X) - len(test), eigenvalues, shrinkage, basis, projector, rows))
        self.n_projections = rows.stop

    def project(self, Y):
        """Project targets on the training vectors of every fold.

        Parameters
        ----------
        Y : ndarray of shape (n_scans, n_targets)
            Centred targets.

        Returns
        -------
        projections : ndarray of shape (rank + sum over folds of rank + 1, n_targets)
            ``U'Y`` of all scans, and for each fold ``U_tr' Y_tr`` and the training mean; a target's values together in memory.
        """
        projections = np.empty((Y.shape[1], self.n_projections), self.X.dtype).T
        products = self._products(Y) if self._by_products else None
        total, rank = Y.sum(axis=0), self.decomposition.rank
        if products is None:
            projections[:rank] = self.decomposition.project(Y)
        else:
            np.matmul(products[-1], self._projector.T, out=projections[:rank].T)
        for place, fold in enumerate(self.folds):
            into = projections[fold.rows]
            into[-1] = (total - Y[fold.test].sum(axis=0)) / fold.n_training * self.fit_intercept
            if products is None:
                training = np.delete(Y, fold.test, axis=0)
            else:
                # What the others say: the total less the fold's own part, and the mean as one row more.
                training = products[len(self.folds)]
                np.subtract(products[-1], products[place], out=training[:, :-1])
                training[:, -1] = into[-1]
                training = training.T
            np.matmul(training.T, fold.projector.T, out=into[:-1].T)
        return projections

    def _own_sums(self, allocate):
        if self.scoring == "correlation":
            return {"losses": np.zeros(len(self.alphas))}
        sums = {}
        for place, fold in enumerate(self.folds):
            rank = len(fold.projector)
            sums |= {f"squares{place}": np.zeros(1), f"cross{place}": np.zeros(rank), f"inner{place}": np.zeros((rank, rank))}
        return sums

    def _add(self, sums, projections, Y):
        if self.scoring == "correlation":
            # A mean of correlations is no sum of products: every penalty is tried.
            sums["losses"] += [self.evaluate(index, projections, Y).sum() for index in range(len(self.alphas))]
            return
        for place, fold in enumerate(self.folds):
            Z, mean = projections[fold.rows][:-1], projections[fold.rows][-1]
            held_out = Y[fold.test] - mean
            sums[f"squares{place}"] += sum_of_squares(held_out).sum()
            sums[f"cross{place}"] += np.einsum("ik,ik->k", fold.basis[:, :-1], held_out @ Z.T, dtype=np.float64)
            sums[f"inner{place}"] += symmetric_product(Z)

    def _loss(self, sums, index):
        total = 0.0
        if self.scoring == "correlation":
            return sums["losses"][index]
        for place, fold in enumerate(self.folds):
            weight = fold.shrinkage[index]
            inner = weight[:, None] * sums[f"inner{place}"] * weight
            quadratic = np.einsum("kl,kl->", inner, symmetric_product(fold.basis[:, :-1].T), dtype=np.float64)
            error = sums[f"squares{place}"][0] - 2 * weight @ sums[f"cross{place}"] + quadratic
            total += error / len(fold.basis)
        return total / len(self.folds)

    def _evaluate(self, index, projections, Y):
        losses = np.zeros(Y.shape[1])
        for fold in self.folds:
            weight = np.append(fold.shrinkage[index], 1.0).astype(self.X.dtype)  # the last projection is the training mean
            held_out, part = Y[fold.test], projections[fold.rows]
            for columns in column_blocks(held_out):
                predicted = (part[:, columns].T * weight) @ fold.basis.T
                losses[columns] += _loss(held_out[:, columns].T, predicted, self.scoring)
        return losses / len(self.folds)

    def _products(self, Y):
        """``Y_f' X_f`` of each fold, room for a training part and a mean, and the total of all folds."""
        parts = [Y[fold.test].T @ self.X[fold.test] for fold in self.folds]
        total = parts[0].copy()
        for part in parts[1:]:
            total += part
        return [*parts, np.empty((Y.shape[1], self.X.shape[1] + 1), self.X.dtype), total]


def _loss(held_out, predicted, scoring):
    """Loss of each target; one a row, `predicted` is overwritten."""
    if scoring == "l2":
        error = np.subtract(held_out, predicted, out=predicted)
        return np.einsum("ji,ji->j", error, error) / error.shape[1]
    predicted -= predicted.mean(axis=1, keepdims=True)
    centred = held_out - held_out.mean(axis=1, keepdims=True)
    product = np.einsum("ji,ji->j", centred, predicted)
    norm = np.sqrt(sum_of_squares(centred.T) * sum_of_squares(predicted.T))
    # A target or a prediction that does not vary within the fold is not correlated with anything: 0, as himalaya has it.
    floor = np.finfo(centred.dtype).eps * np.abs(held_out).max(axis=1) * centred.shape[1]
    varies = (norm > 0) & (np.abs(centred).max(axis=1) > floor)
    return np.where(varies, -product / np.where(varies, norm, 1.0), 0.0)
