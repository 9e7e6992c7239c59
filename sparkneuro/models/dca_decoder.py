"""The decoder of the deep convolutional autoencoder: hidden features to time series.

Shapes: B series in a batch, T samples of a series, S samples after three poolings of pairs, F filters of the deepest convolution.
"""

import keras
from keras import ops

from sparkneuro.models.losses import widen
from sparkneuro.models.switches import repeat_pairs, unpool_pairs


@keras.saving.register_keras_serializable(package="sparkneuro")
class Decoder(keras.Model):
    """Time series from hidden features.

    A linear dense layer, ``Z' = reshape(H W' + C')``, then three times a convolution with ReLU and an unpooling of pairs, and a
    linear convolution to one channel. Called on H alone it has no switches and gives every value to both members of a pair; the
    autoencoder hands `deconvolve` the switches of its encoder.

    Parameters
    ----------
    series_length : int
        Samples T of a series, and units of H.
    filters : tuple of 4 int
        Filters of the encoder's convolutions; the decoder goes through them backwards.
    kernel_sizes : tuple of 4 int
        Samples that one filter of each of the encoder's convolutions spans.
    **kwargs : dict
        Further arguments of `keras.Model`.
    """

    def __init__(self, series_length, filters, kernel_sizes, **kwargs):
        super().__init__(**kwargs)
        self.series_length = series_length
        self.filters = tuple(filters)
        self.kernel_sizes = tuple(kernel_sizes)
        self.lengths = [series_length]  # samples before the first, second and third pooling of the encoder, and after it
        for _ in range(3):
            self.lengths.append((self.lengths[-1] + 1) // 2)
        self.to_maps = keras.layers.Dense(self.lengths[-1] * self.filters[-1], name="to_maps", dtype=self.dtype_policy)
        outputs = (*self.filters[-2::-1], 1)
        self.convolutions = [
            keras.layers.Conv1D(
                filters, kernel_size, padding="same", activation="relu" if place < len(outputs) else None,
                name=f"convolution_{place}", dtype=self.dtype_policy,
            )
            for place, (filters, kernel_size) in enumerate(zip(outputs, self.kernel_sizes[::-1], strict=True), start=1)
        ]

    def build(self, input_shape=None):
        """Make the weights; every shape follows from the settings.

        Parameters
        ----------
        input_shape : tuple or None
            Not used.
        """
        self.to_maps.build((None, self.series_length))
        for convolution, length, channels in zip(self.convolutions, self.lengths[::-1], self.filters[::-1], strict=True):
            convolution.build((None, length, channels))
        self.input_spec = keras.layers.InputSpec(shape=(None, self.series_length))
        self.built = True

    def call(self, features):
        """Series of a batch of hidden features, without switches.

        Parameters
        ----------
        features : tensor of shape (batch, T)
            H, or atoms of a dictionary that was learned on H.

        Returns
        -------
        x : tensor of shape (batch, T)
            Series, in float32 or better.
        """
        return self.deconvolve(self.expand(features))

    def expand(self, features):
        """Feature maps Z' from hidden features.

        Parameters
        ----------
        features : tensor of shape (batch, T)
            H.

        Returns
        -------
        maps : tensor of shape (batch, S, F)
            Z', in the type that the layers compute in.
        """
        return ops.reshape(self.to_maps(features), (-1, self.lengths[-1], self.filters[-1]))

    def deconvolve(self, maps, switches=None):
        """Series from feature maps.

        Parameters
        ----------
        maps : tensor of shape (batch, S, F)
            Z'.
        switches : list of 3 bool tensors or None
            Of `Encoder.convolve`; None gives every value to both members of its pair.

        Returns
        -------
        x : tensor of shape (batch, T)
            Series, in float32 or better.
        """
        x = maps
        for depth, convolution in zip((2, 1, 0), self.convolutions[:-1], strict=True):
            x = convolution(x)
            n_samples = self.lengths[depth]
            x = repeat_pairs(x, n_samples) if switches is None else unpool_pairs(x, switches[depth], n_samples)
        return widen(ops.squeeze(self.convolutions[-1](x), axis=-1))

    def get_config(self):
        """Settings from which the decoder is made again.

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
        }
