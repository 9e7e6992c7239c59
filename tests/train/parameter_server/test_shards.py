import pytest

from sparkneuro.train.parameter_server.shards import shard_bounds


@pytest.mark.parametrize("n_weights, n_servers", [(10, 1), (10, 3), (11, 4), (2, 5)])
def test_shards_cover_every_weight_once_and_evenly(n_weights, n_servers):
    bounds = shard_bounds(n_weights, n_servers)
    covered = [i for start, end in bounds for i in range(start, end)]
    assert covered == list(range(n_weights))
    sizes = [end - start for start, end in bounds]
    assert len(sizes) == n_servers and max(sizes) - min(sizes) <= 1
