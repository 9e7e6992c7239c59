"""How a vector is cut into the shards of parameter servers."""


def shard_bounds(n_weights, n_servers):
    """Cut a vector into contiguous shards whose lengths differ by at most one.

    Parameters
    ----------
    n_weights : int
        Length of the vector.
    n_servers : int
        Number of shards.

    Returns
    -------
    bounds : list of (int, int)
        Start and end of each shard.

    Examples
    --------
    >>> shard_bounds(7, 3)
    [(0, 3), (3, 5), (5, 7)]
    """
    size, rest = divmod(n_weights, n_servers)
    starts = [shard * size + min(shard, rest) for shard in range(n_servers + 1)]
    return list(zip(starts[:-1], starts[1:], strict=True))
