"""What a parameter server does with a gradient: the update rules of Keras, on vectors.

A rule knows neither network nor model. It is elementwise, so a shard can apply it alone; and it writes the new weights into
another vector, so that a reader of the old ones never sees half an update. `compiled_rules` holds the common ones, and
`keras_rule` lets Keras apply the others. Every rule has ``make_slots``, ``read_slots`` and ``update``; what it remembers between
updates, its slots, is opaque to everyone else.
"""

import inspect

from sparkneuro.train.parameter_server.compiled_rules import SGD, Adagrad

RULES = {"Adagrad": Adagrad, "SGD": SGD}


def apply_update(rule, weights, gradient, slots, out):
    """Write the weights after one update into another vector.

    Parameters
    ----------
    rule : SGD or Adagrad or KerasRule
        The rule, as `make_rule` made it.
    weights : ndarray of shape (n_weights,), float32
        Not modified.
    gradient : ndarray of shape (n_weights,), float32
        Not modified.
    slots : object
        The rule's memory, as its ``make_slots`` made it; changed in place.
    out : ndarray of shape (n_weights,), float32
        Where the new weights go, every one; must not overlap `weights` or `gradient`.

    Returns
    -------
    out : ndarray of shape (n_weights,), float32
        The new weights.

    Examples
    --------
    >>> import numpy as np
    >>> rule = make_rule({"name": "SGD", "learning_rate": 0.5})
    >>> apply_update(rule, np.float32([1, 2]), np.float32([2, 2]), rule.make_slots(2), np.empty(2, np.float32)).tolist()
    [0.0, 1.0]
    """
    rule.update(weights, gradient, slots, out)
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
        When the optimizer is not elementwise.
    """
    from sparkneuro.train.parameter_server.keras_rule import describe_keras_rule

    description = describe_keras_rule(optimizer)
    name, config = type(optimizer).__name__, optimizer.get_config()
    plain = isinstance(config["learning_rate"], float) and not config["weight_decay"] and not config["clipvalue"]
    if name not in RULES or not plain:
        return description
    return {"name": name, **{option: config[option] for option in inspect.signature(RULES[name]).parameters}}


def make_rule(description):
    """Make the rule that `describe_rule` described, ready to be applied.

    Parameters
    ----------
    description : dict
        Name and hyperparameters.

    Returns
    -------
    rule : SGD or Adagrad or KerasRule
        The rule.

    Examples
    --------
    >>> type(make_rule({"name": "Adagrad", "learning_rate": 0.01})).__name__
    'Adagrad'
    """
    options = dict(description)
    name = options.pop("name")
    if name == "Keras":
        from sparkneuro.train.parameter_server.keras_rule import KerasRule

        return KerasRule(**options)
    return RULES[name](**options)
