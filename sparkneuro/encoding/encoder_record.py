"""The record of a fitted encoding model: what it was made from, which penalties it has, how well it predicts."""

import json
import math
from dataclasses import asdict

import numpy as np

from sparkneuro.data import store
from sparkneuro.data.target_block import read_columns
from sparkneuro.encoding.block_tasks import target_path
from sparkneuro.errors import FormatError

RECORD = "encoder.json"
WORK = "_work"
FORMAT = 1


def make_record(table, cohort, blocks, designs, choices, settings):
    """Gather what was fitted and how well it predicts.

    Parameters
    ----------
    table : VoxelTable
        The targets.
    cohort : list of SubjectRuns
        Who was fitted on which runs.
    blocks : dict of str to list of int
        Blocks of each subject.
    designs : dict of str to Design
        By stimulus.
    choices : dict of str to Choice
        By subject.
    settings : EncoderSettings
        The settings.

    Returns
    -------
    record : dict
        Fit for JSON.
    """
    subjects = {}
    for member in cohort:
        design, choice = designs[member.stimulus], choices[member.subject]
        n_train_runs = len(member.runs) - member.n_test_runs
        subjects[member.subject] = {
            "design": member.stimulus,
            "training_runs": [run.key for run in member.runs[:n_train_runs]],
            "test_runs": [run.key for run in member.runs[n_train_runs:]],
            "n_train": design.n_train,
            "n_test": design.n_test,
            "n_features": design.n_features,
            "n_features_of_spaces": [space[0].n_features for space in member.features],
            "criterion": design.criterion,
            "alpha": choice.alpha,
            "losses": [[loss if math.isfinite(loss) else None for loss in curve] for curve in choice.losses],
            "gammas": [list(gamma) for gamma in design.gammas],
            "blocks": blocks[member.subject],
            **_summarise(read_scores(settings.output, member.subject, blocks[member.subject])),
        }
    return {"format": FORMAT, "table": table.path, "settings": asdict(settings), "subjects": subjects}


def write_record(path, record):
    """Write a record, which makes the folder a model: the last thing to do.

    Parameters
    ----------
    path : str
        Path or URI of the model's folder.
    record : dict
        Of `make_record`.
    """
    store.write_bytes(store.join(path, RECORD), json.dumps(record, indent=1).encode())


def read_record(path):
    """Read a model's record.

    Parameters
    ----------
    path : str
        Path or URI of the model's folder.

    Returns
    -------
    record : dict
        Of `make_record`.

    Raises
    ------
    FormatError
        When the folder is no finished encoding model.
    """
    file = store.join(path, RECORD)
    if not store.exists(file):
        unfinished = store.exists(store.join(path, WORK))
        what = "its fit has not finished; run it again" if unfinished else "make one with 'sparkneuro ridge fit'"
        raise FormatError(f"{path}: this is no encoding model ({RECORD} is missing): {what}.")
    try:
        record = json.loads(store.read_bytes(file))
        if record["format"] > FORMAT:
            raise FormatError(f"{path}: this model has format {record['format']}; this sparkneuro reads up to {FORMAT}.")
        record["settings"]["features"], record["subjects"].items()  # a record without them is damaged
        return record
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"{path}: {RECORD} is damaged ({error!r}); fit the model again.") from error


def read_scores(path, subject, blocks):
    """Read the penalties and scores of a subject's targets.

    Parameters
    ----------
    path : str
        Path or URI of the model's folder.
    subject : str
        Label.
    blocks : sequence of int
        Numbers of blocks.

    Returns
    -------
    scores : dict of str to ndarray
        voxel, alpha and loss; weighting where several were tried; r and r2 where scans were held out. One value a target.
    """
    parts = [read_columns(target_path(path, subject, block)) for block in sorted(blocks)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _summarise(scores):
    summary = {"n_targets": len(scores["voxel"])}
    for name in ("r", "r2"):
        values = scores.get(name, np.empty(0))
        values = values[np.isfinite(values)]
        if len(values):
            summary[name] = {"mean": float(values.mean()), "median": float(np.median(values)), "max": float(values.max())}
    return summary
