"""Where the quality of a run meets its files: motion is read, the measures are taken, and traces and pictures are kept."""

from sparkneuro.data.motion import read_motion
from sparkneuro.data.quality_file import write_quality
from sparkneuro.preprocess.motion import framewise_displacement


def keep_quality(table, source, quality, kept=None):
    """Measure what has been gathered on a run, and write its arrays.

    Parameters
    ----------
    table : str
        Path or URI of the voxel table.
    source : SourceRun
        The run.
    quality : RunQuality
        Has seen all its voxels, at the scans that are kept.
    kept : ndarray of shape (n_kept,), int, or None
        Scans that scrubbing has kept; None where all are.

    Returns
    -------
    numbers : dict
        For its receipt.
    """
    motion = read_motion(source.path, source.n_scans, source.confounds)
    fd = motion.displacement if motion.parameters is None else framewise_displacement(motion.parameters)
    numbers, arrays = quality.finish(fd if fd is None or kept is None else fd[kept])
    write_quality(table, source.key, arrays)
    return {**numbers, "motion_source": motion.source}
