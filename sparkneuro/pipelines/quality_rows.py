"""The runs of a voxel table as rows of numbers on their quality, and which of them lie beyond a limit."""

import csv
import io
import json
from dataclasses import asdict, replace

import numpy as np

from sparkneuro.data.quality_file import read_numbers
from sparkneuro.preprocess.outliers import MEASURES, find_outliers, find_robust_limit

FROM_RUN = ("subject", "session", "task", "run", "n_scans", "t_r", "n_voxels", "n_constant", "n_non_finite", "tsnr_median")


def collect_rows(table):
    """Collect the numbers of a table's runs.

    Parameters
    ----------
    table : VoxelTable
        The table.

    Returns
    -------
    rows : list of dict
        One a run, in the table's order, by the names of `sparkneuro.report.quality_terms`; what was not measured is absent.
    """
    numbers = read_numbers(table.path, [run.key for run in table.runs])
    rows = []
    for run in table.runs:
        row = {name: value for name, value in asdict(run).items() if name in FROM_RUN}
        row |= {"coverage": round(run.n_voxels / table.n_voxels, 6), **numbers[run.key]}
        if row.get("n_dvars_spikes_before") is not None:
            row["dvars_spikes"] = round(row["n_dvars_spikes_before"] / max(run.n_scans - 1, 1), 6)
        rows.append(row)
    return rows


def judge_rows(rows, n_mads=3.0, **limits):
    """Find outliers, and write into each row its score and the measures in which it is one.

    Parameters
    ----------
    rows : list of dict
        From `collect_rows`; changed in place.
    n_mads : float
        Scaled MADs from the median at which the usual ends.
    **limits : float or None
        Fixed limit of a measure, by its name; None switches it off. Those of `MEASURES` when absent.

    Returns
    -------
    outliers : list of dict
        From `find_outliers`, each with `bad`, its side.
    columns : list of dict
        For `quality_figures.draw_cohort`, without `names`.
    """
    measures = [replace(measure, limit=limits.get(measure.name, measure.limit)) for measure in MEASURES]
    outliers, scores = find_outliers(rows, measures, n_mads)
    sides = {measure.name: measure.bad for measure in measures}
    outliers = [{**found, "bad": sides[found["measure"]], "limit": float(f"{found['limit']:.6g}")} for found in outliers]
    for place, row in enumerate(rows):
        row["score"] = round(float(scores[place]), 2) + 0.0
        row["outlier"] = ",".join(found["measure"] for found in outliers if found["row"] == place)
    return outliers, [column for measure in measures if (column := _make_column(rows, measure, outliers, n_mads))]


def write_tsv(rows, columns):
    """Write rows as tab-separated values, as BIDS does.

    Parameters
    ----------
    rows : list of dict
        What to write.
    columns : sequence of str
        Which, and in which order.

    Returns
    -------
    content : bytes
        The file; what is missing is ``n/a``.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter="\t", lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["n/a" if row.get(name) in (None, "") else row[name] for name in columns])
    return buffer.getvalue().encode()


def write_json(content):
    """Write what JSON can hold.

    Parameters
    ----------
    content : dict
        What to write.

    Returns
    -------
    content : bytes
        The file.
    """
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()


def _make_column(rows, measure, outliers, n_mads):
    values = np.array([np.nan if row.get(measure.name) is None else row[measure.name] for row in rows], float)
    if not np.isfinite(values).any():
        return None
    limits = {"robust limit": find_robust_limit(values, measure, n_mads)[0], "fixed limit": measure.limit}
    beyond = {found["row"] for found in outliers if found["measure"] == measure.name}
    return {
        "measure": measure.name,
        "values": values,
        "outlying": [place in beyond for place in range(len(rows))],
        "limits": {name: limit for name, limit in limits.items() if limit is not None and np.isfinite(limit)},
    }
