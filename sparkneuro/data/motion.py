"""The head motion of a run, read from the confounds table beside it."""

from dataclasses import dataclass

import numpy as np

from sparkneuro.data.bids import find_confounds
from sparkneuro.data.confounds_table import read_confounds
from sparkneuro.errors import FormatError, SettingsError

PARAMETERS = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
DISPLACEMENT = "framewise_displacement"


@dataclass(frozen=True, eq=False)
class Motion:
    """What is known about the motion of a run.

    Parameters
    ----------
    parameters : ndarray of shape (n_scans, 6) or None
        Translations (mm), then rotations (rad); None where the table has none.
    displacement : ndarray of shape (n_scans,) or None
        Framewise displacement (mm) as the table gives it, NaN for the first scan; None where parameters say more, or neither is
        there.
    source : str
        Where it comes from, or why there is none, in words.
    """

    parameters: np.ndarray | None
    displacement: np.ndarray | None
    source: str


def read_motion(bold, n_scans, table=""):
    """Read the motion of a run: the six parameters, else the framewise displacement, of fMRIPrep's names.

    A table that is missing or damaged is said, not raised: a run can be used without it.

    Parameters
    ----------
    bold : str
        Path or URI of the BOLD file.
    n_scans : int
        Scans of the run.
    table : str
        Path or URI of its confounds table; looked for beside the BOLD file when it is "".

    Returns
    -------
    motion : Motion
        What there is.
    """
    try:
        table = table or find_confounds(bold)
    except FormatError:
        return Motion(None, None, "no confounds table beside the run")
    try:
        return Motion(read_confounds(table, PARAMETERS, n_scans), None, "motion parameters")
    except SettingsError:
        pass  # some of the six are not in the table
    except FormatError as error:
        return Motion(None, None, str(error))
    try:
        displacement = read_confounds(table, (DISPLACEMENT,), n_scans)[:, 0]
    except (FormatError, SettingsError):
        return Motion(None, None, f"no motion parameters and no {DISPLACEMENT} in the confounds table")
    displacement[:1] = np.nan  # the table's n/a has been replaced by the mean
    return Motion(None, displacement, f"column {DISPLACEMENT}")
