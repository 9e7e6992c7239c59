"""The gradient of a Keras model as a function of one flat vector, on TensorFlow or JAX.

The vector is cut into the model's variables, and the model is evaluated at these values without being changed. A backend's class
adds only how it differentiates and compiles that.
"""

import keras
import numpy as np
from keras import ops

from sparkneuro.errors import SettingsError
from sparkneuro.train.weights import exchanged_variables, flatten, unflatten


def read_vector(model):
    """Return a model's weights and averaged state as one vector.

    Parameters
    ----------
    model : keras.Model
        A built model.

    Returns
    -------
    vector : ndarray of shape (n_values,), float32
        Trainable weights, then floating-point state.
    n_trainable : int
        How many of them are trainable.
    """
    trainable, state = exchanged_variables(model)
    vector = flatten([ops.convert_to_numpy(variable) for variable in trainable + state])
    return vector, sum(int(np.prod(variable.shape)) for variable in trainable)


def write_vector(model, vector):
    """Set a model's weights and averaged state.

    Parameters
    ----------
    model : keras.Model
        A built model, changed in place.
    vector : ndarray of shape (n_values,), float32
        As `read_vector` returns it.
    """
    trainable, state = exchanged_variables(model)
    variables = trainable + state
    for variable, array in zip(variables, unflatten(vector, [v.shape for v in variables]), strict=True):
        variable.assign(array.copy())  # JAX may keep the array that it is given


def make_gradients(model, series_length):
    """Make the gradient function of a model on the Keras backend that it was built on.

    Parameters
    ----------
    model : keras.Model
        Built and compiled.
    series_length : int
        Number of scans of each series.

    Returns
    -------
    gradients : TensorFlowGradients or JaxGradients
        With ``compute(vector, x)`` and ``warm_up(row_counts)``.

    Raises
    ------
    SettingsError
        When it is another backend.
    """
    makers = {"tensorflow": TensorFlowGradients, "jax": JaxGradients}
    backend = keras.backend.backend()
    if backend not in makers:
        raise SettingsError(f"training needs the TensorFlow or the JAX backend of Keras; got {backend}.")
    return makers[backend](model, series_length)


