"""The deep convolutional autoencoder of time series (DCA) of Huang et al. and Makkie et al., compiled or not."""

import keras
from keras import ops

from sparkneuro.errors import SettingsError
from sparkneuro.models.dca_decoder import Decoder
from sparkneuro.models.dca_encoder import Encoder
from sparkneuro.models.losses import HalfSquaredError, half_squared_norm
from sparkneuro.validation import check_choice, check_number

PRESETS = {
    "dca": {},
    "dca_plain": {"batch_normalization": False},
    "tiny": {"filters": (4, 5, 6, 7), "kernel_sizes": (5, 3, 3, 3), "batch_normalization": False},
}


@keras.saving.register_keras_serializable(package="sparkneuro")
class DeepConvolutionalAutoencoder(keras.Model):
    """Reconstructions of z-scored time series, through hidden features H as wide as the series.

    With Z the encoder's feature maps, ``H = flatten(Z) W + C`` and ``Z' = reshape(H W' + C')``, training minimises the mean over
    the batch of ``1/2 ||x - x'||^2 + 1/2 consistency ||Z - Z'||^2``. The first term is `HalfSquaredError`; the second enters by
    `add_loss` and keeps the dense bottleneck from shuffling time. The poolings' switches go past the bottleneck: `decoder(H)`,
    which has none, is a coarser reconstruction than that of the whole.

    Parameters
    ----------
    series_length : int
        Samples T of a series, at least 16; 284 in the paper.
    filters : tuple of 4 int
        Filters of the encoder's convolutions.
    kernel_sizes : tuple of 4 int
        Samples that one filter of each convolution spans.
    batch_normalization : bool
        Whether the input vector, H and the three pooled encoder convolutions (after pooling) are normalised over the batch.
        This placement is a reconstruction: the papers do not mention normalisation, yet the 6,023,549 parameters that they
        publish exceed those of the layers they list by 3,168, which is what Keras adds for exactly these five places.
    consistency : float
        Weight of the second term, lambda in the paper.
    **kwargs : dict
        Further arguments of `keras.Model`.

    References
    ----------
    Huang et al. (2018). Modeling task fMRI data via deep convolutional autoencoder. IEEE Trans. Med. Imaging 37, 1551-1561.
    Makkie et al. (2019). Fast and scalable distributed deep convolutional autoencoder for fMRI big data analytics.
    Neurocomputing 325, 20-30.

    Examples
    --------
    >>> model = DeepConvolutionalAutoencoder.from_preset("dca", series_length=284)
    >>> model.build()
    >>> model.count_params()
    6023549
    """

    def __init__(
        self, series_length=284, filters=(32, 64, 128, 256), kernel_sizes=(21, 9, 9, 9), batch_normalization=True,
        consistency=0.006, **kwargs,
    ):
        super().__init__(**kwargs)
        self.series_length = check_number("series_length", series_length, minimum=16, integer=True)
        self.filters = _check_four("filters", filters)
        self.kernel_sizes = _check_four("kernel_sizes", kernel_sizes)
        self.batch_normalization = batch_normalization
        self.consistency = check_number("consistency", consistency, minimum=0)
        shape = {"series_length": series_length, "filters": self.filters, "kernel_sizes": self.kernel_sizes}
        self.encoder = Encoder(**shape, batch_normalization=batch_normalization, name="encoder", dtype=self.dtype_policy)
        self.decoder = Decoder(**shape, name="decoder", dtype=self.dtype_policy)

    @classmethod
    def from_preset(cls, preset, **settings):
        """Make an autoencoder whose settings have a name.

        Parameters
        ----------
        preset : str
            ``"dca"`` with batch normalisation (the parameter count of the paper), ``"dca_plain"`` without, or ``"tiny"`` (plain,
            a few thousand parameters) for tests.
        **settings : dict
            Settings of the class that the preset leaves open, or gets wrong.

        Returns
        -------
        model : DeepConvolutionalAutoencoder
            Not built, not compiled.

        Raises
        ------
        SettingsError
            When there is no such preset, or a setting is out of bounds.
        """
        return cls(**{**PRESETS[check_choice("preset", preset, tuple(PRESETS))], **settings})

    def build(self, input_shape=None):
        """Make the weights; every shape follows from the settings.

        Parameters
        ----------
        input_shape : tuple or None
            Not used.
        """
        self.encoder.build()
        self.decoder.build()
        self.input_spec = keras.layers.InputSpec(shape=(None, self.series_length))
        self.built = True

    def call(self, x, training=None):
        """Reconstructions of a batch.

        Parameters
        ----------
        x : tensor of shape (batch, T)
            Series, z-scored.
        training : bool or None
            Whether the statistics of the batch are used and followed.

        Returns
        -------
        reconstruction : tensor of shape (batch, T)
            In the unit of `x`, float32 or better.
        """
        z, switches = self.encoder.convolve(x, training=training)
        z_again = self.decoder.expand(self.encoder.project(z, training=training))
        self.add_loss(self.consistency * ops.mean(half_squared_norm(z, z_again)))
        return self.decoder.deconvolve(z_again, switches)

    def get_config(self):
        """Settings from which the autoencoder is made again.

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
            "consistency": self.consistency,
        }


# Adagrad's first steps have the size of the learning rate in every weight, whatever the gradient, unless its accumulator starts
# high. From Keras's 0.1 the loss of `dca_plain` runs to a million within six steps at T = 284 (that of `dca` too when gradients
# come one update late), and the accumulators keep the rate low ever after. A start of (T / 90)^2, 10 at T = 284, prevents it;
# it grows as the square of a gradient does, the loss being a sum over the series.
GENTLE_LENGTH = 90


def build_dca(preset, series_length, learning_rate=0.01, seed=None):
    """Make an autoencoder that is ready to train: built, and compiled with Adagrad and `HalfSquaredError`.

    Parameters
    ----------
    preset : str
        One of `PRESETS`.
    series_length : int
        Samples T of a series, at least 16.
    learning_rate : float
        Of Adagrad.
    seed : int or None
        Seed of the initial weights, given to `keras.utils.set_random_seed`, which seeds Python and NumPy too; None leaves them.

    Returns
    -------
    model : DeepConvolutionalAutoencoder
        In the current Keras dtype policy.

    Raises
    ------
    SettingsError
        When there is no such preset, or a setting is out of bounds.
    """
    check_number("learning_rate", learning_rate, minimum=0, exclusive=True)
    if seed is not None:
        keras.utils.set_random_seed(seed)
    model = DeepConvolutionalAutoencoder.from_preset(preset, series_length=series_length)
    model.build()
    start = (series_length / GENTLE_LENGTH) ** 2
    optimizer = keras.optimizers.Adagrad(learning_rate, initial_accumulator_value=start)
    model.compile(optimizer=optimizer, loss=HalfSquaredError())
    return model


def _check_four(name, sizes):
    sizes = tuple(sizes)
    if len(sizes) != 4:
        raise SettingsError(f"{name} must be four whole numbers; got {sizes}.")
    return tuple(check_number(name, size, minimum=1, integer=True) for size in sizes)
