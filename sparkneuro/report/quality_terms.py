"""What each number on a run's quality is called, its unit, and what it means: the data dictionary of ``quality.tsv``."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """One column.

    Parameters
    ----------
    label : str
        Short name for a heading.
    unit : str
        "" where there is none.
    meaning : str
        What it is and how it is made.
    """

    label: str
    unit: str
    meaning: str


_SAMPLE = "median over at most 300 voxels spread evenly over the mask"
_BEFORE_AFTER = (
    ("dvars_std_mean", "std. DVARS", "", "mean over scans of standardised DVARS (Nichols 2013): DVARS over what noise alone would make"),
    ("dvars_std_max", "max std. DVARS", "", "largest standardised DVARS of a scan"),
    ("n_dvars_spikes", "DVARS spikes", "scans", "scans with standardised DVARS above 1.5"),
    ("r_global", "|r| global", "", f"absolute correlation of a voxel with the mean of all voxels, {_SAMPLE}"),
    ("r_fd", "|r| FD", "", f"absolute correlation of a voxel with framewise displacement, {_SAMPLE}"),
    ("r_dvars_fd", "r DVARS, FD", "", "correlation over scans of DVARS with framewise displacement"),
)
TERMS = {
    "subject": Term("subject", "", "label of the subject"),
    "session": Term("session", "", "label of the session, where there is one"),
    "task": Term("task", "", "label of the task, where there is one"),
    "run": Term("run", "", "label of the run, where there is one"),
    "outlier": Term("outlier", "", "measures in which the run lies beyond a limit, separated by commas"),
    "score": Term(
        "score", "", "how far out the run is: distance from the cohort's median to the bad side in scaled MADs, largest over"
        " fd_mean, tsnr_median, coverage and dvars_spikes",
    ),
    "n_scans": Term("scans", "", "scans of the run"),
    "t_r": Term("TR", "s", "repetition time"),
    "n_voxels": Term("voxels", "", "voxels of the table's mask that have a series in this run"),
    "coverage": Term("coverage", "", "share of the table's mask voxels that have a series in this run"),
    "n_constant": Term("constant", "voxels", "voxels left out because they never change, or nothing of them is left after cleaning"),
    "n_non_finite": Term("non-finite", "voxels", "voxels left out because they hold NaN or infinity"),
    "tsnr_median": Term("median tSNR", "", "temporal signal-to-noise ratio, mean over SD of a series before cleaning, median over voxels"),
    "fd_mean": Term("mean FD", "mm", "mean framewise displacement (Power 2012): absolute changes of the six motion parameters, summed,"
                    " rotations on a sphere of 50 mm"),
    "fd_max": Term("max FD", "mm", "largest framewise displacement"),
    "n_fd_spikes": Term("FD spikes", "scans", "scans with framewise displacement above 0.5 mm"),
    "motion_source": Term("motion from", "", "where framewise displacement comes from, or why there is none"),
    "dvars_mean": Term("DVARS", "%", "mean over scans of DVARS (Power 2012) before cleaning: root mean square over voxels of the change"
                       " from one scan to the next, in percent of the grand mean"),
    "dvars_spikes": Term("DVARS spikes", "share", "n_dvars_spikes_before as a share of the scans that have one before them"),
    "global_sd": Term("global SD", "%", "standard deviation of the mean of all voxels before cleaning, in percent of the grand mean"),
    "sd_before": Term("SD before", "%", f"standard deviation of a series before cleaning, in percent of the grand mean, {_SAMPLE}"),
    "sd_after": Term("SD after", "%", "sd_before times the square root of variance_kept"),
    "variance_kept": Term("variance kept", "share", "share of a series' variance that cleaning leaves: the squared correlation of the"
                          f" series before and after, {_SAMPLE}"),
    **{
        f"{name}_{stage}": Term(f"{label} {stage}", unit, f"{meaning}; {stage} cleaning")
        for name, label, unit, meaning in _BEFORE_AFTER for stage in ("before", "after")
    },
}  # fmt: skip
"""Column -> its term, in the order of the columns."""


def write_dictionary():
    """Describe the columns of ``quality.tsv`` as BIDS does in a JSON beside a TSV.

    Returns
    -------
    dictionary : dict of str to dict
        Column -> LongName, Description and Units.
    """
    return {
        name: {"LongName": term.label, "Description": term.meaning, **({"Units": term.unit} if term.unit else {})}
        for name, term in TERMS.items()
    }
