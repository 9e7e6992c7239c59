"""SGD and Adagrad on vectors, compiled by numba to pass once over memory."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np

from sparkneuro.errors import FormatError, require
from sparkneuro.validation import check_number

# Two threads get a little more out of the memory than one, but not where handing them their halves takes longer than the work.
N_THREADS = 2
MIN_THREADED = 65_536
_threads = ThreadPoolExecutor(N_THREADS, thread_name_prefix="update")


class _CompiledRule:
    """A rule whose slots are vectors of the length of the weights.

    Parameters
    ----------
    kernel : callable
        Plain Python for numba: ``kernel(weights, gradient, slot, ..., out, scalar, ...)``.
    first_values : dict of str to float
        Names of the slots, in the kernel's order, and what fills them at the start.
    scalars : sequence of float
        The kernel's last arguments.
    """

    def __init__(self, kernel, first_values, scalars):
        self._first_values = first_values
        self._scalars = [np.float32(scalar) for scalar in scalars]
        # Compiled now, half a second the first time: a server that has its rule can update at once.
        self._kernel = _compile(kernel, len(first_values), len(self._scalars))

    def make_slots(self, n_weights, values=None):
        """Make what the rule remembers between updates.

        Parameters
        ----------
        n_weights : int
            Length of the weight vector.
        values : dict of str to ndarray or None
            As `read_slots` gave them, to go on from there; None starts afresh.

        Returns
        -------
        slots : dict of str to ndarray of shape (n_weights,), float32
            Opaque to the caller.

        Raises
        ------
        FormatError
            When the values are not those of this rule at this length.
        """
        if values is None:
            return {name: np.full(n_weights, value, np.float32) for name, value in self._first_values.items()}
        check_slots(values, dict.fromkeys(self._first_values, (n_weights,)))
        return {name: np.array(values[name], np.float32) for name in self._first_values}

    def read_slots(self, slots):
        """Read the slots, to store them or to cut them into other shards.

        Parameters
        ----------
        slots : dict
            As `make_slots` made them.

        Returns
        -------
        values : dict of str to ndarray of shape (n_weights,), float32
            Fresh copies.
        """
        return {name: slot.copy() for name, slot in slots.items()}

    def update(self, weights, gradient, slots, out):
        """Write the updated weights into `out`; see `apply_update`.

        Parameters
        ----------
        weights, gradient, out : ndarray of shape (n_weights,), float32
            Weights, gradient and result.
        slots : dict
            Changed in place.
        """
        # What came over the network may be read-only, which the kernel allows, but also not aligned.
        arrays = [np.require(array, np.float32, "CA") for array in (weights, gradient)] + [*slots.values(), out]
        n = weights.size
        if any(array.shape != (n,) for array in arrays):
            raise ValueError(f"weights, gradient, slots and out must be of one length; got {[a.shape for a in arrays]}.")
        if n < MIN_THREADED:
            self._kernel(*arrays, *self._scalars)
            return
        ends = [n * part // N_THREADS for part in range(N_THREADS + 1)]
        parts = [slice(start, end) for start, end in zip(ends[:-1], ends[1:], strict=True)]
        list(_threads.map(lambda part: self._kernel(*[array[part] for array in arrays], *self._scalars), parts))


class SGD(_CompiledRule):
    """Gradient descent, with or without momentum, as `keras.optimizers.SGD`.

    ``m = momentum m - learning_rate g``, then ``w + m``, or with Nesterov momentum ``w + momentum m - learning_rate g``.

    Parameters
    ----------
    learning_rate : float
        Step size, above 0.
    momentum : float
        Between 0 and 1.
    nesterov : bool
        Whether to look ahead.
    """

    def __init__(self, learning_rate=0.01, momentum=0.0, nesterov=False):
        check_number("learning_rate", learning_rate, 0, exclusive=True)
        check_number("momentum", momentum, 0, 1)
        if not momentum:
            super().__init__(_descend, {}, [learning_rate])
        else:
            super().__init__(_look_ahead if nesterov else _roll, {"momentum": 0}, [learning_rate, momentum])


class Adagrad(_CompiledRule):
    """Adagrad (Duchi et al. 2011), as `keras.optimizers.Adagrad`.

    ``a = a + g^2``, then ``w - learning_rate g / sqrt(a + epsilon)``.

    Parameters
    ----------
    learning_rate : float
        Step size, above 0.
    initial_accumulator_value : float
        First value of a.
    epsilon : float
        Keeps the root from zero.
    """

    def __init__(self, learning_rate=0.001, initial_accumulator_value=0.1, epsilon=1e-7):
        check_number("learning_rate", learning_rate, 0, exclusive=True)
        check_number("initial_accumulator_value", initial_accumulator_value, 0)
        check_number("epsilon", epsilon, 0)
        super().__init__(_adapt, {"accumulator": initial_accumulator_value}, [learning_rate, epsilon])


def _descend(weights, gradient, out, learning_rate):
    for i in range(weights.size):
        out[i] = weights[i] - learning_rate * gradient[i]


def _roll(weights, gradient, velocity, out, learning_rate, momentum):
    for i in range(weights.size):
        velocity[i] = momentum * velocity[i] - learning_rate * gradient[i]
        out[i] = weights[i] + velocity[i]


def _look_ahead(weights, gradient, velocity, out, learning_rate, momentum):
    for i in range(weights.size):
        velocity[i] = momentum * velocity[i] - learning_rate * gradient[i]
        out[i] = weights[i] + (momentum * velocity[i] - learning_rate * gradient[i])


def _adapt(weights, gradient, accumulator, out, learning_rate, epsilon):
    for i in range(weights.size):
        accumulator[i] += gradient[i] * gradient[i]
        out[i] = weights[i] - learning_rate * gradient[i] / np.sqrt(accumulator[i] + epsilon)


@cache
def _compile(kernel, n_slots, n_scalars):
    numba = require("numba", "keras")
    scalar, written = numba.float32, numba.float32[::1]
    read = numba.types.Array(scalar, 1, "C", readonly=True)
    signature = numba.void(read, read, *[written] * (n_slots + 1), *[scalar] * n_scalars)
    # Python's error model asks of every division whether it is by zero, and is then not vectorised.
    return numba.njit(signature, nogil=True, error_model="numpy")(kernel)


def check_slots(values, shapes):
    """Check that stored slots are those of a rule.

    Parameters
    ----------
    values : dict of str to ndarray
        What was stored.
    shapes : dict of str to tuple of int
        What the rule has.

    Raises
    ------
    FormatError
        When a name or a shape differs.

    Examples
    --------
    >>> check_slots({"accumulator": np.zeros(3)}, {"accumulator": (3,)})
    """
    found = {name: np.shape(value) for name, value in values.items()}
    if found != shapes:
        raise FormatError(f"the optimizer's slots must be {shapes}; got {found}; were they stored by another optimizer?")
