"""Sums over a DataFrame are the sums over an array."""

import numpy as np
import pyarrow as pa
import pytest

from sparkneuro.analysis.pca import accumulate

pytestmark = pytest.mark.engine


def to_frame(spark, series, n_partitions):
    """Rows of series as a DataFrame."""
    lists = pa.array([row.tolist() for row in series], pa.list_(pa.float32()))
    return spark.createDataFrame(pa.table({"series": lists})).repartition(n_partitions)


@pytest.mark.parametrize("n_partitions", [1, 3, 20])
def test_moments_of_a_frame_are_those_of_its_rows(spark, n_partitions):
    from sparkneuro.analysis.spark import accumulate_moments

    series = np.random.default_rng(0).standard_normal((14, 6)).astype("float32")
    moments, expected = accumulate_moments(to_frame(spark, series, n_partitions), 6), accumulate(series)
    assert moments.n_series == 14
    np.testing.assert_allclose(moments.total, expected.total, atol=1e-12)
    np.testing.assert_allclose(moments.products, expected.products, atol=1e-12)


def test_a_frame_without_rows_has_moments_of_no_series(spark):
    from sparkneuro.analysis.spark import accumulate_moments

    moments = accumulate_moments(to_frame(spark, np.ones((2, 6), "float32"), 2).filter("size(series) > 7"), 6)
    assert moments.n_series == 0
    assert moments.products.shape == (6, 6)


def test_series_of_other_lengths_are_fitted_when_that_is_asked_for(spark):
    from sparkneuro.analysis.spark import accumulate_moments

    series = np.arange(24, dtype="float32").reshape(4, 6)
    padded = np.pad(series, ((0, 0), (0, 3)))
    moments = accumulate_moments(to_frame(spark, series, 2), 9, fit=True)
    np.testing.assert_allclose(moments.products, accumulate(padded).products)
