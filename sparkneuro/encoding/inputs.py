"""Features, targets and penalties as they come from a user, checked once at the door."""

import numpy as np

from sparkneuro.errors import FormatError, SettingsError

BYTES_AT_ONCE = 4 << 20
"""Of the scans that are widened to float64 together: few enough to stay in the processor's cache."""


def check_alphas(alphas):
    """Return penalties as an array when they are above 0 and ascending.

    Parameters
    ----------
    alphas : float or sequence of float
        What came.

    Returns
    -------
    alphas : ndarray of shape (n_alphas,), float64
        The penalties.

    Raises
    ------
    SettingsError
        When there is none, one is not above 0, or they are not ascending.

    Examples
    --------
    >>> check_alphas([0.1, 1, 10])
    array([ 0.1,  1. , 10. ])
    """
    try:
        values = np.atleast_1d(np.asarray(alphas, np.float64))
    except (TypeError, ValueError) as error:
        raise SettingsError(f"alphas must be numbers; got {alphas!r}.") from error
    if values.ndim != 1 or not values.size:
        raise SettingsError(f"alphas must be one or more numbers in a row; got shape {values.shape}.")
    if not (np.isfinite(values).all() and (values > 0).all()):
        wrong = values[~(np.isfinite(values) & (values > 0))][0]
        raise SettingsError(f"alphas must be above 0 and finite; got {wrong:g}.")
    if (np.diff(values) <= 0).any():
        raise SettingsError(f"alphas must ascend without repeats; got {', '.join(f'{value:g}' for value in values)}.")
    return values


def check_features(X, name="X"):
    """Return features as a floating-point matrix when every value is finite.

    Parameters
    ----------
    X : array_like of shape (n_scans, n_features)
        What came.
    name : str
        As the user knows it.

    Returns
    -------
    X : ndarray of shape (n_scans, n_features)
        float32 stays, everything else is float64.

    Raises
    ------
    FormatError
        When it is no matrix, has fewer than two scans, or holds NaN or infinity.
    """
    X = _as_float(X, name)
    if X.ndim != 2 or X.shape[1] == 0:
        raise FormatError(f"{name} must have shape (n_scans, n_features); got {X.shape}.")
    if len(X) < 2:
        raise FormatError(f"{name} must have at least two scans; got n_samples = {len(X)}.")
    _refuse_non_finite(X, name, "feature")
    return X


def check_targets(Y, n_scans, name="Y"):
    """Return targets as a floating-point matrix when every value is finite and they go with the features.

    Parameters
    ----------
    Y : array_like of shape (n_scans, n_targets)
        What came.
    n_scans : int
        Scans of the features.
    name : str
        As the user knows it.

    Returns
    -------
    Y : ndarray of shape (n_scans, n_targets)
        float32 stays, everything else is float64.

    Raises
    ------
    FormatError
        When it is no matrix, has another number of scans, or holds NaN or infinity.
    """
    Y = _as_float(Y, name)
    if Y.ndim != 2 or Y.shape[1] == 0:
        raise FormatError(f"{name} must have shape (n_scans, n_targets); got {Y.shape}.")
    if len(Y) != n_scans:
        raise FormatError(f"{name} must have the {n_scans} scans of the features; got {len(Y)}.")
    _refuse_non_finite(Y, name, "target")
    return Y


def mean_of_columns(matrix):
    """Average each column in float64, without a float64 copy; about the first scan, so that a constant is its own average.

    Parameters
    ----------
    matrix : ndarray of shape (n_scans, n)
        Features or targets.

    Returns
    -------
    mean : ndarray of shape (n,), float64
        In their unit.
    """
    total, first = np.zeros(matrix.shape[1]), np.asarray(matrix[:1], np.float64)
    size = max(1, BYTES_AT_ONCE // first.nbytes)
    for start in range(0, len(matrix), size):
        total += (matrix[start : start + size] - first).sum(axis=0)
    return first[0] + total / len(matrix)


def find_constant(matrix):
    """Find columns that never change.

    Parameters
    ----------
    matrix : ndarray of shape (n_scans, n)
        Features or targets.

    Returns
    -------
    places : ndarray of int
        Of the constant columns.
    """
    places = np.flatnonzero(matrix[0] == matrix[-1])
    for row in range(1, len(matrix)):
        if not len(places):
            break
        places = places[matrix[row, places] == matrix[0, places]]
    return places


def describe_places(places, noun):
    """Name a few places of many.

    Parameters
    ----------
    places : sequence of int
        Which.
    noun : str
        What they are, in the singular.

    Returns
    -------
    text : str
        E.g. ``2 features (3, 17)``.

    Examples
    --------
    >>> describe_places([3, 17], "feature")
    '2 features (3, 17)'
    """
    listed = ", ".join(str(place) for place in places[:5]) + (", ..." if len(places) > 5 else "")
    return f"{len(places)} {noun}{'' if len(places) == 1 else 's'} ({listed})"


def _as_float(matrix, name):
    try:
        matrix = np.asarray(matrix)
        if np.iscomplexobj(matrix):
            raise FormatError(f"{name} must be real; got complex numbers. Complex data not supported.")
        return matrix if matrix.dtype == np.float32 else np.asarray(matrix, np.float64)
    except (TypeError, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"{name} must be an array of numbers ({error}).") from error


def _refuse_non_finite(matrix, name, noun):
    # A sum is finite only if all are, and costs no array of booleans; a sum that overflows is looked at again.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(matrix.sum()):
            return
    finite = np.isfinite(matrix)
    if not finite.all():
        scan, column = np.argwhere(~finite)[0]
        n_wrong = finite.size - int(finite.sum())
        what = f"{noun} {column} of scan {scan} is {matrix[scan, column]}"
        raise FormatError(f"{name} must hold no NaN and no infinity; {what} ({n_wrong} such values). Replace or leave them out.")
