"""What a trained autoencoder makes of a series: with its switches, and from the hidden features alone."""

import keras


class Reconstructions(keras.Model):
    """Both reconstructions of an autoencoder at once, the encoder run only once.

    The switches of the three poolings go past the bottleneck: at T = 284 they are 13,696 bits a series, so the autoencoder's
    reconstruction says more of the series than H does. What H alone holds is seen by decoding it without them.

    Parameters
    ----------
    autoencoder : DeepConvolutionalAutoencoder
        Built; its weights are shared.
    **kwargs : dict
        Further arguments of `keras.Model`.
    """

    def __init__(self, autoencoder, **kwargs):
        super().__init__(**kwargs)
        self.autoencoder = autoencoder
        self.built = True

    def call(self, x):
        """Reconstruct a batch, without training.

        Parameters
        ----------
        x : tensor of shape (batch, T)
            Series, z-scored.

        Returns
        -------
        reconstruction : tensor of shape (batch, T)
            With the encoder's switches.
        from_features : tensor of shape (batch, T)
            Of the hidden features alone.
        """
        encoder, decoder = self.autoencoder.encoder, self.autoencoder.decoder
        z, switches = encoder.convolve(x, training=False)
        maps = decoder.expand(encoder.project(z, training=False))
        return decoder.deconvolve(maps, switches), decoder.deconvolve(maps)
