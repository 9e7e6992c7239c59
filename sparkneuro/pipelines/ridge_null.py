"""Test which voxels are predicted better than chance: circular shifts, and the false discovery rate over voxels.

PREDICTIONS and TABLE are those of 'sparkneuro ridge score'. The runs of a subject are z-scored, each by itself, and put one
after another; r is the correlation of that. Then each voxel's prediction is shifted round against its series by every number of
scans from --min-shift on. Such a shift keeps the autocorrelation of both, which shuffled scans would not. p is the share of
shifts that correlate as well; q is the false discovery rate (Benjamini and Hochberg) over all voxels of a subject.

The smallest p is 1 / (1 + n_shifts), with n_shifts = n_scans - 2 min_shift + 1, so few test scans limit what can be significant:
of n voxels, at least n / ((1 + n_shifts) fdr) are, or none is. For 265,000 voxels, 1,000 shifts and an FDR of 0.05, that is
5,295 voxels. Where none is although some have the smallest p, it is said how many scans these would need. Test on more runs,
or on fewer voxels: ingest them with a mask of the regions that matter.
"""

import math
from dataclasses import dataclass
from functools import reduce

import numpy as np

from sparkneuro.data import store
from sparkneuro.data.target_block import read_columns, write_columns
from sparkneuro.encoding.significance import FEWEST_SHIFTS, circular_shift_p, fdr
from sparkneuro.errors import FormatError
from sparkneuro.pipelines.comparison import WORK, compute_blocks, match_predictions, plan_blocks, read_pairs
from sparkneuro.pipelines.score_maps import write_scores
from sparkneuro.pipelines.settings import argument, option
from sparkneuro.validation import check_number


@dataclass(frozen=True)
class Settings:
    """Settings of ``sparkneuro ridge null``; see each field's help."""

    predictions: str = argument("voxel table of predicted series, or folder of an encoding model")
    table: str = argument("voxel table that was measured")
    output: str = option("significance", "folder of maps and p values, on a filesystem that all machines share")
    min_shift: int = option(10, "shortest shift in scans: longer than the response and the autocorrelation of the signals")
    fdr: float = option(0.05, "false discovery rate at which a voxel is called significant")


def needs_spark(settings):
    """Say whether a Spark session is needed: when blocks are missing, once the inputs are known to go together.

    Parameters
    ----------
    settings : Settings
        The settings.

    Returns
    -------
    needed : bool
        Whether `run` will use its session.
    """
    return bool(plan_blocks(check_inputs(settings), settings.output, _options(settings))[1])


def run(settings, spark):
    """Test the predictions, and write maps, tables, a summary and pictures.

    Parameters
    ----------
    settings : Settings
        The settings.
    spark : pyspark.sql.SparkSession or None
        The session; None will do when no block is missing.

    Returns
    -------
    result : dict
        Where the results are, how much is significant, and what is in the way where nothing can be.
    """
    comparison = check_inputs(settings)
    scores = compute_blocks(comparison, settings.output, shift_block, _options(settings), spark)
    extra = {**comparison.paths, "min_shift": settings.min_shift, "fdr": settings.fdr, "subjects": {}}
    for subject, columns in scores.items():
        facts = comparison.subjects[subject]
        columns["q"] = fdr(columns["p"])
        columns["r_significant"] = np.where(columns["q"] <= settings.fdr, columns["r"], np.float32(0))
        columns["r_significant"][np.isnan(columns["q"])] = np.nan
        warning = explain_floor(columns["p"], columns["q"], facts["n_scans"], settings.min_shift, settings.fdr)
        null_counts = _add_counts(settings.output, subject, comparison.table.n_blocks)
        n_shifts = count_shifts(facts["n_scans"], settings.min_shift)
        more = {"n_shifts": n_shifts, "smallest_p": 1 / (1 + n_shifts), "null_counts": null_counts, "warning": warning}
        extra["subjects"][subject] = {**facts, **more}
    return _report(settings, write_scores(settings.output, comparison.table, scores, extra))


def check_inputs(settings):
    """Match predictions and table, and check that there are scans enough.

    Parameters
    ----------
    settings : Settings
        The settings.

    Returns
    -------
    comparison : Comparison
        What is compared.

    Raises
    ------
    SettingsError
        When a number makes no sense.
    FormatError
        When the tables do not go together, or leave fewer than 20 shifts.
    """
    check_number("--min-shift", settings.min_shift, minimum=1, integer=True)
    check_number("--fdr", settings.fdr, 0, 1, exclusive=True)
    comparison = match_predictions(settings.predictions, settings.table)
    for subject, facts in comparison.subjects.items():
        if (n_shifts := count_shifts(facts["n_scans"], settings.min_shift)) < FEWEST_SHIFTS:
            scans = f"the {facts['n_scans']} scans of sub-{subject} and --min-shift {settings.min_shift}"
            raise FormatError(
                f"{comparison.predictions.path}: a null needs at least {FEWEST_SHIFTS} circular shifts, and {scans} leave"
                f" {max(n_shifts, 0)}; test on more runs."
            )
    return comparison


