"""Fit brain encoding models: ridge regressions of every voxel of a voxel table on features of the stimulus.

Features and BOLD are matched run by run. Held-out runs score the model. Of each feature table's runs, named like
task-movie_run-1.npy, one is taken for each run of the voxel table; a name with a subject in front is for that subject alone.
With --plan nothing is fitted: it is said what the fit would cost. A fit that was interrupted goes on when the same command is
given again.
"""

import logging
import time
from dataclasses import dataclass
from functools import partial

from sparkneuro import blas, environment
from sparkneuro.data import store
from sparkneuro.data.voxel_table import VoxelTable
from sparkneuro.encoding.encoder_settings import ALPHAS, EncoderSettings
from sparkneuro.pipelines.settings import argument, option

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """Settings of ``sparkneuro ridge fit``; see each field's help."""

    table: str = argument("voxel table: the targets")
    features: tuple = option((), "feature tables: one a feature space (needed)", many=True)
    output: str = option("encoder.ridge", "folder of the model, on a filesystem that all machines share")
    subjects: tuple = option((), "subjects to fit (default: all)", many=True)
    delays: tuple = option((0,), "delays in scans; each feature enters once a delay", type=int, many=True)
    alphas: tuple = option(ALPHAS, "penalties to choose from, ascending", type=float, many=True)
    criterion: str = option(
        None, "what the choice minimises (default: leave_one_run_out)", choices=("loo", "gcv", "leave_one_run_out", "kfold")
    )
    alpha_per_target: bool = option(False, "each voxel has its own penalty; else all voxels of a subject have one")
    search: str = option("climb", "how penalties are tried", choices=("climb", "exhaustive"))
    folds: int = option(5, "folds of --criterion kfold")
    scoring: str = option("l2", "what --criterion kfold compares", choices=("l2", "correlation"))
    standardize: bool = option(True, "z-score each feature over the training scans")
    gammas: int = option(1, "weightings of the feature tables that are tried (banded ridge)")
    split: str = option("runs", "what is held out; random scans leak and are for comparison", choices=("runs", "random", "none"))
    test_runs: tuple = option((), "runs to hold out, e.g. task-movie_run-8 (default: drawn)", many=True)
    test_fraction: float = option(0.1, "share of runs (or scans) that is drawn")
    coefficients: bool = option(True, "keep coefficients: needed by ridge predict")
    predictions: bool = option(True, "keep predictions of held-out runs: needed by ridge null")
    seed: int = option(0, "seed of what is drawn")
    plan: bool = option(False, "say what the fit would cost, and stop")


def needs_spark(settings):
    """Say whether a Spark session is needed: not for a plan, and only once the inputs are known to go together.

    Parameters
    ----------
    settings : Settings
        The settings.

    Returns
    -------
    needed : bool
        Whether something will be fitted.

    Raises
    ------
    SettingsError
        When settings make no sense, or the fit cannot fit into this machine's memory or disk.
    FormatError
        When table or features are not what they should be, or do not go together.
    """
    prepare(settings, environment.available_cores())
    return not settings.plan


