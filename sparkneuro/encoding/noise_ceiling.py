"""How well any model could do: what responses to the same stimulus have in common.

A response is signal plus noise; a model of the stimulus can predict the signal alone. What several repeats share is signal.
"""

from itertools import combinations

import numpy as np

from sparkneuro.encoding.scores import correlation, score_sums
from sparkneuro.errors import FormatError


def explainable_variance(repeats):
    """Fraction of the variance of one repeat that all repeats share.

    The mean correlation of all pairs of repeats. It is the same as, with the repeats standardised over scans, m their mean, and
    n how many there are: ``ev = var(m) = 1 - var(repeats - m)``, which the noise left in m makes too large, corrected to
    ``ev - (1 - ev) / (n - 1)``.

    Parameters
    ----------
    repeats : ndarray of shape (n_repeats, n_scans, n_targets)
        Responses to the same stimulus, any unit, at least 2 repeats.

    Returns
    -------
    explainable : ndarray of shape (n_targets,), float64
        About ``signal / (signal + noise)``, in variances; by chance below 0 where there is no signal, NaN where a repeat is
        constant.

    Raises
    ------
    FormatError
        When there are fewer than 2 repeats, or `repeats` is not three-dimensional.

    Notes
    -----
    Noise must be independent between repeats; it may be autocorrelated within one. What is locked to the beginning of a run
    but not to the stimulus, e.g. a drift, counts as signal: regress it out first.

    References
    ----------
    Sahani, Linden (2003). How linear are auditory cortical responses? NIPS 15.
    Hsu, Borst, Theunissen (2004). Quantifying variability in neural responses. Network 15, 91-109.
    Schoppe et al. (2016). Measuring the performance of neural models. Frontiers in Computational Neuroscience 10, 10.
    Dupre la Tour, Visconti di Oleggio Castello, Gallant (2025). The Voxelwise Encoding Model framework: a tutorial.
    Imaging Neuroscience 3.

    Examples
    --------
    >>> explainable_variance(np.array([[[1.0], [2.0], [3.0]], [[1.0], [3.0], [2.0]]]))
    array([0.5])
    """
    repeats = np.asarray(repeats)
    if repeats.ndim != 3 or len(repeats) < 2:
        raise FormatError(f"repeats must have shape (n_repeats, n_scans, n_targets), at least 2 repeats; got {repeats.shape}.")
    return np.mean([correlation(score_sums(one, other)) for one, other in combinations(repeats, 2)], axis=0)


def noise_ceiling(repeats):
    """Highest correlation that any model can reach, with the mean over repeats and with one repeat.

    ``sqrt(n ev / (1 + (n - 1) ev))`` and ``sqrt(ev)``, with ev the `explainable_variance` and n the number of repeats: the
    correlation of the signal itself with the mean, and with one of them.

    Parameters
    ----------
    repeats : ndarray of shape (n_repeats, n_scans, n_targets)
        Responses to the same stimulus, any unit, at least 2 repeats.

    Returns
    -------
    of_mean : ndarray of shape (n_targets,), float64
        Ceiling for models that are tested on the mean over repeats; 0 where nothing is explainable, NaN where a repeat is
        constant.
    of_one : ndarray of shape (n_targets,), float64
        Ceiling for models that are tested on one repeat.

    References
    ----------
    Schoppe et al. (2016). Measuring the performance of neural models. Frontiers in Computational Neuroscience 10, 10.
    Spearman (1910), Brown (1910), for the reliability of a mean. British Journal of Psychology 3, 271-295 and 296-322.

    Examples
    --------
    >>> of_mean, of_one = noise_ceiling(np.array([[[1.0], [2.0], [3.0]], [[1.0], [3.0], [2.0]]]))
    >>> of_mean.round(3), of_one.round(3)
    (array([0.816]), array([0.707]))
    """
    n_repeats, explainable = len(repeats), np.maximum(explainable_variance(repeats), 0)
    return np.sqrt(n_repeats * explainable / (1 + (n_repeats - 1) * explainable)), np.sqrt(explainable)
