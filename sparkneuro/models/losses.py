"""The losses of the models, as Keras losses that are saved with them."""

import keras
from keras import ops


def widen(x):
    """Cast a floating tensor to float32, or leave it when it is wider.

    Parameters
    ----------
    x : tensor
        Of any floating type.

    Returns
    -------
    wide : tensor of the shape of `x`
        float32 or float64.
    """
    return ops.cast(x, keras.backend.result_type(keras.backend.standardize_dtype(x.dtype), "float32"))


def half_squared_norm(x, y):
    """Half the squared distance between the rows of two tensors, in float32 or better.

    Parameters
    ----------
    x, y : tensor of shape (batch, ...)
        Of any floating type.

    Returns
    -------
    half_norm : tensor of shape (batch,)
        ``1/2 ||x - y||^2``, summed over every axis but the first.
    """
    difference = widen(x) - widen(y)
    return 0.5 * ops.sum(ops.square(difference), axis=tuple(range(1, len(difference.shape))))


@keras.saving.register_keras_serializable(package="sparkneuro")
class HalfSquaredError(keras.losses.Loss):
    """Half the squared distance between a series and its reconstruction, averaged over the batch.

    ``mean of 1/2 ||y_true - y_pred||^2``: a sum over the samples of a series, so that a reconstruction of zeros costs T / 2
    where series are z-scored.

    Parameters
    ----------
    reduction : str or None
        Keras reduction over the batch.
    name : str
        Name of the loss.
    **kwargs : dict
        Further arguments of `keras.losses.Loss`.
    """

    def __init__(self, reduction="sum_over_batch_size", name="half_squared_error", **kwargs):
        super().__init__(reduction=reduction, name=name, **kwargs)

    def call(self, y_true, y_pred):
        """Loss of every series.

        Parameters
        ----------
        y_true, y_pred : tensor of shape (batch, T)
            Series and their reconstructions.

        Returns
        -------
        loss : tensor of shape (batch,)
            ``1/2 ||y_true - y_pred||^2`` of each row.
        """
        return half_squared_norm(y_true, y_pred)
