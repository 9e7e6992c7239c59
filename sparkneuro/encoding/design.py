"""What all targets of a fit share, as files: the decomposed features, and what turns projected targets into results.

    PATH/design.json            sizes and choices; written last, so a folder without it is unfinished
    PATH/U-0.npy                left singular vectors of the training scans (n_train, rank)
    PATH/eigenvalues-0.npy
    PATH/mean.npy               of each training feature, before any weighting
    PATH/basis-0.npy            (n_features + n_test, rank): coefficients above, predictions of test scans below
    PATH/X-0.npy, fold...       what k-fold needs besides
    PATH/order.npy              training scans before test scans, where they are not whole runs

One number more than 0 stands for another weighting of the feature spaces (banded ridge). Tasks map these files into memory.
"""

import json
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from itertools import accumulate
from pathlib import Path

import numpy as np

from sparkneuro.data import store
from sparkneuro.data.array_file import create_array, open_array, write_array
from sparkneuro.encoding.choice import make_criterion
from sparkneuro.encoding.decomposition import Decomposition, decompose, prefers_kernel
from sparkneuro.encoding.kfold import KFold
from sparkneuro.errors import FormatError

RECORD = "design.json"
ROWS_AT_ONCE = 2048


@dataclass(frozen=True)
class Design:
    """Sizes and choices of a design.

    Parameters
    ----------
    path : str
        Path or URI of its folder.
    n_train, n_test : int
        Training and test scans.
    n_features : int
        Columns, delays included.
    run_sizes : tuple of int
        Training scans of each run.
    alphas : tuple of float
        Penalties to choose from, ascending.
    gammas : tuple of tuple of float
        Weights of the feature spaces, one row a decomposition.
    criterion, scoring, search : str
        How a penalty is chosen, see `fit_ridge`; criterion "none" where it is known.
    n_folds : int
        Folds of "kfold".
    coefficients : bool
        Whether the basis gives coefficients too.
    shuffled : bool
        Whether training and test scans are not whole runs.
    identity : str
        Of all that it was made from; another identity is another design.
    """

    path: str
    n_train: int
    n_test: int
    n_features: int
    run_sizes: tuple
    alphas: tuple
    gammas: tuple
    criterion: str
    scoring: str
    search: str
    n_folds: int
    coefficients: bool
    shuffled: bool
    identity: str

    @classmethod
    def open(cls, path):
        """Read a design's record.

        Parameters
        ----------
        path : str
            Path or URI of its folder.

        Returns
        -------
        design : Design
            The design.

        Raises
        ------
        FormatError
            When it is missing or damaged.
        """
        try:
            content = json.loads(store.read_bytes(store.join(path, RECORD)))
            lists = ("run_sizes", "alphas")
            values = {**content, **{name: tuple(content[name]) for name in lists}, "gammas": tuple(map(tuple, content["gammas"]))}
            return cls(**{**values, "path": str(path)})
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(f"{path}: {RECORD} is damaged ({error!r}); fit the model again.") from error

    @property
    def runs(self):
        """Training scans of each run, as slices."""
        ends = list(accumulate(self.run_sizes))
        return [slice(end - size, end) for end, size in zip(ends, self.run_sizes, strict=True)]

    def array(self, name, place=None):
        """Map one of the arrays into memory.

        Parameters
        ----------
        name : str
            Such as "U".
        place : int or None
            Which weighting of the feature spaces; None for an array of the whole design.

        Returns
        -------
        array : ndarray
            Read-only.
        """
        return open_array(store.join(self.path, _file(name, place)))

    def order(self):
        """Tell where the scans of all runs go.

        Returns
        -------
        order : ndarray of int or None
            Scans in the order of the design; None where that is the order of the runs.
        """
        return np.asarray(self.array("order")) if self.shuffled else None


@lru_cache(maxsize=8)
def open_rule(design, place):
    """Make a design's criterion from its files; kept for the next task of this process.

    Parameters
    ----------
    design : Design
        The design.
    place : int
        Which weighting of the feature spaces.

    Returns
    -------
    decomposition : Decomposition
        Its V is empty but where k-fold needs it.
    rule : object or None
        Of `make_criterion`; None where the penalty is known.
    """
    alphas, U = np.asarray(design.alphas), design.array("U", place)
    eigenvalues, mean = np.asarray(design.array("eigenvalues", place)), np.asarray(design.array("mean"))
    decomposition = Decomposition(U, eigenvalues, np.empty((0, U.shape[1]), U.dtype), mean)
    if design.criterion == "kfold":
        decomposition = Decomposition(U, eigenvalues, design.array("V", place), mean)
        arrays = {name: design.array(name, place) for name in KFold.array_names(design.n_folds)}
        return decomposition, KFold.from_arrays(decomposition, alphas, design.scoring, arrays)
    return decomposition, make_criterion(design.criterion, decomposition, None, alphas, design.runs)


