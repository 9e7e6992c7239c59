"""Max-pooling of pairs that remembers which one won, and the two ways back.

Shapes: B series, T samples, P = ceil(T / 2) pairs, C channels. A switch says for every pair whether its second member won; the
work is a reshape, a comparison and a selection, never a gather, so it costs little beside the convolutions around it.
"""

from keras import ops


def pool_pairs(x):
    """Keep the larger of every two neighbouring samples, and which one it was.

    ``pooled[p] = max(x[2 p], x[2 p + 1])``. An odd series is padded at its end with a sample that never wins; of two equal
    samples the first wins, and it alone receives the gradient.

    Parameters
    ----------
    x : tensor of shape (batch, T, channels)
        Any unit.

    Returns
    -------
    pooled : tensor of shape (batch, ceil(T / 2), channels)
        In the unit of `x`.
    switches : bool tensor of shape (batch, ceil(T / 2), channels)
        True where the second member of the pair won.

    Examples
    --------
    >>> import numpy as np
    >>> pooled, switches = pool_pairs(np.array([[[1.0], [3.0], [2.0]]]))
    >>> [float(value) for value in np.ravel(pooled)], [bool(value) for value in np.ravel(switches)]
    ([3.0, 2.0], [True, False])
    """
    n_samples, channels = x.shape[1], x.shape[2]
    if n_samples % 2:
        x = ops.pad(x, ((0, 0), (0, 1), (0, 0)), constant_values=float("-inf"))
    # Two halves of one long row: `split` and its gradient `concatenate` are then plain block copies.
    first, second = ops.split(ops.reshape(x, (-1, (n_samples + 1) // 2, 2 * channels)), 2, axis=-1)  # (B, P, C) each
    switches = ops.greater(second, first)
    return ops.where(switches, second, first), switches


def unpool_pairs(x, switches, n_samples):
    """Put every value back where the pooling took its own from, with zeros elsewhere.

    Parameters
    ----------
    x : tensor of shape (batch, ceil(T / 2), channels)
        Any unit.
    switches : bool tensor of shape (batch, ceil(T / 2), channels)
        Of `pool_pairs`.
    n_samples : int
        Length T of the series that was pooled.

    Returns
    -------
    unpooled : tensor of shape (batch, T, channels)
        In the unit of `x`.
    """
    zero = ops.zeros_like(x)
    first, second = ops.where(switches, zero, x), ops.where(switches, x, zero)
    return _interleave(first, second, n_samples)


def repeat_pairs(x, n_samples):
    """Unpool without switches: give every value to both members of its pair.

    For codes that never went through the encoder, e.g. atoms of a dictionary, and so have no switches.

    Parameters
    ----------
    x : tensor of shape (batch, ceil(T / 2), channels)
        Any unit.
    n_samples : int
        Length T wanted.

    Returns
    -------
    unpooled : tensor of shape (batch, T, channels)
        In the unit of `x`.
    """
    return _interleave(x, x, n_samples)


def _interleave(first, second, n_samples):
    """Merge the first and second members of pairs, each (B, P, C), into (B, T, C); the padded sample is dropped."""
    n_pairs, channels = first.shape[1], first.shape[2]
    merged = ops.reshape(ops.concatenate([first, second], axis=-1), (-1, 2 * n_pairs, channels))
    # TensorFlow differentiates `split` by a concatenation, and `merged[:, :n_samples]` by something twenty times slower.
    return ops.split(merged, [n_samples], axis=1)[0] if n_samples < 2 * n_pairs else merged
