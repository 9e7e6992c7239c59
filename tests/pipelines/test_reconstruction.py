"""What is measured of each row's reconstruction, without Spark."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from sparkneuro.pipelines import reconstruction

KEYS = (("01", "", "rest", ""), ("02", "a", "rest", "1"))


def make_batch(key, voxels, series):
    """Rows of one run as the task sees them."""
    labels = [pa.array([label] * len(voxels), pa.string()) for label in key]
    lists = pa.array([row.tolist() for row in series], pa.list_(pa.float32()))
    names = [*reconstruction.LABELS, "voxel", "series"]
    return pa.RecordBatch.from_arrays([*labels, pa.array(voxels, pa.int32()), lists], names=names)


@pytest.fixture
def halve(monkeypatch):
    """In place of a model: half the series, and its negative."""
    monkeypatch.setattr(reconstruction, "_load", lambda packed, backend, cores: lambda x: (x / 2, -x))


def run_task(batches, length=9, fit=False):
    packed = SimpleNamespace(value=b"")
    found = list(reconstruction.measure_task(batches, packed, KEYS, "tensorflow", 1, length, fit))
    return pa.Table.from_batches(found).to_pydict() if found else None


def test_rows_keep_their_run_and_voxel_and_get_their_measures(halve, monkeypatch):
    monkeypatch.setattr(reconstruction, "CHUNK", 3)  # the last chunk of seven rows is a partial one
    series = np.random.default_rng(0).standard_normal((7, 9)).astype("float32")
    parts = ((KEYS[1], range(10, 17)), (KEYS[0], [4]), (KEYS[0], []))
    found = run_task([make_batch(key, voxels, series[: len(voxels)]) for key, voxels in parts])
    assert found["run"] == [1] * 7 + [0]
    assert found["voxel"] == [*range(10, 17), 4]
    np.testing.assert_allclose(found["error"][:7], np.mean((series / 2) ** 2, axis=1), rtol=1e-6)
    np.testing.assert_allclose(found["error_from_features"][:7], np.mean((2 * series) ** 2, axis=1), rtol=1e-6)
    np.testing.assert_allclose(found["correlation"], 1, rtol=1e-5)
    np.testing.assert_allclose(found["correlation_from_features"], -1, rtol=1e-5)


def test_series_of_another_length_are_fitted_only_when_that_was_agreed(halve):
    series = np.random.default_rng(0).standard_normal((2, 12)).astype("float32")
    found = run_task([make_batch(KEYS[0], [1, 2], series)], fit=True)
    np.testing.assert_allclose(found["error"], np.mean((series[:, :9] / 2) ** 2, axis=1), rtol=1e-6)
    with pytest.raises(ValueError, match="series must have 9 scans; got 12"):
        run_task([make_batch(KEYS[0], [1, 2], series)])


def test_correlations_are_those_of_numpy():
    x, y = np.random.default_rng(0).standard_normal((2, 6, 11))
    expected = [np.corrcoef(one, other)[0, 1] for one, other in zip(x, y, strict=True)]
    np.testing.assert_allclose(reconstruction.correlate_rows(x, y), expected, rtol=1e-10)


def test_a_constant_series_has_no_correlation():
    found = reconstruction.correlate_rows(np.array([[2.0, 2, 2], [1, 2, 3]]), np.array([[1.0, 2, 3], [1, 2, 3]]))
    assert np.isnan(found[0]) and found[1] == pytest.approx(1)
