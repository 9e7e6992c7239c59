"""A model's variables as one float32 vector, and its cut into shards."""

import numpy as np

from sparkneuro.errors import SettingsError


def exchanged_variables(model):
    """List the variables that workers and servers exchange.

    Seed generators keep whole numbers, which cannot be averaged: they stay with the worker.

    Parameters
    ----------
    model : keras.Model
        A built model.

    Returns
    -------
    trainable : list of keras.Variable
        `model.trainable_variables`, in its order.
    state : list of keras.Variable
        The floating-point ones of `model.non_trainable_variables`, in their order.

    Raises
    ------
    SettingsError
        When a weight has a constraint: servers update single elements, and would not keep it.
    """
    for variable in model.trainable_variables:
        if variable.constraint is not None:
            kind = type(variable.constraint).__name__
            raise SettingsError(f"the weights of a distributed model must have no constraint; {variable.path} has {kind}.")
    state = [v for v in model.non_trainable_variables if "float" in str(v.dtype)]
    return list(model.trainable_variables), state


def flatten(arrays):
    """Lay arrays end to end in one float32 vector.

    Parameters
    ----------
    arrays : sequence of array_like
        Any shapes.

    Returns
    -------
    vector : ndarray of shape (n_weights,), float32
        The arrays' elements in C order.

    Examples
    --------
    >>> flatten([[[1, 2], [3, 4]], 5]).tolist()
    [1.0, 2.0, 3.0, 4.0, 5.0]
    """
    if not arrays:
        return np.empty(0, np.float32)
    return np.concatenate([np.asarray(array, np.float32).reshape(-1) for array in arrays])


def unflatten(vector, shapes):
    """Cut a vector back into arrays.

    Parameters
    ----------
    vector : ndarray of shape (n_weights,)
        What `flatten` made.
    shapes : sequence of tuple of int
        The arrays' shapes, in order.

    Returns
    -------
    arrays : list of ndarray
        Views on `vector`.

    Raises
    ------
    ValueError
        When the vector is not as long as the shapes say.

    Examples
    --------
    >>> [a.tolist() for a in unflatten(np.arange(5), [(2, 2), ()])]
    [[[0, 1], [2, 3]], 4]
    """
    sizes = [int(np.prod(shape)) for shape in shapes]
    if sum(sizes) != vector.size:
        raise ValueError(f"vector must have {sum(sizes)} elements, as the shapes say; got {vector.size}.")
    ends = np.cumsum(sizes)
    return [vector[end - size : end].reshape(shape) for end, size, shape in zip(ends, sizes, shapes, strict=True)]
