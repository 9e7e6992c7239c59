"""The gradient of a Keras model as a function of one flat vector."""

import keras
import numpy as np

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
    vector = flatten([keras.ops.convert_to_numpy(variable) for variable in trainable + state])
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
        variable.assign(array)


class TensorFlowGradients:
    """Loss and gradient of a compiled Keras model at given weights, on TensorFlow.

    The model's own loss is used, with each series as its own target: an autoencoder's.

    Parameters
    ----------
    model : keras.Model
        Built and compiled; its weights are overwritten by each call.
    series_length : int
        Number of scans of each series.
    """

    def __init__(self, model, series_length):
        import tensorflow as tf

        if keras.backend.backend() != "tensorflow":
            raise SettingsError(f"training needs the TensorFlow backend of Keras; got {keras.backend.backend()}.")
        self.model = model
        self._trainable, self._state = exchanged_variables(model)
        self._sizes = [int(np.prod(v.shape)) for v in self._trainable + self._state]
        # The number of rows stays open, so that the last, partial batch costs no second tracing.
        signature = [tf.TensorSpec([sum(self._sizes)], tf.float32), tf.TensorSpec([None, series_length], tf.float32)]
        self._step = tf.function(self._trace, input_signature=signature, autograph=False)

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
            Gradient of the weights, then the change of the averaged state that this batch made.
        """
        loss, change = self._step(vector, x)
        return float(loss), change.numpy()

    def _trace(self, vector, x):
        import tensorflow as tf

        variables = [v.value for v in self._trainable + self._state]
        pieces = tf.split(vector, self._sizes)
        for variable, piece in zip(variables, pieces, strict=True):
            variable.assign(tf.cast(tf.reshape(piece, variable.shape), variable.dtype))
        with tf.GradientTape() as tape:
            loss = self.model.compute_loss(x=x, y=x, y_pred=self.model(x, training=True))
        trainable = variables[: len(self._trainable)]
        gradients = tape.gradient(loss, trainable, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        changes = [after - before for after, before in zip(variables[len(trainable) :], self._state_of(pieces), strict=True)]
        flat = [tf.reshape(tf.cast(part, tf.float32), [-1]) for part in gradients + changes]
        return loss, tf.concat(flat, 0)

    def _state_of(self, pieces):
        import tensorflow as tf

        state = zip(self._state, pieces[len(self._trainable) :], strict=True)
        return [tf.reshape(piece, variable.shape) for variable, piece in state]
