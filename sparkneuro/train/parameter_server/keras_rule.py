"""An update rule that Keras applies: any of its optimizers that are elementwise, on the vector as one variable."""

import re

import keras
import numpy as np

from sparkneuro.errors import SettingsError
from sparkneuro.train.parameter_server.compiled_rules import check_slots

# Seen in their source to treat every weight by itself, from nothing but its gradient, its slots and the number of updates. Of
# the others Muon, Lamb and Adafactor need whole matrices, and ScheduleFreeAdamW begins with a copy of the weights.
ELEMENTWISE = ("Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "Ftrl", "Lion", "Nadam", "RMSprop", "SGD")

# Options that act on more than one element, or beside the update, and what to do without them.
REFUSED = {
    "clipnorm": "clipvalue clips element by element",
    "global_clipnorm": "clipvalue clips element by element",
    "use_ema": "leave it out",
    "loss_scale_factor": "leave it out; mixed_bfloat16 needs none",
    "gradient_accumulation_steps": "workers accumulate gradients themselves, n_push batches at a time",
}


def describe_keras_rule(optimizer):
    """Describe an elementwise Keras optimizer.

    Parameters
    ----------
    optimizer : keras.optimizers.Optimizer
        Optimizer of a compiled model.

    Returns
    -------
    description : dict
        ``{"name": "Keras", "config": ...}``, for `update_rules.make_rule`; fit for JSON.

    Raises
    ------
    SettingsError
        When the optimizer is not elementwise, or has an option that is not.
    """
    name = type(optimizer).__name__
    if name not in ELEMENTWISE or type(optimizer) is not getattr(keras.optimizers, name):
        raise SettingsError(
            f"the optimizer must be one of Keras's own that treat every weight by itself ({', '.join(ELEMENTWISE)}), because"
            f" parameter servers hold pieces of the weights; got {name}."
        )
    config = optimizer.get_config()
    for option, remedy in REFUSED.items():
        if config[option]:
            raise SettingsError(f"parameter servers cannot apply {option}={config[option]} of {name}: {remedy}.")
    # Keras keeps these beside the configuration, which would lose them in silence.
    excluded = getattr(optimizer, "_exclude_from_weight_decay", None) or getattr(
        optimizer, "_exclude_from_weight_decay_pattern", None
    )
    if config["weight_decay"] and excluded:
        raise SettingsError(
            f"parameter servers cannot exclude variables from the weight decay of {name}: let all decay, or none."
        )
    rate = config["learning_rate"]
    if not isinstance(rate, float) and rate.get("module") != "keras.optimizers.schedules":
        got = rate.get("registered_name") or rate["class_name"]
        raise SettingsError(f"the learning rate of {name} must be a number or one of keras.optimizers.schedules; got {got}.")
    return {"name": "Keras", "config": keras.saving.serialize_keras_object(optimizer)}


class KerasRule:
    """The rule of a Keras optimizer, at a constant or a scheduled learning rate; a schedule's step is the number of updates.

    Parameters
    ----------
    config : dict
        The optimizer, as Keras serialises it.
    """

    def __init__(self, config):
        self.config = config

    def make_slots(self, n_weights, values=None):
        """Build the optimizer on a vector, and compile its step.

        Parameters
        ----------
        n_weights : int
            Length of the weight vector.
        values : dict of str to ndarray or None
            As `read_slots` gave them, to go on from there; None starts afresh.

        Returns
        -------
        slots : _KerasSlots
            Opaque to the caller.

        Raises
        ------
        FormatError
            When the values are not those of this rule at this length.
        """
        slots = _KerasSlots(self.config, n_weights)
        if values is not None:
            check_slots(values, {name: tuple(variable.shape) for name, variable in slots.variables.items()})
            for name, variable in slots.variables.items():
                variable.assign(np.array(values[name]))  # a copy: JAX may keep the array that it is given, and write into it
        return slots

    def read_slots(self, slots):
        """Read the slots, to store them or to cut them into other shards.

        Parameters
        ----------
        slots : _KerasSlots
            As `make_slots` made them.

        Returns
        -------
        values : dict of str to ndarray
            Fresh copies: of shape (n_weights,) what belongs to a weight, of shape () what all shards share.
        """
        return {name: np.array(keras.ops.convert_to_numpy(variable)) for name, variable in slots.variables.items()}

    def update(self, weights, gradient, slots, out):
        """Write the updated weights into `out`; see `update_rules.apply_update`.

        Parameters
        ----------
        weights, gradient, out : ndarray of shape (n_weights,), float32
            Weights, gradient and result.
        slots : _KerasSlots
            Changed in place.
        """
        np.copyto(out, slots.step(weights, gradient))


class _KerasSlots:
    """An optimizer built on one vector, its compiled step, and those of its variables that make up its memory, by name."""

    def __init__(self, config, n_weights):
        optimizer = keras.saving.deserialize_keras_object(config)
        vector = keras.Variable(np.zeros(n_weights, np.float32), name="weights")
        optimizer.build([vector])
        memory = [variable for variable in optimizer.variables if variable.name != "learning_rate"]  # that is a setting
        self.variables = {_slot_name(variable.name): variable for variable in memory}
        self.step = _step_maker()(optimizer, vector)


def _slot_name(name):
    # Nadam leaves a scalar unnamed: Keras calls it "variable" and a number that counts those of the process.
    name = re.sub(r"^variable(_\d+)?$", "product", name)
    return {"iteration": "iterations"}.get(name, name.removeprefix("weights_"))


def _step_maker():
    makers = {"tensorflow": _make_tensorflow_step, "jax": _make_jax_step}
    backend = keras.backend.backend()
    if backend not in makers:
        raise SettingsError(f"training needs the TensorFlow or the JAX backend of Keras; got {backend}.")
    return makers[backend]


def _make_tensorflow_step(optimizer, vector):
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec(vector.shape, tf.float32)] * 2, autograph=False)
    def step(weights, gradient):
        vector.assign(weights)
        optimizer.apply([gradient], [vector])
        return tf.convert_to_tensor(vector.value)

    step.get_concrete_function()
    return lambda weights, gradient: memoryview(step(weights, gradient))


def _make_jax_step(optimizer, vector):
    import jax

    def apply(state, weights, gradient):
        (updated,), state = optimizer.stateless_apply(state, [gradient], [weights])
        return updated, state

    def state():
        return [variable.value for variable in optimizer.variables]

    # The old state's memory is given away for the new one's.
    compiled = jax.jit(apply, donate_argnums=0).lower(state(), vector.value, vector.value).compile()

    def step(weights, gradient):
        updated, new_state = compiled(state(), weights, gradient)
        for variable, value in zip(optimizer.variables, new_state, strict=True):
            variable.assign(value)
        return updated

    return step
