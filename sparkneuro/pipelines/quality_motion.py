"""Motion in the connectivity of a cohort: QC-FC of the edges that an ingest has kept of each run."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from sparkneuro.analysis.qc_fc import FEWEST, correlate_with_motion, expect_by_chance, summarise_qc_fc
from sparkneuro.data.quality_file import read_quality
from sparkneuro.data.row_space import locate_rows

STAGES = ("before", "after")


def measure_motion(table, rows):
    """Correlate edges with motion, across subjects where there are ten, else across runs.

    A subject's runs are averaged (edges by Fisher's z). Holds two half-precision numbers an edge and run (20 kB a run).

    Parameters
    ----------
    table : VoxelTable
        The table.
    rows : list of dict
        Numbers of its runs, in its order.

    Returns
    -------
    measured : dict or None
        summaries, r, distance, n_units, unit and chance, for `describe_qc_fc`; None where motion is known of fewer than ten runs.
    """
    known = [(run, row["fd_mean"]) for run, row in zip(table.runs, rows, strict=True) if row.get("fd_mean") is not None]
    if len(known) < FEWEST:
        return None
    with ThreadPoolExecutor(8) as pool:  # a bucket answers one request after the other slowly, and many at once as fast
        kept = list(pool.map(lambda pair: _read_edges(table.path, pair[0].key), known))
    whole = [place for place, edges in enumerate(kept) if edges is not None and edges[1].shape == kept[0][1].shape]
    subjects = np.array([known[place][0].subject for place in whole])
    fd = np.array([known[place][1] for place in whole])
    unit = "subject" if len(set(subjects)) >= FEWEST else "run"
    groups = (
        [np.flatnonzero(subjects == one) for one in sorted(set(subjects))]
        if unit == "subject"
        else np.arange(len(whole))[:, None]
    )
    if len(groups) < FEWEST:
        return None
    fd, measured = np.array([fd[group].mean() for group in groups]), {}
    distance = _measure_distances(table, kept[whole[0]][0])
    for number, stage in enumerate(STAGES, start=1):
        edges = [np.mean([kept[whole[place]][number] for place in group], axis=0, dtype=np.float32) for group in groups]
        measured[stage] = correlate_with_motion(np.tanh(edges), fd)
    return {
        "summaries": {stage: summarise_qc_fc(*measured[stage], distance) for stage in STAGES},
        "r": {stage: measured[stage][0] for stage in STAGES},
        "distance": distance,
        "n_units": len(groups),
        "unit": unit,
        "chance": expect_by_chance(len(groups)),
    }


def _read_edges(path, key):
    """Nodes, then Fisher's z of the edges before and after."""
    arrays = read_quality(path, key)
    if arrays is None:
        return None
    return (
        arrays["nodes"],
        *(np.arctanh(np.clip(arrays[f"edges_{stage}"].astype(np.float32), -0.9999, 0.9999)) for stage in STAGES),
    )


def _measure_distances(table, nodes):
    if not table.has_grid:
        return None
    places = locate_rows(table.row_numbers(), table.affine)[nodes]
    first, second = np.triu_indices(len(nodes), 1)
    return np.linalg.norm(places[first] - places[second], axis=1)
