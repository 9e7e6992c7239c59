"""Scores of brain targets as files that people and programs open: maps, tables, a summary and pictures.

    maps/sub-01_r.nii.gz            one map a score, on the grid of the voxel table; NaN where there is no target (of
                                    grayordinates .dscalar.nii, and of rows without any place none)
    scores/subject=01.parquet       the same numbers by voxel, with their own precision
    scores.json                     a summary of each subject
    figures/sub-01_r.png            maps and distributions as pictures, where matplotlib is installed
"""

import json
import logging

import numpy as np

from sparkneuro.data import row_space, store
from sparkneuro.data.nifti import write_volume
from sparkneuro.data.target_block import write_columns
from sparkneuro.errors import MissingExtraError, require

log = logging.getLogger(__name__)

FORMAT = 1
SUMMARY = "scores.json"
FDR = 0.05


def write_scores(output, table, scores, extra=None):
    """Write scores as maps, tables, a summary and pictures.

    Parameters
    ----------
    output : str
        Path or URI of the folder; files that are there are replaced.
    table : VoxelTable
        The table whose voxels were scored.
    scores : dict of str to dict of str to ndarray
        For each subject: ``voxel``, and columns with one value a target, such as r, r2, alpha, p, q.
    extra : dict or None
        Facts that JSON can hold, which are added to the summary; those under ``subjects``, to the subject of that name. The
        pictures use ``fdr``, the ``alphas`` of ``settings``, and a subject's alpha, losses, criterion and null_counts.

    Returns
    -------
    summary : dict
        What ``scores.json`` holds.
    """
    extra, numbers = extra or {}, table.row_numbers() if table.has_grid else None
    figures, subjects = _import_figures(), {}
    for subject, columns in scores.items():
        facts = extra.get("subjects", {}).get(subject, {})
        write_columns(store.join(output, "scores", f"subject={subject}.parquet"), columns)
        volumes = _write_maps(output, table, numbers, subject, columns)
        if figures is not None:
            pictures = _draw_scores(figures, numbers, table.affine, columns, volumes, facts, extra)
            for name, content in pictures.items():
                store.write_bytes(store.join(output, "figures", f"sub-{subject}_{name}"), content)
        subjects[subject] = {**facts, **summarise_columns(columns, extra.get("fdr", FDR))}
    summary = {**extra, "format": FORMAT, "n_voxels": table.n_voxels, "subjects": subjects}
    # The last thing: a folder with a summary is whole.
    store.write_bytes(store.join(output, SUMMARY), json.dumps(summary, indent=1, allow_nan=False).encode())
    return summary


def summarise_columns(columns, fdr=FDR):
    """Summarise the scores of one subject.

    Parameters
    ----------
    columns : dict of str to ndarray
        ``voxel``, and any of r, r2 and q; one value a target.
    fdr : float
        The largest q value that is called significant.

    Returns
    -------
    summary : dict
        ``n_targets``; for r and r2, ``mean``, ``median`` and ``max`` of the finite values (None without any) and ``n_nan``; for
        q, ``significant``: their number and their share of the targets that were tested.

    Examples
    --------
    >>> summarise_columns({"voxel": np.arange(3), "r": np.array([0.25, np.nan, 0.75])})["r"]
    {'mean': 0.5, 'median': 0.5, 'max': 0.75, 'n_nan': 1}
    """
    summary = {"n_targets": len(columns["voxel"])}
    for name in ("r", "r2"):
        if name in columns:
            summary[name] = _summarise(np.asarray(columns[name], np.float64))
    if "q" in columns:
        n_tested, n = int(np.isfinite(columns["q"]).sum()), int((columns["q"] <= fdr).sum())
        summary["significant"] = {"fdr": fdr, "n": n, "n_tested": n_tested, "share": n / n_tested if n_tested else None}
    return summary


def _summarise(values):
    finite = values[np.isfinite(values)]
    numbers = {"mean": np.mean, "median": np.median, "max": np.max}
    return {
        **{name: float(function(finite)) if len(finite) else None for name, function in numbers.items()},
        "n_nan": len(values) - len(finite),
    }


def _write_maps(output, table, numbers, subject, columns):
    """Write a map of each column; return those that are volumes."""
    names = [name for name, values in columns.items() if name != "voxel" and values.ndim == 1 and np.isfinite(values).any()]
    maps = {name: columns[name] for name in names}
    if table.rows == row_space.GRAYORDINATES:
        _write_dense_maps(output, table, subject, maps, columns["voxel"])
    if numbers is None:
        return {}
    volumes = {name: row_space.place_rows(numbers, columns["voxel"], values) for name, values in maps.items()}
    for name, volume in volumes.items():
        write_volume(store.join(output, "maps", f"sub-{subject}_{name}.nii.gz"), volume, table.affine)
    return volumes


def _write_dense_maps(output, table, subject, maps, row):
    from sparkneuro.data.cifti import read_brain_models, write_maps

    brain_models = read_brain_models(store.join(table.path, row_space.BRAIN_MODELS))
    for name, values in maps.items():
        dense = np.full((1, table.n_voxels), np.nan, np.float32)
        dense[0, row] = values
        write_maps(store.join(output, "maps", f"sub-{subject}_{name}.dscalar.nii"), [name], dense, brain_models)


def _import_figures():
    try:
        require("matplotlib", "report")
    except MissingExtraError as error:
        log.warning("no figures are drawn: %s", error)
        return None
    from sparkneuro.report import encoding

    return encoding


def _draw_scores(figures, numbers, affine, columns, volumes, facts, extra):
    """Every picture of one subject, by the ending of its name."""
    pictures, mask = {}, None if numbers is None else numbers > 0
    if "r" in volumes:
        pictures["r.png"] = figures.draw_correlation_map(volumes["r"], mask, affine)
    if np.isfinite(columns.get("r", np.nan)).any():
        pictures["r_histogram.svg"] = figures.draw_score_histogram(columns["r"], facts.get("null_counts"))
    if "r_significant" in volumes:
        significant = np.where(volumes["r_significant"] == 0, np.nan, volumes["r_significant"])
        label = f"correlation r where q ≤ {extra.get('fdr', FDR):g}"
        pictures["r_significant.png"] = figures.draw_correlation_map(significant, mask, affine, label)
    if np.isfinite(columns.get("alpha", np.nan)).any():
        pictures |= _draw_alphas(figures, mask, affine, columns["alpha"], volumes.get("alpha"), facts, extra)
    return pictures


def _draw_alphas(figures, mask, affine, chosen, volume, facts, extra):
    alphas = extra.get("settings", {}).get("alphas") or np.unique(chosen[np.isfinite(chosen)])
    if facts.get("alpha") is None:
        pictures = {"alpha.svg": figures.draw_alphas(alphas, chosen)}
        return pictures if volume is None else {**pictures, "alpha.png": figures.draw_alpha_map(volume, mask, affine, alphas)}
    if not facts.get("losses"):
        return {}  # one penalty was given, so nothing was chosen
    label = f"loss ({facts['criterion']})" if "criterion" in facts else "loss"
    return {"alpha.svg": figures.draw_alphas(alphas, facts["alpha"], facts["losses"], label)}
