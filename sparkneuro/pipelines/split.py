"""Which rows of a voxel table are trained on, and which are held out."""

import logging

import numpy as np

from sparkneuro.errors import SettingsError
from sparkneuro.validation import check_number

log = logging.getLogger(__name__)


def choose_split(table, subjects=(), fraction=0.1, seed=0):
    """Choose what is held out: subjects, else whole runs, else blocks of voxels of an only run.

    Parameters
    ----------
    table : VoxelTable
        The table.
    subjects : sequence of str
        Labels of subjects to hold out; they win over `fraction`.
    fraction : float
        Share of the runs to hold out, at least one; 0 holds nothing out. A table of one run gives up that share of its blocks.
    seed : int
        Seed of the choice.

    Returns
    -------
    split : dict
        ``kind`` ("subjects", "runs", "blocks" or "none"), ``training`` and ``validation`` (labels, keys or numbers);
        fit for JSON.

    Raises
    ------
    SettingsError
        When a subject is not in the table, or nothing would be left to train on.

    Notes ----- Neighbouring voxels share signal, so held-out blocks of one run are not independent of the rest: their
    error says how well the model fits new voxels of this run, not new people.
    """
    check_number("--validation-fraction", fraction, 0, 1)
    if subjects:
        names = sorted({run.subject for run in table.runs})
        return _hold_out("subjects", names, _check_subjects(subjects, names))
    if fraction == 0:
        return {"kind": "none", "training": [], "validation": []}
    keys = [run.key for run in table.runs]
    if len(keys) > 1:
        return _hold_out("runs", keys, _draw(keys, fraction, seed))
    if table.n_blocks < 2:
        raise SettingsError("a table of one run and one block has nothing to hold out; give --validation-fraction 0.")
    blocks = list(range(table.n_blocks))
    log.info("the table has one run only: blocks of its voxels are held out.")
    return _hold_out("blocks", blocks, _draw(blocks, fraction, seed))


def mark_held_out(dataframe, split):
    """Add a boolean column ``held_out``.

    Parameters
    ----------
    dataframe : pyspark.sql.DataFrame
        Of `data.spark.read_voxel_table`.
    split : dict
        Of `choose_split`.

    Returns
    -------
    dataframe : pyspark.sql.DataFrame
        With one column more.
    """
    from pyspark.sql import functions

    kind, held_out = split["kind"], split["validation"]
    if kind == "none":
        return dataframe.withColumn("held_out", functions.lit(False))
    column = {"subjects": functions.col("subject"), "blocks": functions.col("block"), "runs": _key_column(functions)}[kind]
    return dataframe.withColumn("held_out", column.isin(held_out))


def select_rows(dataframe, split, part):
    """Keep the rows of one part.

    Parameters
    ----------
    dataframe : pyspark.sql.DataFrame
        Of `data.spark.read_voxel_table`.
    split : dict
        Of `choose_split`.
    part : str
        "training" or "validation".

    Returns
    -------
    dataframe : pyspark.sql.DataFrame
        Fewer rows, the same columns.
    """
    from pyspark.sql import functions

    marked = mark_held_out(dataframe, split)
    held_out = functions.col("held_out")
    return marked.filter(held_out if part == "validation" else ~held_out).drop("held_out")


def is_held_out(split, run, block):
    """Say whether the rows of a run and block are held out.

    Parameters
    ----------
    split : dict
        Of `choose_split`.
    run : Run
        The run.
    block : int
        Number of the block.

    Returns
    -------
    held_out : bool
        Whether they are.
    """
    label = {"subjects": run.subject, "runs": run.key, "blocks": block, "none": None}[split["kind"]]
    return label in split["validation"]


def _hold_out(kind, labels, held_out):
    training = [label for label in labels if label not in held_out]
    if not training:
        raise SettingsError(f"something must be left to train on; all {len(labels)} {kind} would be held out.")
    return {"kind": kind, "training": training, "validation": sorted(held_out)}


def _draw(labels, fraction, seed):
    n = min(max(round(fraction * len(labels)), 1), len(labels))
    chosen = np.random.default_rng(seed).choice(len(labels), n, replace=False)
    return [labels[i] for i in chosen]


def _check_subjects(subjects, names):
    wanted = [subject.removeprefix("sub-") for subject in subjects]
    unknown = [subject for subject in wanted if subject not in names]
    if unknown:
        raise SettingsError(
            f"--validation-subjects must be subjects of the table ({', '.join(names)}); got {', '.join(unknown)}."
        )
    return wanted


def _key_column(functions):
    parts = []
    for entity, column in (("sub", "subject"), ("ses", "session"), ("task", "task"), ("run", "run")):
        label = functions.concat(functions.lit(f"{entity}-"), functions.col(column))
        parts.append(functions.when(functions.col(column) != "", label))
    return functions.concat_ws("_", *parts)