def count_shifts(n_scans, min_shift):
    """Count the shifts that are at least so long in either direction.

    Parameters
    ----------
    n_scans : int
        Length of the series.
    min_shift : int
        The shortest shift.

    Returns
    -------
    n_shifts : int
        How many shifts the null has.

    Examples
    --------
    >>> count_shifts(118, 10)
    99
    """
    return n_scans - 2 * min_shift + 1


def shift_block(job):
    """Test one block of one subject's targets.

    Parameters
    ----------
    job : dict
        See `read_pairs`; ``min_shift``; ``output``, the file that is written: voxel, r and p, one row a target. A file beside it
        holds the block's part of the null's distribution.

    Returns
    -------
    result : dict
        ``n_targets``.
    """
    parts = [(names, standardize_run(Y), standardize_run(prediction)) for names, Y, prediction in read_pairs(job)]
    voxel = reduce(np.intersect1d, [names for names, _, _ in parts])
    kept = [np.isin(names, voxel) for names, _, _ in parts]
    Y = np.concatenate([Y.T[mine].T for (_, Y, _), mine in zip(parts, kept, strict=True)])
    prediction = np.concatenate([prediction.T[mine].T for (_, _, prediction), mine in zip(parts, kept, strict=True)])
    r, p, null_counts = circular_shift_p(Y, prediction, job["min_shift"])
    write_columns(_counts_path(job["output"]), {"null_counts": null_counts})
    write_columns(job["output"], {"voxel": voxel, "r": r.astype(np.float32), "p": p})
    return {"n_targets": len(voxel)}


def standardize_run(series):
    """z-score the series of one run, in place.

    Parameters
    ----------
    series : ndarray of shape (n_scans, n_targets), float32
        Any unit.

    Returns
    -------
    series : ndarray of shape (n_scans, n_targets), float32
        The same array: mean 0 and standard deviation 1; exactly 0 where a series is constant.

    Examples
    --------
    >>> standardize_run(np.array([[1, 5], [3, 5]], np.float32)).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """
    series -= series[0].copy()  # a constant becomes exactly 0, which a rounded mean would not give
    series -= series.mean(axis=0, dtype=np.float64).astype(np.float32)
    scale = np.sqrt(np.einsum("ij,ij->j", series, series, dtype=np.float64) / len(series))
    series /= np.where(scale == 0, 1, scale).astype(np.float32)
    return series


def explain_floor(p, q, n_scans, min_shift, rate):
    """Say how many scans would be needed, where no target is significant although some have the smallest p there can be.

    Parameters
    ----------
    p, q : ndarray of shape (n_targets,)
        p and q values; NaN for targets that were not tested.
    n_scans, min_shift : int
        Length of the series, and the shortest shift.
    rate : float
        The largest q value that is called significant.

    Returns
    -------
    sentence : str or None
        None where something is significant, or where no target has the smallest p value.
    """
    n_tested, n_shifts = int(np.isfinite(p).sum()), count_shifts(n_scans, min_shift)
    smallest = 1 / (1 + n_shifts)
    n_smallest = int(np.count_nonzero(p <= smallest * (1 + 1e-9)))
    if not n_smallest or (q <= rate).any():
        return None
    needed = math.ceil(n_tested / (rate * n_smallest)) + 2 * min_shift - 2
    return (
        f"no voxel is significant at FDR {rate:g}: {n_shifts:,} shifts allow no p below {smallest:.2g}, which {n_smallest:,} of"
        f" {n_tested:,} voxels have, at q = {min(1, smallest * n_tested / n_smallest):.2g}; as many such voxels would need at"
        f" least {needed:,} scans, and there are {n_scans:,}."
    )


def _options(settings):
    return {"command": "ridge null", "min_shift": settings.min_shift}


def _counts_path(path):
    return path.removesuffix(".parquet") + "_null.parquet"


def _add_counts(output, subject, n_blocks):
    folder = store.join(output, WORK, f"subject={subject}")
    paths = [_counts_path(store.join(folder, f"block={block:05d}.parquet")) for block in range(n_blocks)]
    return np.sum([read_columns(path)["null_counts"] for path in paths], axis=0).tolist()


def _report(settings, summary):
    result = {"significance": settings.output}
    for subject, facts in summary["subjects"].items():
        n, n_tested = facts["significant"]["n"], facts["significant"]["n_tested"]
        share = f" ({n / n_tested:.1%})" if n_tested else ""
        result[f"sub-{subject}"] = f"{n:,} of {n_tested:,} voxels{share} significant at FDR {settings.fdr:g}"
        if facts["warning"]:
            result[f"sub-{subject}, but"] = facts["warning"]
    return result
