"""Both reconstructions are those of the autoencoder and of its decoder."""

import numpy as np
import pytest

pytest.importorskip("keras", reason="the keras extra is not installed")

from sparkneuro.models.dca import build_dca  # noqa: E402
from sparkneuro.models.dca_reconstruction import Reconstructions  # noqa: E402


def test_both_reconstructions_are_those_of_the_model_and_of_its_decoder():
    model, x = build_dca("tiny", 27, seed=0), np.random.default_rng(0).standard_normal((5, 27)).astype("float32")
    reconstruction, from_features = Reconstructions(model).predict_on_batch(x)
    np.testing.assert_allclose(reconstruction, model(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(from_features, model.decoder(model.encoder(x)), rtol=1e-5, atol=1e-6)
    assert np.abs(reconstruction - from_features).max() > 1e-4
