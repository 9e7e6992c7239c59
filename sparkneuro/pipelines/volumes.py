"""Turn 3-D and 4-D NIfTI images into a volume store: volumes of one shape, standardised, in shards, for 3-D and 4-D models.

Each image is turned to RAS, resampled when --voxel-size is given, cropped or padded about its centre to --shape, and
standardised over its non-zero voxels (a run over all its scans); zero stays zero and is background. Labels, affines, TR and what
the numbers stand for are kept, so original units come back. Read it in Python:
    volumes = VolumeStore.open("t1w.volumes")              # from sparkneuro.data.volumes.volume_store
    volumes.read_volume(0), volumes.read_window(3, 10, 20), volumes.batches(8, seed=1, worker=0, n_workers=4)
One Spark task an image, and then one a shard. Running the command again does only what is missing.
"""

import time
from dataclasses import asdict, dataclass

import numpy as np

from sparkneuro.data import store
from sparkneuro.pipelines.settings import argument, option


@dataclass(frozen=True)
class Settings:
    """Settings of ``sparkneuro volumes``."""

    sources: tuple = argument("folders of images, or images (.nii, .nii.gz), 3-D or 4-D", many=True)
    output: str = option(None, "folder of the volume store to make, e.g. t1w.volumes")
    shape: tuple = option((64, 64, 64), "voxels of every volume: to the right, to the front, up", type=int, many=True)
    voxel_size: float = option(None, "resample to voxels of this size in mm; each image keeps its own when absent", type=float)
    interpolation: str = option("linear", "when resampling: linear, or nearest for labels", choices=("linear", "nearest"))
    standardize: str = option("zscore", "over the non-zero voxels of an image: zscore, minmax, or none",
                              choices=("zscore", "minmax", "none"))
    dtype: str = option("float32", "of the stored numbers: float32, float16 or int16", choices=("float32", "float16", "int16"))
    shard_mb: float = option(256.0, "most megabytes of a shard", type=float)
    pattern: tuple = option((), "names of the files to take from folders, e.g. '*_T1w.nii.gz'; all images when absent", many=True)


def needs_spark(settings):
    """Tell whether anything is missing; bad input is found here, before Spark starts.

    Parameters
    ----------
    settings : Settings
        The settings.

    Returns
    -------
    needed : bool
        Whether `run` will use its session.
    """
    from sparkneuro.pipelines.volumes_plan import make_plan

    return not make_plan(settings).is_finished


def run(settings, spark):
    """Make a volume store, or what is missing of it.

    The volumes are written twice, once an image and once a shard, so for a while the store takes twice its room; a run is also
    kept as float32 in the folder for temporary files of the machine that works on it.

    Parameters
    ----------
    settings : Settings
        The settings.
    spark : pyspark.sql.SparkSession or None
        The session; None will do when nothing is missing.

    Returns
    -------
    sentence : str
        What was done.

    Raises
    ------
    SparkneuroError
        When an input or a setting is wrong, or there is no room. What is finished is kept for the next time, but the folder is
        no volume store.
    """
    from sparkneuro.data.storage.checksums import CHECKSUMS, write_checksums
    from sparkneuro.pipelines import volumes_parts
    from sparkneuro.pipelines.volumes_plan import make_plan

    plan, started = make_plan(settings), time.monotonic()
    if plan.is_finished:
        volumes_parts.delete_parts(plan)
        if not store.exists(store.join(plan.output, CHECKSUMS)):
            write_checksums(plan.output)
        return f"{plan.output}: nothing is missing; {_count(plan.sources, 'image')} in the store already."
    records = _store_images(plan, spark)
    shards = _pack_shards(plan, records, spark)
    _finish(plan, records, shards)
    n_volumes, n_bytes = sum(record.n_volumes for record in records), sum(shard["bytes"] for shard in shards)
    least = min(records, key=lambda record: record.kept)
    held = f"{_count(records, 'image')} as {n_volumes} volumes of {' x '.join(map(str, settings.shape))}"
    made = f"{held} in {_count(shards, 'shard')} ({n_bytes / 1e6:.1f} MB), made in {time.monotonic() - started:.1f} s"
    kept = f"of each image's non-zero voxels at least {100 * least.kept:.0f} % lie within the shape ({least.source})"
    return f"{plan.output}: {made}; {kept}."


def _count(things, noun):
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def _store_images(plan, spark):
    from sparkneuro.data.spark import run_jobs
    from sparkneuro.data.task_progress import show_progress
    from sparkneuro.pipelines import volumes_parts
    from sparkneuro.pipelines.ingest_plan import raise_first
    from sparkneuro.pipelines.volumes_task import store_image

    missing = volumes_parts.begin(plan)
    jobs = [{"output": plan.output, "settings": plan.recipe, **asdict(source)} for source in missing]
    sizes = {source.key: source.size for source in missing}
    made = []
    if missing:
        with show_progress("volumes", sizes, lambda: volumes_parts.list_stored(plan), noun="images"):
            made, failures = run_jobs(spark, store_image, jobs)
        if not made and len(missing) == len(plan.sources):
            store.delete(plan.output)  # nothing is finished that could be kept
        raise_first(failures, "image")
    return volumes_parts.number_records(plan, {result["key"]: result["record"] for result in made})


def _pack_shards(plan, records, spark):
    from sparkneuro.data.spark import run_jobs
    from sparkneuro.data.task_progress import show_progress
    from sparkneuro.pipelines import volumes_parts
    from sparkneuro.pipelines.ingest_plan import raise_first
    from sparkneuro.pipelines.volumes_task import pack_shard

    jobs = volumes_parts.plan_shards(plan, records)
    missing = [job for job in jobs if not volumes_parts.read_shard_receipt(job)]
    sizes = {job["name"]: job["n_volumes"] * plan.volume_bytes for job in missing}
    for job in missing:
        store.delete(job["receipt"])
    if missing:
        with show_progress("shards", sizes, lambda: volumes_parts.list_stored(plan), noun="shards"):
            _, failures = run_jobs(spark, pack_shard, missing)
        raise_first(failures, "shard")
    return [volumes_parts.read_shard_receipt(job) for job in jobs]


def _finish(plan, records, shards):
    from sparkneuro.data.storage.checksums import write_checksums
    from sparkneuro.data.volumes.volume_shards import shard_name
    from sparkneuro.data.volumes.volume_store import write_metadata
    from sparkneuro.pipelines import volumes_parts

    crc32 = np.concatenate([np.asarray(shard["crc32"], np.uint32) for shard in shards])
    volumes_parts.delete_strays(plan, len(shards))
    volumes_parts.write_sources(plan)
    write_metadata(plan.output, plan.recipe, records, crc32, plan.per_shard)
    write_checksums(plan.output, known={shard_name(number): shard["sha256"] for number, shard in enumerate(shards)})
    volumes_parts.delete_parts(plan)
