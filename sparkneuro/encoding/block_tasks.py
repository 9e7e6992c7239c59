"""What a task does with blocks of targets: sum them up for the choice of one penalty, or fit them.

Plain functions of dicts that JSON can hold, so that Spark, a loop or a test calls them alike. All that is large is read from
files and written to files.
"""

import os
import tempfile
from functools import partial

import numpy as np

from sparkneuro.data import store
from sparkneuro.data.array_file import create_array, open_array, write_array
from sparkneuro.data.block import write_block
from sparkneuro.data.target_block import read_targets, write_columns
from sparkneuro.data.voxel_table import VoxelTable
from sparkneuro.encoding.choice import choose_each
from sparkneuro.encoding.design import Design, open_rule
from sparkneuro.encoding.ridge import prefers_gram
from sparkneuro.encoding.scores import correlation, r2, score_sums
from sparkneuro.encoding.symmetric_sum import SymmetricSum
from sparkneuro.errors import FormatError

BYTES_AT_ONCE = 256 << 20
"""Of the targets that are fitted together."""


def sum_targets(job):
    """Sum up blocks of one subject's targets, for the choice of one penalty for all of them.

    Parameters
    ----------
    job : dict
        ``table``, ``runs`` (keys), ``blocks``, ``design`` (path), and ``output``: the folder of the sums.

    Returns
    -------
    result : dict
        ``output``. The sums are arrays in that folder, one file each: ``gram`` (n_scans, n_scans), or those of the criterion.
    """
    if store.exists(store.join(job["output"], "done.npy")):
        return {"output": job["output"]}
    store.delete(job["output"])  # what an earlier try has left
    design, table = Design.open(job["design"]), VoxelTable.open(job["table"])
    runs = [table.find_run(key) for key in job["runs"]]
    n, n_targets = design.n_train, 0
    rules = [open_rule(design, place)[1] for place in range(len(design.gammas))]
    with tempfile.TemporaryDirectory(prefix="sparkneuro-sums-") as folder:
        gram = SymmetricSum(n) if sums_gram(rules[0]) else None
        rules = rules if gram is None else []
        all_sums = [rule.start_sums(partial(_allocate, folder)) for rule in rules]
        for block in job["blocks"]:
            _, Y, _ = read_targets(table, runs, block, design.order())
            Y = _centre(Y, n)[0][:n]
            n_targets += Y.shape[1]
            if gram is not None:
                gram.add(Y)
            for rule, sums in zip(rules, all_sums, strict=True):
                rule.add(sums, rule.project(Y), Y)
            store.write_bytes(summed_path(job["output"], block), b"")
        if gram is not None:
            all_sums = [{"gram": gram.total()}]
        for place, sums in enumerate(all_sums):
            for name, array in sums.items():
                write_array(store.join(job["output"], f"{name}-{place}.npy"), array)
    write_array(store.join(job["output"], "done.npy"), np.array([n_targets]))
    return {"output": job["output"]}


def _allocate(folder, shape, dtype):
    return create_array(f"{folder}/{len(os.listdir(folder))}.npy", shape, dtype)


def summed_path(output, block):
    """Tell which empty file says that a block is summed up, for whoever watches.

    Parameters
    ----------
    output : str
        The folder of the sums.
    block : int
        Number of the block.

    Returns
    -------
    path : str
        Path or URI.
    """
    return store.join(output, f"block={block:05d}")


def sums_gram(rule):
    """Tell whether tasks sum up products of scans with scans.

    Parameters
    ----------
    rule : Criterion
        Of one weighting of the feature spaces.

    Returns
    -------
    gram : bool
        Whether that is cheaper for this criterion; then one sum serves every weighting.
    """
    return rule.takes_gram and prefers_gram(rule.decomposition.n_scans, rule.decomposition.rank)


