"""What a fitted encoding model says a block of targets will do, given features."""

from dataclasses import asdict
from functools import lru_cache

import numpy as np

from sparkneuro.data import store
from sparkneuro.data.array_file import open_array
from sparkneuro.data.feature_table import FeatureRun, FeatureTable, read_features
from sparkneuro.data.target_block import read_columns
from sparkneuro.encoding.block_tasks import coefficient_path
from sparkneuro.encoding.delays import delay_features
from sparkneuro.encoding.encoder_record import read_record
from sparkneuro.errors import FormatError, SettingsError


def plan_prediction(path, features=(), runs=None):
    """Work out which runs of which subject a model is asked to predict.

    Parameters
    ----------
    path : str
        Path or URI of the model's folder.
    features : sequence of str
        Feature tables, in the order of the model's; the model's own when empty.
    runs : dict of str to sequence of Run, or None
        Runs of each subject; all of the feature tables when absent.

    Returns
    -------
    members : dict of str to list of dict
        Runs of each subject: labels, ``features`` (one a space), ``delays`` and ``design``.

    Raises
    ------
    FormatError
        When the model holds no coefficients, or features do not fit.
    """
    record = read_record(path)
    settings = record["settings"]
    if not settings["coefficients"]:
        raise FormatError(f"{path}: this model holds no coefficients to predict with; fit it again with --coefficients.")
    spaces = [FeatureTable.open(table) for table in features or settings["features"]]
    if len(spaces) != len(settings["features"]):
        raise SettingsError(f"features must be {len(settings['features'])} tables, as the model has; got {len(spaces)}.")
    members = {}
    for subject, facts in record["subjects"].items():
        n_features = facts["n_features"] // len(settings["delays"])
        widths, expected = [space.n_features for space in spaces], facts.get("n_features_of_spaces", [n_features])
        if widths != expected and (len(expected) == len(widths) or sum(widths) != n_features):
            raise FormatError(f"features must have {expected} columns, table by table as in the fit; got {widths}.")
        mine = spaces[0].of_subject(subject) if runs is None else runs.get(subject, ())
        members[subject] = [_describe(run, spaces, settings, facts) for run in mine]
    return members


def predict_run(path, subject, block, run):
    """Predict one run of one block.

    Parameters
    ----------
    path : str
        Path or URI of the model's folder.
    subject : str
        Label.
    block : int
        Number of the block.
    run : dict
        Of `plan_prediction`.

    Returns
    -------
    voxel : ndarray of shape (n_targets,), int32
        Numbers of the voxels.
    series : ndarray of shape (n_targets, n_scans), float32
        In the unit of the targets.
    """
    fitted = read_columns(coefficient_path(path, subject, block))
    design, features = store.join(path, "designs", run["design"]), tuple(map(_freeze, run["features"]))
    files = [store.join(design, "feature_scale.npy"), *(feature["path"] for feature in run["features"])]
    X = _features(design, tuple(run["delays"]), features, tuple(map(store.stat, files)))
    if not len(fitted["voxel"]):
        return fitted["voxel"], np.empty((0, len(X)), np.float32)
    return fitted["voxel"], fitted["coefficients"] @ X.T + fitted["intercept"][:, None]


def _describe(run, spaces, settings, facts):
    found = [space.find(run) for space in spaces]
    lengths = [feature.n_scans for feature in found]
    if len(set(lengths)) > 1:
        raise FormatError(f"run {found[0].key} must have equally many scans in every feature table; got {lengths}.")
    labels = {name: getattr(run, name) for name in ("session", "task", "run")}
    return {**labels, "features": [asdict(feature) for feature in found], "delays": settings["delays"], "design": facts["design"]}


def _freeze(feature):
    return tuple(sorted(feature.items()))


@lru_cache(maxsize=4)
def _features(design, delays, features, changed):
    """A run's features as the model takes them; kept for the next block of this process, until a file has `changed`."""
    X = np.concatenate([read_features(FeatureRun(**dict(feature)), dtype=np.float64) for feature in features], axis=1)
    mean, scale = (np.asarray(open_array(store.join(design, f"feature_{name}.npy"))) for name in ("mean", "scale"))
    return delay_features(((X - mean) / scale).astype(np.float32), delays)
