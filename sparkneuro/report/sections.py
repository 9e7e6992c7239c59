"""The sections of the report on an autoencoder: what was measured, drawn and said in words.

Each function returns a heading and the parts below it, for `html.build_page`.
"""

import numpy as np

from sparkneuro.report import brain, figures
from sparkneuro.report.html import paragraph, picture, table

LONGEST_TABLE = 60
MODES = {"downpour": "Downpour SGD on Spark", "standalone": "Plain Keras fit in one process"}


def describe_data(runs, steps, mask, affine, tsnr, units):
    """Section on the runs, the mask and the signal.

    Parameters
    ----------
    runs : list of dict
        Fields of the table's runs.
    steps : sequence of str
        What was done to the series.
    mask : ndarray of shape (x, y, z), bool, or None
        Voxels of the table; None where rows have no grid, and nothing is drawn.
    affine : array_like of shape (4, 4)
        From voxel indices to mm.
    tsnr : ndarray of shape (x, y, z) or None
        Mean temporal signal-to-noise ratio of the runs.
    units : str
        Of the series.

    Returns
    -------
    section : tuple of (str, list of str)
        Heading and parts.
    """
    columns = ("subject", "session", "task", "run", "scans", "TR (s)", "voxels", "constant", "non-finite", "median tSNR")
    names = ("subject", "session", "task", "run", "n_scans", "t_r", "n_voxels", "n_constant", "n_non_finite", "tsnr_median")
    rows = [[run[name] if run[name] != "" else None for name in names] for run in runs[:LONGEST_TABLE]]
    subjects, n_rows = {run["subject"] for run in runs}, sum(run["n_voxels"] for run in runs)
    parts = [
        paragraph(
            f"{_count(len(runs), 'run')} of {_count(len(subjects), 'subject')}; {n_rows:,} rows, each the series of one voxel in"
            f" one run{'' if mask is None else f'; {int(mask.sum()):,} voxels in the mask'}. Unit of the series: {units}."
            + (f" Steps: {'; '.join(steps)}." if steps else "")
        ),
        table(columns, rows),
        paragraph(
            (f"{len(runs) - len(rows):,} more runs are not listed. " if len(runs) > len(rows) else "")
            + "Constant and non-finite voxels of the mask have no row. tSNR: mean over standard deviation, before cleaning."
        ),
    ]
    if mask is None:
        return "Data", parts
    if tsnr is None:
        drawn = brain.draw_slices(mask.astype(float), mask, affine, "in the mask", limits=(0, 1))
        return "Data", [*parts, picture(drawn, "Axial slices of the mask.", "The mask. This table keeps no tSNR map.")]
    drawn = brain.draw_slices(tsnr, mask & (tsnr > 0), affine, "tSNR (mean / SD)", outline=mask)
    caption = (
        "Temporal signal-to-noise ratio before cleaning, mean over runs; voxels of the mask without rows are dark grey."
        " Slices are seen from above, z at their centre."
    )
    return "Data", [*parts, picture(drawn, "Axial slices, coloured by temporal signal-to-noise ratio.", caption)]


def describe_training(record):
    """Section on the course of the training.

    Parameters
    ----------
    record : dict
        The model's ``training.json``.

    Returns
    -------
    section : tuple of (str, list of str)
        Heading and parts.
    """
    history, length = record["history"], record["series_length"]
    summary = paragraph(
        f"{MODES.get(record['mode'], record['mode'])}; {record['n_parameters']:,} parameters;"
        f" {record['n_training_series']:,} training series of {length} scans;"
        f" {_count(len(history), 'epoch')} in {record['training_s']:,.0f} s."
    )
    if not history:
        return "Training", [summary, paragraph("No epoch was completed, so there is no curve to draw.")]
    losses = (
        "Loss of a series: half the summed squared error of its reconstruction, plus the weighted bottleneck term. Training: mean"
        " over the epoch's batches, while the weights change. Validation: over held-out series at the epoch's end."
    )
    stale = any(row.get("staleness_mean") is not None for row in history)
    speed = "Throughput of all workers together" if stale else "Throughput"
    if record.get("series_per_s"):
        speed += f", {record['series_per_s']:,.0f} series/s in the steady state"
    if record.get("startup_s") is not None:
        speed += f", after {record['startup_s']:.1f} s of start-up"
    staleness = "Staleness: updates by others between a worker's pull and its push." if stale else "No staleness: one process."
    return "Training", [
        summary,
        picture(figures.draw_losses(history, length), "Training and validation loss over epochs and over time.", losses),
        picture(figures.draw_speed(history), "Throughput and staleness over epochs.", f"{speed}. {staleness}"),
    ]


def describe_reconstructions(examples, correlation, which, t_r, unit):
    """Section on single series and their reconstructions.

    Parameters
    ----------
    examples : list of dict
        name, series, reconstruction, correlation.
    correlation : ndarray of shape (n_rows,)
        Pearson r of each row with its reconstruction.
    which : str
        Which rows these are, in words.
    t_r : float or None
        Repetition time (s); None where runs differ.
    unit : str
        Of the series.

    Returns
    -------
    section : tuple of (str, list of str)
        Heading and parts.
    """
    heading = "Original and reconstruction"
    if not examples:
        return heading, [paragraph("No reconstruction correlates with its series: one of the two is constant in every row.")]
    drawn = figures.draw_reconstructions(examples, t_r, unit)
    caption = f"Series among {which}, from the best to the worst reconstructed. r: Pearson's, over all scans of the series."
    median = {"median": float(np.nanmedian(correlation))}
    spread = figures.draw_distribution(correlation, "Pearson r of series and reconstruction", median)
    return heading, [
        picture(drawn, "Series and their reconstructions drawn over each other.", caption),
        picture(spread, "Histogram of the correlation over rows.", f"Correlation of series and reconstruction: {which}."),
    ]