def prepare(settings, n_slots, task_cores=1):
    """Check everything that can be checked before data are read, and count the costs.

    Parameters
    ----------
    settings : Settings
        The settings.
    n_slots, task_cores : int
        Tasks that run at the same time, and threads of each.

    Returns
    -------
    preflight : Preflight
        The costs.
    """
    from sparkneuro.encoding.build_design import describe_design
    from sparkneuro.encoding.cohort import choose_subjects, match_subjects
    from sparkneuro.encoding.preflight import Workload, plan_fit

    asked = to_encoder_settings(settings)
    asked.check()
    table = VoxelTable.open(settings.table)
    subjects = choose_subjects(table, settings.subjects)
    cohort = match_subjects(table, subjects, asked)
    designs = {member.stimulus: describe_design(member, asked)[0] for member in cohort}
    largest = max(designs.values(), key=lambda design: design.n_train)
    work = Workload(
        largest.n_train, largest.n_test, largest.n_features, len(largest.run_sizes), largest.n_features // len(asked.delays),
        table.n_voxels * len(cohort), len(cohort), len(designs), table.block_size, len(asked.alphas), len(largest.gammas),
        largest.criterion, asked.alpha_per_target, asked.search, asked.n_folds, asked.coefficients, asked.predictions,
        n_slots, task_cores,
    )  # fmt: skip
    rates = [blas.measure_gemm(dtype, seconds=0.2) * 1e9 for dtype in ("float32", "float64")] if settings.plan else [1e12, 5e11]
    preflight = plan_fit(work, *rates)
    # On a cluster the tasks are on other machines, whose memory is not known here.
    here = n_slots if environment.is_spark_local() else 0
    preflight.check(environment.available_memory(), _free_disk(settings.output), here)
    return preflight


def run(settings, spark):
    """Fit the models, and write maps, scores and figures.

    Parameters
    ----------
    settings : Settings
        The settings.
    spark : pyspark.sql.SparkSession or None
        The session; None for a plan.

    Returns
    -------
    result : dict
        Where the model is and how well it predicts; or what it would cost.
    """
    if settings.plan:
        return prepare(settings, environment.available_cores()).lines()
    from sparkneuro.data.spark import count_slots
    from sparkneuro.encoding.cohort import choose_subjects
    from sparkneuro.encoding.fit_encoder import fit_encoder
    from sparkneuro.encoding.spark import run_or_raise

    table = VoxelTable.open(settings.table)
    blocks = {subject: list(range(table.n_blocks)) for subject in choose_subjects(table, settings.subjects)}
    start = time.monotonic()
    record = fit_encoder(table.path, blocks, to_encoder_settings(settings), partial(run_or_raise, spark), count_slots(spark))
    seconds = time.monotonic() - start
    write_results(table, record)
    return summarise(record, seconds)


def write_results(table, record):
    """Write a model's scores as maps, numbers and pictures into its folder.

    Parameters
    ----------
    table : VoxelTable
        The targets.
    record : dict
        The model's record.
    """
    from sparkneuro.encoding.encoder_record import read_scores
    from sparkneuro.pipelines.score_maps import write_scores

    output = record["settings"]["output"]
    scores = {subject: read_scores(output, subject, facts["blocks"]) for subject, facts in record["subjects"].items()}
    write_scores(output, table, scores, extra=record)


def summarise(record, seconds):
    """Say in a few values what a fit gave.

    Parameters
    ----------
    record : dict
        The model's record.
    seconds : float
        How long it took.

    Returns
    -------
    summary : dict
        For a person to read.
    """
    summary = {"model": record["settings"]["output"]}
    for subject, facts in record["subjects"].items():
        alpha = "one a voxel" if facts["alpha"] is None else f"{facts['alpha']:g}"
        runs = " ".join(facts["test_runs"]) or "random scans"
        r = f", r {facts['r']['mean']:.3f} in the mean, {facts['r']['max']:.3f} at most on {runs}" if "r" in facts else ""
        summary[f"sub-{subject}"] = f"{facts['n_targets']:,} voxels, alpha {alpha}{r}"
    return {**summary, "time": f"{seconds:.1f} s"}


def to_encoder_settings(settings):
    """Translate the command's settings.

    Parameters
    ----------
    settings : Settings
        The command's.

    Returns
    -------
    settings : EncoderSettings
        The library's.
    """
    return EncoderSettings(
        settings.features, settings.output, settings.delays, settings.alphas, settings.criterion, settings.alpha_per_target,
        settings.search, settings.folds, settings.scoring, settings.standardize, settings.gammas, settings.split,
        settings.test_runs, settings.test_fraction, settings.coefficients, settings.predictions, settings.seed,
    )  # fmt: skip


def _free_disk(path):
    return environment.free_disk(store.locate(path)[1]) if store.is_local(path) else None