def write_design(design, training, test, scales, gram=None, order=None):
    """Decompose features and write a design's files.

    Parameters
    ----------
    design : Design
        What is written, and where.
    training, test : callable
        ``scale -> features`` (n_train or n_test, n_features), of which only slices are taken; `scale` (n_features,) multiplies
        their columns.
    scales : ndarray of shape (n_weightings, n_features)
        Square root of the weight of each column's feature space.
    gram : ndarray of shape (n_features, n_features), float64, or None
        ``X'X`` of the training scans without any scale, where it is known; overwritten.
    order : ndarray of int or None
        See `Design.order`.
    """
    with _array_folder(design.path) as (create, publish):
        for place, scale in enumerate(scales):
            X = training(scale)
            known = gram if gram is None or (len(scales) == 1 and (scale == 1).all()) else gram * scale * scale[:, None]
            decomposition = decompose(X, True, np.float32, known, partial(create, "U", place))
            publish("U", place, decomposition.U)
            _write_basis(design, place, decomposition, test(scale), scale, create, publish)
            write_array(store.join(design.path, _file("eigenvalues", place)), decomposition.eigenvalues)
            if place == 0:  # the first weighting weighs all alike, so that no feature is lost
                write_array(store.join(design.path, _file("mean")), decomposition.X_mean / scale)
            if design.criterion == "kfold":
                _write_folds(design, place, decomposition, X)
    if order is not None:
        write_array(store.join(design.path, _file("order")), order)
    content = {name: value for name, value in asdict(design).items() if name != "path"}
    store.write_bytes(store.join(design.path, RECORD), json.dumps(content, indent=1).encode())


def finds_gram(n_scans, n_features):
    """Tell whether a design is decomposed by ``X'X``, so that it is worth knowing.

    Parameters
    ----------
    n_scans, n_features : int
        Shape of the training features.

    Returns
    -------
    wanted : bool
        Whether ``X'X`` is used.
    """
    return not prefers_kernel(n_scans, n_features)


def _write_basis(design, place, decomposition, test, scale, create, publish):
    n_above = design.n_features if design.coefficients else 0
    basis = create("basis", place, (n_above + len(test), decomposition.rank), decomposition.U.dtype)
    if n_above:
        basis[:n_above] = decomposition.V * scale[:, None].astype(basis.dtype)
    for start in range(0, len(test), ROWS_AT_ONCE):
        rows = slice(start, min(start + ROWS_AT_ONCE, len(test)))
        centred = (test[rows] - decomposition.X_mean).astype(basis.dtype)
        basis[n_above + rows.start : n_above + rows.stop] = centred @ decomposition.V
    publish("basis", place, basis)


def _write_folds(design, place, decomposition, X):
    centred = np.concatenate([X[start : start + ROWS_AT_ONCE] for start in range(0, len(X), ROWS_AT_ONCE)])
    centred -= decomposition.X_mean.astype(centred.dtype)
    rule = make_criterion(
        "kfold", decomposition, centred, np.asarray(design.alphas), design.runs, design.n_folds, design.scoring, centred=True
    )
    for name, array in {**rule.to_arrays(), "V": decomposition.V}.items():
        write_array(store.join(design.path, _file(name, place)), array)


def _file(name, place=None):
    return f"{name}.npy" if place is None else f"{name}-{place}.npy"


@contextmanager
def _array_folder(path):
    """Functions that make an array file and that bring it to the folder: it is made there, or near and then copied."""
    if store.is_local(path):
        inner = store.locate(path)[1]
        Path(inner).mkdir(parents=True, exist_ok=True)
        yield lambda name, place, shape, dtype: create_array(f"{inner}/{_file(name, place)}", shape, dtype), _flush
        return
    with tempfile.TemporaryDirectory(prefix="sparkneuro-design-") as near:

        def publish(name, place, array):
            write_array(store.join(path, _file(name, place)), array)

        yield lambda name, place, shape, dtype: create_array(f"{near}/{_file(name, place)}", shape, dtype), publish


def _flush(name, place, array):
    array.flush()