def describe_filters(kernel, t_r):
    """Section on the first layer.

    Parameters
    ----------
    kernel : ndarray of shape (n_samples, n_filters)
        Weights of the first convolution.
    t_r : float or None
        Repetition time (s); None where runs differ.

    Returns
    -------
    section : tuple of (str, list of str)
        Heading and parts.
    """
    drawn = figures.draw_filters(kernel, t_r)
    caption = f"All {kernel.shape[1]} filters of the first convolution, {kernel.shape[0]} scans long, on one scale."
    return "First-layer filters", [picture(drawn, "Small line charts of the first layer's filters.", caption)]


def describe_map(errors, covered, mask, affine, n_runs, unit):
    """Section on where in the brain reconstruction fails.

    Parameters
    ----------
    errors : ndarray of shape (x, y, z)
        Mean squared error of each voxel, mean over runs.
    covered, mask : ndarray of shape (x, y, z), bool
        Voxels with rows; voxels of the table.
    affine : array_like of shape (4, 4)
        From voxel indices to mm.
    n_runs : int
        How many runs.
    unit : str
        Of the error.

    Returns
    -------
    section : tuple of (str, list of str)
        Heading and parts.
    """
    drawn = brain.draw_slices(errors, covered, affine, f"mean squared error ({unit})", colours="magma", outline=mask)
    caption = (
        f"Mean squared error of the autoencoder's reconstruction of each voxel, {'mean over ' if n_runs > 1 else ''}"
        f"{_count(n_runs, 'run')}, training rows included. Colours end at the 2nd and 98th percentile."
    )
    return "Map of reconstruction error", [picture(drawn, "Axial slices, coloured by reconstruction error.", caption)]


def describe_errors(rows, pca_errors, levels, which, fitted_on, unit):
    """Section that holds the autoencoder against PCA.

    Parameters
    ----------
    rows : list of tuple
        Method, numbers kept of a series, switches kept of it, mean squared error, median r or None.
    pca_errors : ndarray of shape (n_scans + 1,)
        Mean squared error of PCA with each number of components.
    levels : dict of str to float
        Errors of the other methods.
    which, fitted_on : str
        Which rows were measured, and which the components were fitted on, in words.
    unit : str
        Of the errors.

    Returns
    -------
    section : tuple of (str, list of str)
        Heading and parts.
    """
    columns = ("method", "numbers kept", "switches kept (bits)", f"mean squared error ({unit})", "median r")
    caption = "PCA with every number of components; the autoencoder's errors are lines, since its width is fixed at T."
    return "Reconstruction error beside PCA", [
        paragraph(f"Measured on {which}. The principal components were fitted on {fitted_on}."),
        table(columns, rows),
        paragraph(
            f"H is as wide as the series ({len(pca_errors) - 1} numbers), so a small error does not show compression: PCA of that"
            " width would have no error at all. Moreover the switches go past H: for every pair of samples of every pooled map"
            " the decoder is told which one was larger. The line for H alone decodes H without switches, as is done for"
            " dictionary atoms. The network is not trained for that and its scale is off, so there r says more than the error."
        ),
        picture(figures.draw_errors(pca_errors, levels, unit), "Error of PCA against its number of components.", caption),
    ]


def describe_features(variances, n_rows, path):
    """Section on a table of hidden features.

    Parameters
    ----------
    variances : ndarray of shape (n_features,)
        Variances of the features' principal components, the largest first.
    n_rows : int
        Rows they come from.
    path : str
        The table.

    Returns
    -------
    section : tuple of (str, list of str)
        Heading and parts.
    """
    shares = np.cumsum(variances) / max(variances.sum(), np.finfo(float).tiny)
    needed = [(f"{share:.0%}", int(np.searchsorted(shares, share) + 1)) for share in (0.5, 0.9, 0.95, 0.99)]
    return "Hidden features", [
        paragraph(f"{path}: {len(variances)} features of each of {n_rows:,} rows. How many directions of H carry its variance:"),
        table(("share of the variance of H", "principal components needed"), needed),
    ]


def describe_settings(settings, versions):
    """Section that lets the work be done again.

    Parameters
    ----------
    settings : dict
        Settings of the training.
    versions : dict of str to str
        Of the software.

    Returns
    -------
    section : tuple of (str, list of str)
        Heading and parts.
    """
    words = {name: ", ".join(map(str, value)) if isinstance(value, list | tuple) else value for name, value in settings.items()}
    rows = [(name, "–" if word in (None, "") else str(word)) for name, word in words.items()]
    return "Settings and versions", [
        table(("setting of the training", "value"), rows),
        table(("software of this report", "version"), list(versions.items())),
    ]


def _count(n, noun):
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
