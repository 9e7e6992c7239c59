"""The fit of an encoding model over a voxel table, step by step; what calls the tasks is an argument.

1. features and BOLD are matched run by run; subjects with one stimulus share one design (decomposition);
2. for one penalty for all targets, tasks sum up blocks of targets and the driver chooses;
3. tasks fit blocks of targets and write what comes of it.

Every step leaves files, and what is there is not made again: an interrupted fit goes on where it was.
"""

import hashlib
import json
import logging
import tempfile
from dataclasses import dataclass, replace

import numpy as np

from sparkneuro.data import store
from sparkneuro.data.array_file import create_array, open_array, write_array
from sparkneuro.data.row_space import copy_row_space
from sparkneuro.data.task_progress import show_progress
from sparkneuro.data.voxel_table import VoxelTable
from sparkneuro.encoding.block_tasks import coefficient_path, fit_block, sum_targets, summed_path, sums_gram, target_path
from sparkneuro.encoding.build_design import build_design, describe_design
from sparkneuro.encoding.choice import choose_one
from sparkneuro.encoding.cohort import match_subjects
from sparkneuro.encoding.design import open_rule
from sparkneuro.encoding.encoder_folder import check_folder, claim_folder
from sparkneuro.encoding.encoder_record import WORK, make_record, write_record
from sparkneuro.encoding.ridge import coefficient_operator
from sparkneuro.errors import SettingsError

log = logging.getLogger(__name__)

PREDICTIONS = "predictions.voxels"


@dataclass(frozen=True)
class Choice:
    """The penalty of all targets of a subject.

    Parameters
    ----------
    place : int or None
        Which weighting of the feature spaces; None where each target chooses.
    alpha : float or None
        The penalty.
    losses : list of list of float
        The criterion, for each weighting and penalty; NaN where it was not tried.
    """

    place: int | None
    alpha: float | None
    losses: list


def fit_encoder(table_path, blocks, settings, run, n_slots=1, progress=None):
    """Fit the model of some blocks of targets.

    Parameters
    ----------
    table_path : str
        Path or URI of the voxel table.
    blocks : dict of str to list of int
        Which blocks of each subject.
    settings : EncoderSettings
        The settings.
    run : callable
        ``run(function, jobs) -> results``: calls the function for each job, wherever, and raises the first failure.
    n_slots : int
        Jobs that run at the same time.
    progress : bool or None
        Whether bars are shown; on a terminal only when absent.

    Returns
    -------
    record : dict
        What ``encoder.json`` in the model's folder holds.

    Raises
    ------
    FormatError
        When table or features are not what they should be, or do not go together.
    SettingsError
        When settings make no sense, or the folder holds another model.
    """
    settings.check()
    features = tuple(map(store.make_absolute, settings.features))
    settings = replace(settings, features=features, output=store.make_absolute(settings.output))
    table = VoxelTable.open(store.make_absolute(table_path))
    cohort = match_subjects(table, list(blocks), settings)
    for member in cohort:
        describe_design(member, settings)  # what cannot be had is said before anything is written
    recipe = check_folder(settings, table, blocks, cohort)
    with claim_folder(settings.output, recipe):
        designs = {}
        for member in cohort:
            if member.stimulus not in designs:
                designs[member.stimulus] = build_design(member, settings)
        choices = _choose(table, cohort, blocks, designs, settings, run, n_slots, progress)
        _fit(table, cohort, blocks, designs, choices, settings, run, progress)
        record = make_record(table, cohort, blocks, designs, choices, settings)
        if settings.predictions and settings.split == "runs":
            _finish_predictions(table, cohort, record)
        write_record(settings.output, record)
        return record


def _choose(table, cohort, blocks, designs, settings, run, n_slots, progress):
    """The penalty of each subject, where all its targets have one."""
    choices, jobs, owners = {}, [], []
    for member in cohort:
        design = designs[member.stimulus]
        if design.criterion == "none":
            choices[member.subject] = Choice(0, design.alphas[0], [])
        elif settings.alpha_per_target:
            choices[member.subject] = Choice(None, None, [])
        else:
            mine = _sum_jobs(table, member, design, blocks[member.subject], settings, n_slots)
            jobs += mine
            owners += [member] * len(mine)
    if not jobs:
        return choices
    sizes = {
        summed_path(job["output"], block): _block_bytes(table, owner)
        for job, owner in zip(jobs, owners, strict=True)
        for block in job["blocks"]
    }
    with show_progress("choose alpha", sizes, lambda: _list_below(store.join(settings.output, WORK)), "blocks", progress):
        run(sum_targets, jobs)
    for member in {owner.subject: owner for owner in owners}.values():
        folders = [job["output"] for job, owner in zip(jobs, owners, strict=True) if owner.subject == member.subject]
        choices[member.subject] = _choose_for(designs[member.stimulus], folders)
        _warn_at_edge(member.subject, choices[member.subject].alpha, settings.alphas)
    return choices


def _warn_at_edge(subject, alpha, alphas):
    if len(alphas) > 1 and alpha in (alphas[0], alphas[-1]):
        which, beyond = ("smallest", "smaller") if alpha == alphas[0] else ("largest", "larger")
        log.warning("sub-%s: the %s penalty, %g, is the best of those given: try %s ones too.", subject, which, alpha, beyond)


