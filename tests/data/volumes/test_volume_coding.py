from types import SimpleNamespace

import numpy as np
import pytest

from sparkneuro.data.volumes.volume_coding import DTYPES, STANDARDIZATIONS, choose_coding
from sparkneuro.errors import FormatError


def describe(values):
    """The statistics of the non-zero values, by numpy."""
    brain = values[values != 0].astype(np.float64)
    if not len(brain):
        return SimpleNamespace(n=0)
    whole = bool((brain == np.rint(brain)).all())
    return SimpleNamespace(
        n=len(brain), mean=brain.mean(), std=brain.std(), minimum=brain.min(), maximum=brain.max(), is_whole=whole
    )


@pytest.fixture
def values():
    """A volume with background, and a voxel that is exactly the mean, and one the minimum."""
    values = np.random.default_rng(5).normal(900, 200, size=(6, 7, 5)).astype(np.float32)
    values[:2] = 0
    values[3, 3, 3] = np.float32(values[values != 0].mean(dtype=np.float64))
    return values


@pytest.mark.parametrize("standardize", STANDARDIZATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_values_come_back_within_the_stated_rounding(values, dtype, standardize):
    statistics = describe(values)
    coding = choose_coding(dtype, standardize, statistics)
    stored = coding.encode(values)
    assert stored.dtype == dtype and stored.shape == values.shape
    center, spread = {"zscore": (statistics.mean, statistics.std),
                      "minmax": (statistics.minimum, statistics.maximum - statistics.minimum), "none": (0, 1)}[standardize]
    expected = np.where(values == 0, 0, (values.astype(np.float64) - center) / spread)
    decoded = coding.decode(stored)
    assert decoded.dtype == np.float32
    rounding = coding.rounding * (1 if dtype == "int16" else np.abs(expected)) + 2e-7 * max(1, np.abs(expected).max())
    assert (np.abs(decoded - expected) <= rounding).all()
    original = coding.decode(stored, original=True)
    assert (np.abs(original - values) <= rounding * spread + 2e-7 * 2000).all()
    np.testing.assert_array_equal(decoded[:2], 0)
    np.testing.assert_array_equal(original == 0, values == 0)  # background is background, also beside a voxel that comes to 0


def test_zscored_voxels_have_mean_0_and_deviation_1_and_minmax_reaches_from_0_to_1(values):
    brain = values != 0
    decoded = {name: choose_coding("float32", name, describe(values)) for name in STANDARDIZATIONS}
    zscore = decoded["zscore"].decode(decoded["zscore"].encode(values))[brain].astype(np.float64)
    assert abs(zscore.mean()) < 1e-6 and abs(zscore.std() - 1) < 1e-6
    minmax = decoded["minmax"].decode(decoded["minmax"].encode(values))[brain]
    assert minmax.max() == 1 and 0 < minmax.min() < 1e-30
    np.testing.assert_array_equal(decoded["none"].encode(values), values)


def test_labels_and_whole_numbers_stay_as_they_are_in_int16():
    labels = np.random.default_rng(0).integers(-3, 208, size=(4, 5, 6)).astype(np.float32)
    coding = choose_coding("int16", "none", describe(labels))
    np.testing.assert_array_equal(coding.encode(labels), labels)
    np.testing.assert_array_equal(coding.decode(coding.encode(labels)), labels)
    assert (coding.scale, coding.inter, coding.rounding) == (1, 0, 0)


def test_whole_numbers_that_do_not_fit_are_scaled():
    values = np.float32([0, 1, 40000, 12345])
    coding = choose_coding("int16", "none", describe(values))
    np.testing.assert_allclose(coding.decode(coding.encode(values)), values, atol=coding.rounding)
    assert 0 < coding.rounding < 0.4


@pytest.mark.parametrize(
    ("values", "dtype", "standardize", "message"),
    [
        ([0, 0], "float32", "none", "no voxel here that is not 0"),
        ([0, 4, 4], "float32", "zscore", "every voxel is 4, which cannot be standardised; give --standardize none"),
        ([0, 4, 4], "int16", "minmax", "every voxel is 4"),
        ([1, 70000], "float16", "none", "values up to 70000 do not fit into float16; standardise them"),
    ],
)
def test_what_cannot_be_stored_is_refused(values, dtype, standardize, message):
    with pytest.raises(FormatError, match=message):
        choose_coding(dtype, standardize, describe(np.float32(values)))


def test_one_value_is_stored_where_nothing_is_standardised():
    for dtype in DTYPES:
        coding = choose_coding(dtype, "none", describe(np.float32([0, 4.5, 4.5])))
        np.testing.assert_array_equal(coding.decode(coding.encode(np.float32([0, 4.5]))), [0, 4.5])
