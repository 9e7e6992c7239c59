"""Where the rows of a table lie, written before any row: its mask, by vote of the runs' masks or from a file; its parcels; or the
grayordinates of a dense series."""

import numpy as np

from sparkneuro.data import row_space, store
from sparkneuro.data.nifti import read_volume, write_volume
from sparkneuro.data.task_progress import show_progress
from sparkneuro.pipelines.ingest_plan import MASKS, raise_first, subject_mask


def make_rows(plan, spark):
    """Write the files that say where the table's rows lie, unless they are there.

    A computed mask is that of the runs that the table was begun with: the voxels in more than half of the runs' masks (`group`),
    or the union of the subjects' masks, each by vote of the subject's runs (`subject`). Each run that brings no brain mask is
    read once for it.

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
    rows, affine = plan.recipe["rows"], plan.recipe["affine"]
    if all(store.exists(store.join(plan.table, name)) for name in row_space.FILES[rows]):
        return
    if rows == row_space.GRAYORDINATES:
        _write_brain_models(plan)
    elif rows == row_space.PARCELS:
        numbers, names = plan.parcels
        row_space.write_names(store.join(plan.table, row_space.NAMES), names)
        write_volume(store.join(plan.table, row_space.LABELS), numbers, affine)
    else:
        mask = _compute_mask(plan, spark) if plan.mask is None else plan.mask
        write_volume(store.join(plan.table, row_space.MASK), mask.astype(np.uint8), affine)
        if plan.recipe["settings"]["mask"] != "subject":
            store.delete(store.join(plan.table, MASKS))


def _write_brain_models(plan):
    from sparkneuro.data.cifti import read_brain_models, write_maps

    brain_models = read_brain_models(plan.sources[0].path)
    ones = np.ones((1, len(brain_models)), np.float32)
    write_maps(store.join(plan.table, row_space.BRAIN_MODELS), ["in the table"], ones, brain_models)


def _compute_mask(plan, spark):
    folder = store.join(plan.table, MASKS, "runs")
    store.delete(folder)
    _compute_run_masks(plan, spark, folder)
    by_subject = plan.recipe["settings"]["mask"] == "subject"
    mask = _vote_subjects(plan, folder) if by_subject else _vote(plan.sources, folder, plan.recipe["affine"])
    store.delete(folder)
    return mask


def _compute_run_masks(plan, spark, folder):
    from sparkneuro.data.spark import run_jobs
    from sparkneuro.pipelines.ingest_task import make_run_mask

    jobs = [
        {
            "source": source.path, "shape": source.shape, "affine": source.affine, "brain_mask": source.brain_mask,
            "mask": _run_mask(folder, source),
        }
        for source in plan.sources
    ]  # fmt: skip
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