def _sum_jobs(table, member, design, blocks, settings, n_slots):
    """Blocks in as many parts as run at once: each part writes its sums once."""
    n_parts = min(n_slots, len(blocks))
    common = {"table": table.path, "runs": [run.key for run in member.runs], "design": design.path}
    folder = store.join(settings.output, WORK, f"sums-{member.subject}")
    parts = [blocks[part::n_parts] for part in range(n_parts)]
    names = [hashlib.sha256(json.dumps([part, design.identity]).encode()).hexdigest()[:12] for part in parts]
    return [{**common, "blocks": part, "output": store.join(folder, name)} for part, name in zip(parts, names, strict=True)]


def _choose_for(design, folders):
    n_targets = sum(float(open_array(store.join(folder, "done.npy"))[0]) for folder in folders)
    if not n_targets:
        raise SettingsError("there must be targets to fit; every voxel of these blocks is missing in some run.")
    by_gram = sums_gram(open_rule(design, 0)[1])
    best, losses = (np.inf, 0, 0), []
    with tempfile.TemporaryDirectory(prefix="sparkneuro-sums-") as near:
        gram = _add_up(folders, "gram-0.npy", near) if by_gram else None
        for place in range(len(design.gammas)):
            _, rule = open_rule(design, place)
            if by_gram:
                sums = rule.start_sums()
                rule.add_gram(sums, gram, n_targets)
            else:
                names = [name for name in store.list_files(folders[0]) if name.endswith(f"-{place}.npy")]
                sums = {name.removesuffix(f"-{place}.npy"): _add_up(folders, name, near) for name in names}
            index, curve = choose_one(rule, sums, design.search)
            losses.append(curve.tolist())
            best = min(best, (curve[index], place, index))
    if best[0] == np.inf:
        raise SettingsError(
            f"alphas must have one large enough for {design.criterion} in float32; the losses of all of them"
            f" ({design.alphas[0]:g} to {design.alphas[-1]:g}) drown in rounding: add larger ones, or rescale the targets."
        )
    return Choice(best[1], design.alphas[best[2]], losses)


def _add_up(folders, name, near):
    """The sum of the parts of all tasks, in a file as they are: it may be as large as the features."""
    first, *others = [open_array(store.join(folder, name)) for folder in folders]
    if not others:
        return first
    total = create_array(f"{near}/{name}", first.shape, first.dtype)
    total[:] = first
    for other in others:
        total += other
    return total


def _fit(table, cohort, blocks, designs, choices, settings, run, progress):
    jobs, sizes = [], {}
    for member in cohort:
        design, choice = designs[member.stimulus], choices[member.subject]
        operator = _write_operator(design, choice, table, len(blocks[member.subject]), settings)
        predictions = store.join(settings.output, PREDICTIONS) if settings.predictions and settings.split == "runs" else None
        for block in blocks[member.subject]:
            path = target_path(settings.output, member.subject, block)
            sizes[path] = _block_bytes(table, member)
            jobs.append({
                "table": table.path, "runs": [run.key for run in member.runs], "n_test_runs": member.n_test_runs, "block": block,
                "design": design.path, "output": settings.output, "place": choice.place, "alpha": choice.alpha,
                "operator": operator, "predictions": predictions if member.n_test_runs else None,
            })  # fmt: skip
    missing = [job for job in jobs if not _is_done(job, _subject(table, job), settings)]
    if len(missing) < len(jobs):
        log.warning("%d of %d blocks are there already.", len(jobs) - len(missing), len(jobs))
    with show_progress("fit", sizes, lambda: _list_below(store.join(settings.output, "targets")), "blocks", progress):
        if missing:
            run(fit_block, missing)


def _is_done(job, subject, settings):
    paths = [target_path(settings.output, subject, job["block"])]
    if settings.coefficients:
        paths.append(coefficient_path(settings.output, subject, job["block"]))
    return all(map(store.exists, paths))


def _subject(table, job):
    return table.find_run(job["runs"][0]).subject


def _write_operator(design, choice, table, n_blocks, settings):
    """One product instead of two a block, where the matrix for it is worth its making."""
    if choice.place is None:
        return None
    n_targets = min(n_blocks * table.block_size, table.n_voxels)
    basis, decomposition = design.array("basis", choice.place), open_rule(design, choice.place)[0]
    n_rows, rank, n_scans = len(basis), decomposition.rank, design.n_train
    if not n_rows or (n_rows * n_scans * (n_targets + rank)) > (n_scans * rank + n_rows * rank) * n_targets:
        return None
    path = store.join(settings.output, WORK, f"operator-{design.identity}-{choice.place}-{choice.alpha:g}.npy")
    if not store.exists(path):
        write_array(path, coefficient_operator(decomposition, choice.alpha, basis))
    return path


def _block_bytes(table, member):
    return 4 * member.n_scans * min(table.block_size, table.n_voxels)


def _list_below(folder):
    return [store.join(folder, name) for name in store.list_files(folder, recursive=True)]


def _finish_predictions(table, cohort, record):
    """The predictions of held-out runs become a voxel table: those of subjects whose every block is there."""
    output = record["settings"]["output"]
    path, runs = store.join(output, PREDICTIONS), []
    for member in cohort:
        facts = record["subjects"][member.subject]
        if len(facts["blocks"]) == table.n_blocks:
            changes = {"n_voxels": facts["n_targets"], "tsnr_median": None, "source": output, "sha256": ""}
            runs += [replace(run, **changes) for run in member.runs[len(member.runs) - member.n_test_runs :]]
    if not runs:
        return
    copy_row_space(table.rows, table.path, path)
    steps = (*table.steps, f"prediction by {output}")
    replace(table, path=path, runs=tuple(runs), steps=steps, settings={"made_from": output}).save()
