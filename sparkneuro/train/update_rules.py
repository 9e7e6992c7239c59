"""What a parameter server does with a gradient: the update rules of Keras, on vectors.

A rule knows neither network nor model. It is elementwise, so a shard can apply it alone; and it writes the new weights into a
fresh vector, so that a reader of the old ones never sees half an update.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from sparkneuro.errors import SettingsError
from sparkneuro.validation import check_number

# Elements handled at a time: five passes over a piece that stays in the second-level cache cost less than five over memory.
PIECE = 65_536
# The worker that pushed waits for the update; numpy lets go of the interpreter's lock within a piece.
N_THREADS = 2
_threads = ThreadPoolExecutor(N_THREADS, thread_name_prefix="update")


class SGD:
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
        self.learning_rate = check_number("learning_rate", learning_rate, 0, exclusive=True)
        self.momentum = check_number("momentum", momentum, 0, 1)
        self.nesterov = nesterov

    def make_slots(self, n_weights):
        """Return what the rule remembers between updates: the velocities, if there is momentum.

        Parameters
        ----------
        n_weights : int
            Length of the weight vector.

        Returns
        -------
        slots : list of ndarray of shape (n_weights,), float32
            One vector, or none.
        """
        return [np.zeros(n_weights, np.float32)] if self.momentum else []

    def step(self, weights, gradient, slots, out):
        """Write the updated weights of one piece into `out`; see `apply_update`.

        Parameters
        ----------
        weights, gradient, out : ndarray of shape (n,), float32
            Piece of the weights, of the gradient, and of the result.
        slots : list of ndarray of shape (n,), float32
            Pieces of the slots, changed in place.
        """
        np.multiply(gradient, np.float32(-self.learning_rate), out=out)
        if slots:
            (velocity,) = slots
            velocity *= np.float32(self.momentum)
            velocity += out
            if self.nesterov:
                out += np.float32(self.momentum) * velocity
            else:
                np.copyto(out, velocity)
        out += weights


class Adagrad:
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
        self.learning_rate = check_number("learning_rate", learning_rate, 0, exclusive=True)
        self.initial_accumulator_value = check_number("initial_accumulator_value", initial_accumulator_value, 0)
        self.epsilon = check_number("epsilon", epsilon, 0)

    def make_slots(self, n_weights):
        """Return what the rule remembers between updates: the sum of squared gradients.

        Parameters
        ----------
        n_weights : int
            Length of the weight vector.

        Returns
        -------
        slots : list of ndarray of shape (n_weights,), float32
            One vector.
        """
        return [np.full(n_weights, self.initial_accumulator_value, np.float32)]

    def step(self, weights, gradient, slots, out):
        """Write the updated weights of one piece into `out`; see `apply_update`.

        Parameters
        ----------
        weights, gradient, out : ndarray of shape (n,), float32
            Piece of the weights, of the gradient, and of the result.
        slots : list of ndarray of shape (n,), float32
            Pieces of the slots, changed in place.
        """
        (accumulator,) = slots
        np.multiply(gradient, gradient, out=out)
        accumulator += out
        np.add(accumulator, np.float32(self.epsilon), out=out)
        np.sqrt(out, out=out)
        np.divide(gradient, out, out=out)
        out *= np.float32(-self.learning_rate)
        out += weights


RULES = {"Adagrad": Adagrad, "SGD": SGD}

# Options of Keras optimizers that act on more than one element, or beside the update, with the value that means "off".
_OFF = {
    "weight_decay": None, "clipnorm": None, "clipvalue": None, "global_clipnorm": None, "use_ema": False,
    "loss_scale_factor": None, "gradient_accumulation_steps": None,
}  # fmt: skip


def apply_update(rule, weights, gradient, slots, out):
    """Write the weights after one update into another vector.

    Parameters
    ----------
    rule : SGD or Adagrad
        The rule.
    weights : ndarray of shape (n_weights,), float32
        Not modified.
    gradient : ndarray of shape (n_weights,), float32
        Not modified.
    slots : list of ndarray of shape (n_weights,), float32
        The rule's memory, changed in place.
    out : ndarray of shape (n_weights,), float32
        Where the new weights go; must not overlap `weights` or `gradient`.

    Returns
    -------
    out : ndarray of shape (n_weights,), float32
        The new weights.

    Examples
    --------
    >>> rule = SGD(learning_rate=0.5)
    >>> apply_update(rule, np.float32([1, 2]), np.float32([2, 2]), rule.make_slots(2), np.empty(2, np.float32)).tolist()
    [0.0, 1.0]
    """

    def step(starts):
        for start in starts:
            piece = slice(start, start + PIECE)
            rule.step(weights[piece], gradient[piece], [slot[piece] for slot in slots], out[piece])

    starts = range(0, weights.size, PIECE)
    list(_threads.map(step, [starts[thread::N_THREADS] for thread in range(N_THREADS)]))
    return out


def describe_rule(optimizer):
    """Describe a Keras optimizer as an update rule that a server can apply.

    Parameters
    ----------
    optimizer : keras.optimizers.Optimizer
        Optimizer of a compiled model.

    Returns
    -------
    description : dict
        ``{"name": ..., hyperparameter: value, ...}``, for `make_rule`; fit for JSON.

    Raises
    ------
    SettingsError
        When no rule does what the optimizer does.
    """
    name, config = optimizer.__class__.__name__, optimizer.get_config()
    if name not in RULES:
        raise SettingsError(f"the parameter server applies {' or '.join(sorted(RULES))}; got the optimizer {name}.")
    if not isinstance(config["learning_rate"], float | int):
        raise SettingsError("the parameter server needs a constant learning rate; got a schedule.")
    for option, off in _OFF.items():
        if config.get(option, off) != off:
            raise SettingsError(f"the parameter server cannot apply {option}={config[option]}; leave it out of {name}.")
    known = RULES[name]().__dict__
    return {"name": name, **{key: config[key] for key in known}}


def make_rule(description):
    """Make the rule that `describe_rule` described.

    Parameters
    ----------
    description : dict
        Name and hyperparameters.

    Returns
    -------
    rule : SGD or Adagrad
        The rule.

    Examples
    --------
    >>> make_rule({"name": "Adagrad", "learning_rate": 0.01}).epsilon
    1e-07
    """
    options = dict(description)
    return RULES[options.pop("name")](**options)