def fit_block(job):
    """Fit one block of one subject's targets and write what comes of it.

    Parameters
    ----------
    job : dict
        ``table``, ``runs`` (keys, training runs first), ``n_test_runs``, ``block``, ``design`` (path), ``output`` (the model's
        folder), and ``place`` and ``alpha``: the weighting of feature spaces and the penalty, None where each target chooses;
        ``operator``: path of what turns targets into results, or None.

    Returns
    -------
    result : dict
        ``n_targets`` and ``n_missing``. Files: scores in ``targets/``, coefficients and predictions where they are wanted.
    """
    design, table = Design.open(job["design"]), VoxelTable.open(job["table"])
    runs = [table.find_run(key) for key in job["runs"]]
    voxel, Y, n_missing = read_targets(table, runs, job["block"], design.order())
    n_targets = len(voxel)
    Y, mean = _centre(Y, design.n_train)
    n_basis = design.n_test + (design.n_features if design.coefficients else 0)
    results = np.empty((n_targets, n_basis), np.float32).T
    chosen = {"alpha": np.empty(n_targets), "loss": np.full(n_targets, np.nan), "weighting": np.zeros(n_targets, np.int32)}
    size = max(1, BYTES_AT_ONCE // (4 * len(Y)))
    for start in range(0, n_targets, size):
        columns = slice(start, min(start + size, n_targets))
        part = {name: values[columns] for name, values in chosen.items()}
        _fit_columns(job, design, Y[: design.n_train, columns], results[:, columns], part)
    _write(job, design, runs, table, voxel, Y, mean, results, chosen)
    return {"n_targets": n_targets, "n_missing": n_missing}


def target_path(output, subject, block):
    """Tell where the alphas and scores of a block are.

    Parameters
    ----------
    output : str
        The model's folder.
    subject : str
        Label.
    block : int
        Number of the block.

    Returns
    -------
    path : str
        Path or URI of a Parquet file.
    """
    return store.join(output, "targets", f"subject={subject}", f"block={block:05d}.parquet")


def coefficient_path(output, subject, block):
    """Tell where the coefficients of a block are.

    Parameters
    ----------
    output : str
        The model's folder.
    subject : str
        Label.
    block : int
        Number of the block.

    Returns
    -------
    path : str
        Path or URI of a Parquet file.
    """
    return store.join(output, "coefficients", f"subject={subject}", f"block={block:05d}.parquet")


def _centre(Y, n_train):
    mean = Y[:n_train].mean(axis=0, dtype=np.float64).astype(np.float32)
    Y -= mean
    return Y, mean


def _fit_columns(job, design, Y, results, chosen):
    """Choose the penalties of some targets and compute their results, both in place."""
    if job["alpha"] is not None:
        chosen["alpha"][:], chosen["weighting"][:] = job["alpha"], job["place"]
        if job["operator"] is not None:
            np.matmul(Y.T, open_array(job["operator"]).T, out=results.T)
            return
        decomposition, _ = open_rule(design, job["place"])
        _apply(design, job["place"], decomposition, decomposition.project(Y), chosen["alpha"], results)
        return
    best = np.full(Y.shape[1], np.inf)
    for place in range(len(design.gammas)):
        decomposition, rule = open_rule(design, place)
        projections = rule.project(Y)
        places, losses = choose_each(rule, projections, Y, design.search)
        least = np.nanmin(losses, axis=0)
        better = np.flatnonzero(least < best)
        best[better] = least[better]
        chosen["alpha"][better] = np.asarray(design.alphas)[places[better]]
        chosen["loss"][better], chosen["weighting"][better] = least[better], place
        Z = rule.of_all_scans(projections)[:, better]
        part = np.empty((len(better), len(results)), np.float32).T
        _apply(design, place, decomposition, Z, chosen["alpha"][better], part)
        results[:, better] = part
    if not np.isfinite(best).all():
        raise FormatError(
            f"{job['table']}: no penalty has a finite loss for {np.count_nonzero(~np.isfinite(best))} targets of block"
            f" {job['block']}; are their values too large for float32, or the alphas too small?"
        )


def _apply(design, place, decomposition, Z, alphas, out):
    penalties, places = np.unique(alphas, return_inverse=True)
    weights = decomposition.coefficient_weights(penalties).astype(Z.dtype)
    np.matmul(weights[places] * Z.T, design.array("basis", place).T, out=out.T)


def _write(job, design, runs, table, voxel, Y, mean, results, chosen):
    subject, output, block = runs[0].subject, job["output"], job["block"]
    n_above = design.n_features if design.coefficients else 0
    predicted, measured = results[n_above:], Y[design.n_train :]
    if n_above:
        intercept = mean - design.array("mean").astype(np.float32) @ results[:n_above]
        columns = {"voxel": voxel, "intercept": intercept.astype(np.float32), "coefficients": results[:n_above].T}
        write_columns(coefficient_path(output, subject, block), columns)
    columns = {"voxel": voxel, **chosen}
    if len(design.gammas) == 1:
        del columns["weighting"]
    if design.n_test:
        sums = score_sums(measured, predicted)
        columns |= {"r": correlation(sums).astype(np.float32), "r2": r2(sums).astype(np.float32)}
        if job["predictions"]:
            start = 0
            for run in runs[len(runs) - job["n_test_runs"] :]:
                series = predicted[start : start + run.n_scans] + mean
                write_block(job["predictions"], run, block, voxel, np.ascontiguousarray(series.T))
                start += run.n_scans
    # The last thing: a block whose scores are there is done.
    write_columns(target_path(output, subject, block), columns)
