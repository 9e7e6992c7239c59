"""The card of one run: its numbers, its course scan by scan before and after cleaning, and its temporal signal-to-noise ratio."""

import numpy as np

from sparkneuro.report import brain, figures
from sparkneuro.report.html import format_value, mark, paragraph, picture, table
from sparkneuro.report.quality import SIDES, flag_value
from sparkneuro.report.quality_terms import TERMS

COLUMNS = (
    "n_scans", "t_r", "n_voxels", "coverage", "n_constant", "n_non_finite", "tsnr_median", "fd_mean", "fd_max", "n_fd_spikes",
    "dvars_mean", "global_sd", "variance_kept",
)  # fmt: skip
PAIRS = ("sd", "dvars_std_mean", "dvars_std_max", "n_dvars_spikes", "r_global", "r_fd", "r_dvars_fd")


def describe_run(name, row, found, picture_of_scans, tsnr, mask, affine):
    """Section on one run: its card.

    Parameters
    ----------
    name : str
        The run's key.
    row : dict
        Its numbers.
    found : list of dict
        Its entries of `find_outliers`, with `bad`, the side.
    picture_of_scans : bytes or None
        From `quality_figures.draw_run`; None for a run that was ingested without its traces.
    tsnr : ndarray of shape (x, y, z) or None
        Map of the temporal signal-to-noise ratio, 0 where there is no series.
    mask : ndarray of shape (x, y, z), bool, or None
        Voxels of the table.
    affine : array_like of shape (4, 4)
        From voxel indices to mm.

    Returns
    -------
    section : tuple of (str, list of str)
        Heading and parts.
    """
    parts = [_describe_verdict(found)]
    flags = {entry["measure"]: entry["bad"] for entry in found}
    known = [column for column in COLUMNS if row.get(column) is not None]
    tables = [table(("", "value"), [(TERMS[column].heading, flag_value(row[column], flags.get(column))) for column in known])]
    pairs = [name for name in PAIRS if row.get(f"{name}_before") is not None]
    if pairs:
        labels = [TERMS[f"{name}_before"].heading.replace(" before", "") for name in pairs]
        lines = [(label, row[f"{name}_before"], row[f"{name}_after"]) for label, name in zip(labels, pairs, strict=True)]
        tables.append(table(("", "before cleaning", "after cleaning"), lines))
    parts.append(f'<div class="beside">{"".join(tables)}</div>')
    if row.get("fd_mean") is None:
        parts.append(
            paragraph(f"Motion is not known: {row.get('motion_source') or 'it was not read when this run was ingested'}.")
        )
    if picture_of_scans is None:
        parts.append(paragraph("This run was ingested without DVARS and carpets; ingest it into a new table to see them."))
    else:
        caption = (
            "Triangles: scans above the dashed limit. Carpets: one row a voxel, at most 300 spread evenly over the mask, z-scored"
            " over scans; a stripe from top to bottom is something that all voxels share. Before: as measured, with its drift."
            " The global signal is the mean of all voxels before cleaning."
        )
        parts.append(picture(picture_of_scans, f"Motion, DVARS and carpets of {name}, scan by scan.", caption))
    if tsnr is not None and (tsnr > 0).any():
        parts += _draw_tsnr(tsnr, mask, affine)
    return name, parts


def _describe_verdict(found):
    if not found:
        return paragraph("Within all limits.")
    words = [
        f"{TERMS[entry['measure']].axis} {SIDES[entry['bad']]}: {format_value(entry['value'])}, limit"
        f" {format_value(entry['limit'])} ({entry['reason']})"
        for entry in found
    ]
    return f"<p>{mark('; '.join(words))}</p>"


def _draw_tsnr(tsnr, mask, affine):
    values = tsnr[mask & (tsnr > 0)]
    spread = figures.draw_distribution(values, "tSNR (mean / SD), before cleaning", {"median": float(np.median(values))})
    slices = brain.draw_slices(tsnr, mask & (tsnr > 0), affine, "tSNR (mean / SD)", outline=mask)
    return [
        picture(
            slices, "Axial slices, coloured by temporal signal-to-noise ratio.", "tSNR; voxels without a series are dark grey."
        ),
        picture(spread, "Histogram of tSNR over voxels.", "tSNR over voxels (rows of the voxel table)."),
    ]