def is_finite(change):
    """Tell whether a change holds neither NaN nor infinity.

    Parameters
    ----------
    change : ndarray of shape (n_values,), float32
        As ``compute`` returns it.

    Returns
    -------
    finite : bool
        Costs one dot product; elements are looked at only where their squares overflow.

    Examples
    --------
    >>> is_finite(np.float32([1, 1e30])), is_finite(np.float32([1, np.nan]))
    (True, False)
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.dot(change, change)) or np.isfinite(change).all())


class Gradients:
    """Loss and gradient of a compiled Keras model at given weights; `make_gradients` takes the class of the backend.

    The model's own loss is used, with each series as its own target: an autoencoder's.

    Parameters
    ----------
    model : keras.Model
        Built and compiled; its weights are neither used nor changed, its seed generators are.
    series_length : int
        Number of scans of each series.
    """

    def __init__(self, model, series_length):
        self.model = model
        self.series_length = series_length
        self._trainable, self._state = exchanged_variables(model)
        exchanged = {id(variable) for variable in self._trainable + self._state}
        self._own = [variable for variable in model.non_trainable_variables if id(variable) not in exchanged]
        self._sizes = [int(np.prod(variable.shape)) for variable in self._trainable + self._state]
        self._step = self._compile()

    def compute(self, vector, x):
        """Compute the gradient of the batch's mean loss.

        Parameters
        ----------
        vector : ndarray of shape (n_values,), float32
            Weights, then averaged state.
        x : ndarray of shape (n_series, series_length), float32
            One batch.

        Returns
        -------
        loss : float
            Mean over the batch.
        change : ndarray of shape (n_values,), float32
            Gradient of the weights, then the change of the averaged state that this batch made. Not writable, and not changed
            by later calls. With a finite loss too it may hold NaN or infinity: see `is_finite`.
        """
        raise NotImplementedError

    def warm_up(self, row_counts):
        """Compile for batches of these sizes, which takes seconds; nothing else changes.

        Parameters
        ----------
        row_counts : iterable of int
            Numbers of rows: of a whole batch, and of the last one.
        """
        seeds = [np.array(ops.convert_to_numpy(variable)) for variable in self._own]
        for n_rows in row_counts:
            self.compute(np.zeros(sum(self._sizes), np.float32), np.zeros((n_rows, self.series_length), np.float32))
        for variable, seed in zip(self._own, seeds, strict=True):
            variable.assign(seed)

    def _compile(self):
        raise NotImplementedError

    def _cut(self, vector):
        """The trainable and the state variables' values, as two lists of tensors."""
        cuts = zip(self._trainable + self._state, self._sizes, np.cumsum(self._sizes).tolist(), strict=True)
        parts = [ops.reshape(vector[end - size : end], variable.shape) for variable, size, end in cuts]
        return parts[: len(self._trainable)], parts[len(self._trainable) :]

    def _loss(self, trainable, state, own, x):
        """The loss at these values, and the new values of `state` and `own`, which a training step leaves behind."""
        variables = self._trainable + self._state + self._own
        values = [*trainable, *state, *own]
        mapping = list(zip(variables, values, strict=True))
        # In one scope, and with its losses collected: what layers and regularizers add is part of the loss.
        with keras.StatelessScope(state_mapping=mapping, collect_losses=True) as scope:
            loss = self.model.compute_loss(x=x, y=x, y_pred=self.model(x, training=True))
        return loss, ([scope.get_current_value(v) for v in self._state], [scope.get_current_value(v) for v in self._own])

    @staticmethod
    def _join(gradients, new_state, state):
        changes = [ops.cast(after, "float32") - before for after, before in zip(new_state, state, strict=True)]
        return ops.concatenate([ops.reshape(part, [-1]) for part in [*gradients, *changes]])


class TensorFlowGradients(Gradients):
    """`Gradients` on TensorFlow."""

    def compute(self, vector, x):
        loss, change = self._step(vector, x)
        return float(loss), np.asarray(memoryview(change))

    def _compile(self):
        import tensorflow as tf

        def step(vector, x):
            trainable, state = self._cut(vector)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(trainable)
                loss, (new_state, new_own) = self._loss(trainable, state, self._own, x)
            for variable, value in zip(self._own, new_own, strict=True):
                variable.assign(value)
            gradients = tape.gradient(loss, trainable, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            # Of what was gathered the gradient is sparse.
            return loss, self._join([tf.convert_to_tensor(gradient) for gradient in gradients], new_state, state)

        # The number of rows stays open, so that the last, partial batch costs no second tracing.
        signature = [tf.TensorSpec([sum(self._sizes)], tf.float32), tf.TensorSpec([None, self.series_length], tf.float32)]
        return tf.function(step, input_signature=signature, autograph=False)


class JaxGradients(Gradients):
    """`Gradients` on JAX, which compiles every size of batch once.

    On a CPU it takes all cores, unless the environment variable ``PJRT_NPROC`` gives their number before JAX is used.
    """

    def compute(self, vector, x):
        loss, change, own = self._step(vector, [variable.value for variable in self._own], x)
        for variable, value in zip(self._own, own, strict=True):
            variable.assign(value)
        return float(loss), np.asarray(change)

    def _compile(self):
        import jax

        def step(vector, own, x):
            trainable, state = self._cut(vector)
            loss_and_gradient = jax.value_and_grad(self._loss, has_aux=True)
            (loss, (new_state, new_own)), gradients = loss_and_gradient(trainable, state, own, x)
            return loss, self._join(gradients, new_state, state), new_own

        return jax.jit(step)
