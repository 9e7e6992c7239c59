"""The encoder of the deep convolutional autoencoder: time series to hidden features.

Shapes: B series in a batch, T samples of a series, S samples after three poolings of pairs, F filters of the deepest convolution.
"""

import keras
from keras import ops

from sparkneuro.models.losses import widen
from sparkneuro.models.switches import pool_pairs

# Moving averages follow within some sixty steps: a short training's validation would lag behind with Keras's 0.99.
MOMENTUM = 0.95


@keras.saving.register_keras_serializable(package="sparkneuro")
class Encoder(keras.Model):
    """Hidden features H of time series, as wide as the series.

    Three times a convolution with ReLU and a pooling of pairs, a fourth convolution with ReLU whose output is Z, and a linear
    dense layer: ``H = flatten(Z) W + C``.

    Parameters
    ----------
    series_length : int
        Samples T of a series, and units of H.
    filters : tuple of 4 int
        Filters of the convolutions, in the order in which a series meets them.
    kernel_sizes : tuple of 4 int
        Samples that one filter of each convolution spans.
    batch_normalization : bool
        Whether the series, H and the three pooled convolutions are normalised over the batch.
    **kwargs : dict
        Further arguments of `keras.Model`.
    """

    def __init__(self, series_length, filters, kernel_sizes, batch_normalization, **kwargs):
        super().__init__(**kwargs)
        self.series_length = series_length
        self.filters = tuple(filters)
        self.kernel_sizes = tuple(kernel_sizes)
        self.batch_normalization = batch_normalization
        self.convolutions = [
            keras.layers.Conv1D(
                filters, kernel_size, padding="same", activation="relu", name=f"convolution_{place}", dtype=self.dtype_policy
            )
            for place, (filters, kernel_size) in enumerate(zip(self.filters, self.kernel_sizes, strict=True), start=1)
        ]
        self.to_features = keras.layers.Dense(series_length, name="to_features", dtype=self.dtype_policy)
        self.input_normalization = self._normalization("input_normalization")
        self.normalizations = [self._normalization(f"normalization_{place}") for place in (1, 2, 3)]
        self.feature_normalization = self._normalization("feature_normalization")

    def _normalization(self, name):
        if not self.batch_normalization:
            return keras.layers.Identity(name=name, dtype=self.dtype_policy)
        return keras.layers.BatchNormalization(momentum=MOMENTUM, name=name, dtype=self.dtype_policy)

    def build(self, input_shape=None):
        """Make the weights; every shape follows from the settings.

        Parameters
        ----------
        input_shape : tuple or None
            Not used.
        """
        length, channels = self.series_length, 1
        self.input_normalization.build((None, length))
        for place, convolution in enumerate(self.convolutions):
            convolution.build((None, length, channels))
            channels = self.filters[place]
            if place < len(self.normalizations):
                length = (length + 1) // 2
                self.normalizations[place].build((None, length, channels))
        self.to_features.build((None, length * channels))
        self.feature_normalization.build((None, self.series_length))
        self.input_spec = keras.layers.InputSpec(shape=(None, self.series_length))
        self.built = True

    def call(self, x, training=None):
        """Hidden features of a batch.

        Parameters
        ----------
        x : tensor of shape (batch, T)
            Series, z-scored.
        training : bool or None
            Whether the statistics of the batch are used and followed.

        Returns
        -------
        features : tensor of shape (batch, T)
            H, in float32 or better.
        """
        z, _ = self.convolve(x, training=training)
        return widen(self.project(z, training=training))

    def convolve(self, x, training=None):
        """Feature maps Z of a batch, and the switches of the three poolings.

        Parameters
        ----------
        x : tensor of shape (batch, T)
            Series, z-scored.
        training : bool or None
            Whether the statistics of the batch are used and followed.

        Returns
        -------
        z : tensor of shape (batch, S, F)
            Output of the fourth convolution.
        switches : list of 3 bool tensors
            One of each pooling, the first of shape (batch, ceil(T / 2), filters[0]).
        """
        x = ops.expand_dims(self.input_normalization(x, training=training), axis=-1)  # (B, T, 1)
        switches = []
        for convolution, normalization in zip(self.convolutions[:-1], self.normalizations, strict=True):
            pooled, switch = pool_pairs(convolution(x))
            x = normalization(pooled, training=training)
            switches.append(switch)
        return self.convolutions[-1](x), switches

    def project(self, z, training=None):
        """Hidden features of feature maps.

        Parameters
        ----------
        z : tensor of shape (batch, S, F)
            Of `convolve`.
        training : bool or None
            Whether the statistics of the batch are used and followed.

        Returns
        -------
        features : tensor of shape (batch, T)
            H, in the type that the layers compute in.
        """
        flat = ops.reshape(z, (-1, z.shape[1] * z.shape[2]))  # (B, S F)
        return self.feature_normalization(self.to_features(flat), training=training)

    def get_config(self):
        """Settings from which the encoder is made again.

        Returns
        -------
        config : dict
            Keyword arguments of the constructor.
        """
        return {
            **super().get_config(),
            "series_length": self.series_length,
            "filters": self.filters,
            "kernel_sizes": self.kernel_sizes,
            "batch_normalization": self.batch_normalization,
        }
