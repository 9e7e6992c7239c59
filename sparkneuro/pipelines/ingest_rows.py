"""The mask of a voxel table: copied from a file, or computed by one Spark task a run and put together by vote."""

import numpy as np

from sparkneuro.data import store
from sparkneuro.data.nifti import read_volume, write_volume
from sparkneuro.data.task_progress import show_progress
from sparkneuro.data.voxel_table import MASK
from sparkneuro.pipelines.ingest_plan import MASKS, raise_first, subject_mask


def make_masks(plan, spark):
    """Write the table's mask, unless it is there.

    A mask is that of the runs that the table was begun with: the voxels in more than half of the runs' EPI masks (`group`), or
    the union of the subjects' masks, each by vote of the subject's runs (`subject`). Each run is read once for it.

    Parameters
    ----------
    plan : Plan
        What is to be done.
    spark : pyspark.sql.SparkSession
        The session.

    Raises
    ------
    SparkneuroError
        When a run cannot be read, or no common mask exists.
    """
    path, affine = store.join(plan.table, MASK), plan.recipe["affine"]
    if store.exists(path):
        return
    if plan.mask is not None:
        write_volume(path, plan.mask.astype(np.uint8), affine)
        return
    folder = store.join(plan.table, MASKS, "runs")
    store.delete(folder)
    _compute_run_masks(plan, spark, folder)
    by_subject = plan.recipe["settings"]["mask"] == "subject"
    mask = _vote_subjects(plan, folder) if by_subject else _vote(plan.sources, folder, affine)
    write_volume(path, mask.astype(np.uint8), affine)
    store.delete(folder if by_subject else store.join(plan.table, MASKS))


def _compute_run_masks(plan, spark, folder):
    from sparkneuro.data.spark import run_jobs
    from sparkneuro.pipelines.ingest_task import make_run_mask

    jobs = [{"source": source.path, "mask": _run_mask(folder, source)} for source in plan.sources]
    sizes = {source.key: source.size for source in plan.sources}
    with show_progress("mask", sizes, lambda: [name.removesuffix(".nii.gz") for name in store.list_files(folder)]):
        _, failures = run_jobs(spark, make_run_mask, jobs)
    raise_first(failures)


def _vote(sources, folder, affine):
    from sparkneuro.preprocess.brain_mask import vote_mask

    votes = sum((read_volume(_run_mask(folder, source))[0].astype(np.int32) for source in sources), start=np.int32(0))
    return vote_mask(votes, len(sources), affine)


def _vote_subjects(plan, folder):
    union = np.zeros(plan.recipe["shape"], bool)
    for subject in sorted({source.subject for source in plan.sources}):
        mask = _vote([source for source in plan.sources if source.subject == subject], folder, plan.recipe["affine"])
        write_volume(subject_mask(plan.table, subject), mask.astype(np.uint8), plan.recipe["affine"])
        union |= mask
    return union


def _run_mask(folder, source):
    return store.join(folder, f"{source.key}.nii.gz")
