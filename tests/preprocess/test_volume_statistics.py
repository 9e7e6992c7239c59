import numpy as np
import pytest

from sparkneuro.preprocess.volume_statistics import VolumeStatistics


@pytest.mark.parametrize("offset", [0.0, 35000.0])
def test_sums_over_volumes_are_numpys_over_all(offset):
    rng = np.random.default_rng(1)
    volumes = [np.float32(rng.normal(offset, 20, size=(3, 4, 5)) * (rng.random((3, 4, 5)) < 0.7)) for _ in range(6)]
    volumes.insert(2, np.zeros((3, 4, 5), np.float32))
    statistics = VolumeStatistics()
    for volume in volumes:
        statistics.add(volume)
    values = np.concatenate([volume[volume != 0] for volume in volumes]).astype(np.float64)
    assert statistics.n == len(values) and not statistics.is_whole
    np.testing.assert_allclose([statistics.mean, statistics.std], [values.mean(), values.std()], rtol=1e-12)
    assert (statistics.minimum, statistics.maximum) == (values.min(), values.max())


def test_whole_numbers_are_told():
    statistics = VolumeStatistics()
    statistics.add(np.float32([[0, 3], [-7, 2]]))
    assert statistics.is_whole
    statistics.add(np.float32([0.5]))
    assert not statistics.is_whole
