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

    @property
    def heading(self):
        """Label, and the unit where the label does not say it, e.g. ``mean FD (mm)``."""
        return self.label + (f" ({self.unit})" if self.unit in ("mm", "%", "s") else "")

    @property
    def axis(self):
        """Label and unit, e.g. ``DVARS spikes (share)``."""
        return self.label + (f" ({self.unit})" if self.unit else "")


_SAMPLE = "median over at most 300 voxels spread evenly over the mask"
_OF_MEAN = "in percent of the grand mean"

# Column -> label, unit, meaning; those with a * are measured before and after cleaning.
_ROWS = (
    ("subject", "subject", "", "label of the subject"),
    ("session", "session", "", "label of the session, where there is one"),
    ("task", "task", "", "label of the task, where there is one"),
    ("run", "run", "", "label of the run, where there is one"),
    ("outlier", "outlier", "", "measures in which the run lies beyond a limit, separated by commas"),
    (
        "score", "score", "",
        "how far out the run is: distance from the cohort's median to the bad side, in scaled median absolute deviations; the"
        " largest over mean FD, median tSNR, coverage and share of DVARS spikes",
    ),
    ("n_scans", "scans", "", "scans of the run"),
    ("t_r", "TR", "s", "repetition time"),
    ("n_voxels", "voxels", "", "voxels of the table's mask that have a series in this run"),
    ("coverage", "coverage", "", "share of the table's mask voxels that have a series in this run"),
    ("n_constant", "constant", "voxels", "voxels left out because they never change, or cleaning leaves nothing of them"),
    ("n_non_finite", "non-finite", "voxels", "voxels left out because they hold NaN or infinity"),
    (
        "tsnr_median", "median tSNR", "",
        "temporal signal-to-noise ratio: mean over standard deviation of a series before cleaning, median over voxels",
    ),
    (
        "fd_mean", "mean FD", "mm",
        "mean framewise displacement (Power 2012): changes of the six motion parameters from scan to scan, absolute and summed,"
        " rotations on a sphere of 50 mm",
    ),
    ("fd_max", "max FD", "mm", "largest framewise displacement"),
    ("n_fd_spikes", "FD spikes", "scans", "scans with framewise displacement above 0.5 mm"),
    ("motion_source", "motion from", "", "where framewise displacement comes from, or why there is none"),
    (
        "dvars_mean", "DVARS", "%",
        "mean over scans of DVARS (Power 2012) before cleaning: root mean square over voxels of the change from scan to scan,"
        f" {_OF_MEAN}",
    ),
    ("dvars_std_mean*", "std. DVARS", "", "mean of standardised DVARS (Nichols 2013): DVARS over what noise alone would make"),
    ("dvars_std_max*", "max std. DVARS", "", "largest standardised DVARS of a scan"),
    ("n_dvars_spikes*", "DVARS spikes", "scans", "scans with standardised DVARS above 1.5"),
    ("dvars_spikes", "DVARS spikes", "share", "share of the scans (but the first) that are DVARS spikes before cleaning"),
    ("global_sd", "global SD", "%", f"standard deviation of the mean of all voxels before cleaning, {_OF_MEAN}"),
    ("sd_before", "SD before", "%", f"standard deviation of a series before cleaning, {_OF_MEAN}, {_SAMPLE}"),
    ("sd_after", "SD after", "%", "sd_before times the square root of variance_kept"),
    (
        "variance_kept", "variance kept", "share",
        f"share of a series' variance that cleaning leaves: squared correlation of the series before and after, {_SAMPLE}",
    ),
    ("r_global*", "|r| global", "", f"absolute correlation of a voxel with the mean of all voxels, {_SAMPLE}"),
    ("r_fd*", "|r| FD", "", f"absolute correlation of a voxel with framewise displacement, {_SAMPLE}"),
    ("r_dvars_fd*", "r DVARS, FD", "", "correlation over scans of DVARS with framewise displacement"),
)  # fmt: skip


def _spread(column, label, unit, meaning):
    if not column.endswith("*"):
        return {column: Term(label, unit, meaning)}
    stages = ("before", "after")
    return {f"{column[:-1]}_{stage}": Term(f"{label} {stage}", unit, f"{meaning}; {stage} cleaning") for stage in stages}


TERMS = {name: term for row in _ROWS for name, term in _spread(*row).items()}
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
