"""The HCP's layout: ``SUBJECT/MNINonLinear/Results/tfMRI_MOTOR_LR/tfMRI_MOTOR_LR.nii.gz`` read as BIDS entities."""

import posixpath
import re

import numpy as np

from sparkneuro.data import store
from sparkneuro.errors import FormatError

MOVEMENT = "Movement_Regressors.txt"
BRAIN_MASK = "brainmask_fs.2.nii.gz"

_NAME = re.compile(
    r"(?P<kind>[rt]fMRI)_(?P<task>[A-Za-z]+?)(?P<run>\d*)_(?:(?P<field>7T)_)?(?P<dir>LR|RL|AP|PA)"
    r"(?P<atlas>_Atlas)?(?:_(?P<res>[\d.]+)mm)?(?P<align>_MSMAll)?(?P<clean>(?:_hp\d+)?_clean)?\.(?:nii\.gz|nii|dtseries\.nii)"
)
_AXES = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]


def parse_hcp_name(path):
    """Read the entities of a file in the HCP's layout.

    Parameters
    ----------
    path : str
        Path or URI of a file.

    Returns
    -------
    entities : dict of str to str, or None
        sub, task, dir, run, space, desc as BIDS would say them; None for a file of another layout.

    Examples
    --------
    >>> parse_hcp_name("100307/MNINonLinear/Results/rfMRI_REST1_LR/rfMRI_REST1_LR_hp2000_clean.nii.gz")
    {'sub': '100307', 'task': 'REST', 'dir': 'LR', 'run': '1', 'space': 'MNI152NLin6Asym', 'desc': 'hp2000clean'}
    """
    folders = str(path).split("/")
    match = _NAME.fullmatch(folders[-1])
    if not match or folders[-4:-2] != ["MNINonLinear", "Results"] or len(folders) < 5:
        return None
    desc = (match["align"] or "").strip("_") + (match["clean"] or "").replace("_", "")
    entities = {
        "sub": folders[-5], "task": match["task"], "acq": match["field"], "dir": match["dir"], "run": match["run"],
        "space": "fsLR" if match["atlas"] else "MNI152NLin6Asym", "desc": desc or "preproc",
    }
    return {key: value for key, value in entities.items() if value}


def is_movement(path):
    """Tell whether a file holds the HCP's movement regressors.

    Parameters
    ----------
    path : str
        Path or URI.

    Returns
    -------
    movement : bool
        Whether its name says so.
    """
    return posixpath.basename(str(path)) == MOVEMENT


def read_movement(path):
    """Read the HCP's movement regressors under fMRIPrep's names.

    Parameters
    ----------
    path : str
        Path or URI of ``Movement_Regressors.txt``: 12 numbers a scan, of translations (mm), rotations (degrees), and their
        derivatives.

    Returns
    -------
    names : list of str
        ``trans_x`` to ``rot_z``, then ``trans_x_derivative1`` to ``rot_z_derivative1``.
    values : ndarray of shape (n_scans, 12), float64
        Translations in mm, rotations in rad, and their changes a scan.

    Raises
    ------
    FormatError
        When a row has other than 12 numbers.
    """
    try:
        values = np.array([line.split() for line in store.read_bytes(path).decode().splitlines() if line.strip()], np.float64)
    except ValueError as error:
        raise FormatError(f"{path}: 12 numbers a scan are expected ({error}).") from error
    if values.ndim != 2 or values.shape[1] != 12:
        raise FormatError(f"{path}: 12 numbers a scan are expected; the table has shape {values.shape}.")
    values[:, [3, 4, 5, 9, 10, 11]] *= np.pi / 180
    return _AXES + [f"{name}_derivative1" for name in _AXES], values
