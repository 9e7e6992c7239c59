"""What the subjects of a preprocessing take of a machine, and whether it is there: cores, disk, memory."""

import os
import re

from sparkneuro.environment import available_cores, available_memory, free_disk, is_spark_local
from sparkneuro.errors import SettingsError

MOST_CORES = 8
"""Of a subject, unless more are asked for: two subjects side by side use further cores better than one."""


def cores_of(settings):
    """Tell how many cores a subject has.

    Parameters
    ----------
    settings : sparkneuro.pipelines.preprocess.Settings
        The settings.

    Returns
    -------
    cores : int
        As asked for; else, where Spark runs on this machine, all that it may use, at most 8; else 1.
    """
    if settings.cores is not None:
        return settings.cores
    return min(MOST_CORES, _local_cores()) if is_spark_local() else 1


def check_space(plan, n_subjects):
    """Check before the start that the subjects that run at once find room.

    Parameters
    ----------
    plan : Plan
        The plan.
    n_subjects : int
        Subjects that are to be done.

    Raises
    ------
    SettingsError
        When they do not.
    """
    at_once = min(n_subjects, max(1, _local_cores() // plan.app.cores) if is_spark_local() else 1)
    places = {_device(path): path for path in (plan.app.work_dir, plan.app.output)}
    for path in places.values():
        need, free = plan.settings.min_free_gb * at_once * (3 - len(places)), free_disk(path) / 1e9
        if free < need:
            raise SettingsError(
                f"{path}: {free:.1f} GB are free, and {need:g} may be needed for {at_once} subject{'s' * (at_once > 1)} at once"
                f"{' (output and working folder are on one disk)' * (len(places) == 1)}; free some space, choose another folder,"
                " or lower --min-free-gb."
            )


def warn_of_memory(plan, n_subjects):
    """Say what may go wrong when more subjects run at once than memory holds.

    Parameters
    ----------
    plan : Plan
        The plan.
    n_subjects : int
        Subjects that are to be done.

    Returns
    -------
    warning : str
        One sentence; "" when there is nothing to say.
    """
    at_once = min(n_subjects, max(1, _local_cores() // plan.app.cores))
    there = available_memory() / 2**30
    if plan.app.memory_gb is None or not is_spark_local() or at_once * plan.app.memory_gb <= there:
        return ""
    return (
        f"{at_once} subject{'s' * (at_once > 1)} at once may take {at_once * plan.app.memory_gb:g} GB (--memory-gb), and this"
        f" machine has {there:.1f}; more --cores a subject make them fewer at once."
    )


def _local_cores():
    """Cores of this machine, or as many as the master ``local[N]`` says."""
    stated = re.fullmatch(r"local\[(\d+)\]", os.environ.get("SPARK_MASTER", ""))
    return int(stated[1]) if stated else available_cores()


def _device(path):
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return os.stat(path).st_dev
