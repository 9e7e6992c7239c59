"""Run the main job on a sample, from BOLD to report: sample, ingest, train dca, transform, report.

The sample is real whole-brain rest BOLD of one person; where it cannot be fetched (no network), the synthetic one. Everything is
kept in one folder. A step that is finished is not repeated, and a run that was interrupted goes on at the step it was in.
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from sparkneuro.errors import FormatError, SettingsError, StorageError
from sparkneuro.pipelines.settings import option
from sparkneuro.validation import check_number

SAMPLES = ("rest", "synthetic")


@dataclass(frozen=True)
class Settings:
    """Settings of ``sparkneuro demo``."""

    directory: str = option(".demo", "folder of the inputs and of all results")
    sample: str = option(None, "sample to use (default: rest, or synthetic where that cannot be fetched)", choices=SAMPLES)
    epochs: int = option(8, "passes over the training rows")


@dataclass(frozen=True)
class Paths:
    """Where the demo keeps what.

    Parameters
    ----------
    source, table, model, features, report : Path
        BIDS folder, voxel table, trained model, features, HTML page.
    """

    source: Path
    table: Path
    model: Path
    features: Path
    report: Path


def paths_of(directory, sample):
    """Name the files of one sample's demo.

    Parameters
    ----------
    directory : str or Path
        The demo's folder.
    sample : str
        ``rest`` or ``synthetic``.

    Returns
    -------
    paths : Paths
        None of them need exist.

    Examples
    --------
    >>> paths_of(".demo", "rest").report.as_posix()
    '.demo/rest.html'
    """
    root = Path(directory)
    names = (sample, f"{sample}.voxels", f"{sample}.model", f"{sample}-features.voxels", f"{sample}.html")
    return Paths(*(root / name for name in names))


def needs_spark(settings):
    """Tell whether anything is left to do.

    Parameters
    ----------
    settings : Settings
        The settings.

    Returns
    -------
    needed : bool
        False when every step is finished.
    """
    check_number("--epochs", settings.epochs, minimum=1, integer=True)
    if "://" in settings.directory:
        raise SettingsError(f"the demo runs in a folder of this machine; got {settings.directory}.")
    paths = paths_of(settings.directory, choose_sample(settings))
    return not (is_trained(paths, settings.epochs) and is_table(paths.features) and paths.report.is_file())


def choose_sample(settings):
    """Name the sample that the settings, or an earlier run in the same folder, have chosen.

    Parameters
    ----------
    settings : Settings
        The settings.

    Returns
    -------
    sample : str
        ``rest`` unless the settings say otherwise or an earlier run had to fall back on the other.
    """
    earlier = [sample for sample in SAMPLES if paths_of(settings.directory, sample).source.is_dir()]
    return settings.sample or (earlier or SAMPLES)[0]


def is_table(path):
    """Whether a folder is a finished voxel table.

    Parameters
    ----------
    path : Path
        The folder.

    Returns
    -------
    finished : bool
        False when it is absent or unfinished.
    """
    from sparkneuro.data.voxel_table import VoxelTable

    try:
        VoxelTable.open(str(path))
    except FormatError:
        return False
    return True


def is_trained(paths, epochs):
    """Whether the model was trained to its end, for so many epochs.

    Parameters
    ----------
    paths : Paths
        Where things are.
    epochs : int
        Wanted number of epochs.

    Returns
    -------
    finished : bool
        False when it is absent, unfinished, or of another length.
    """
    # Read as JSON, not by `train`, which would load Keras to say that nothing is left to do.
    try:
        return json.loads((paths.model / "training.json").read_text())["settings"]["epochs"] == epochs
    except (OSError, ValueError, KeyError):
        return False


def run(settings, spark):
    """Do what is left of the demo.

    Parameters
    ----------
    settings : Settings
        The settings.
    spark : pyspark.sql.SparkSession or None
        One session for all steps; None will do when nothing is left.

    Returns
    -------
    sentence : str
        Names the report.

    Raises
    ------
    SparkneuroError
        When a step fails. What is finished is kept for the next run.
    """
    if not needs_spark(settings):
        paths = paths_of(settings.directory, choose_sample(settings))
        return f"Nothing is left to do. The report: {paths.report.absolute()}"
    started = time.monotonic()
    Path(settings.directory).mkdir(parents=True, exist_ok=True)
    paths = _make_sample(settings)
    _ingest(paths, spark)
    _train(paths, settings, spark)
    _transform(paths, spark)
    _report(paths, spark)
    return f"Done in {(time.monotonic() - started) / 60:.1f} minutes. The report: {paths.report.absolute()}"


def _say(step, sentence):
    tqdm.write(f"[{step}/5] {sentence}", file=sys.stderr)


def _make_sample(settings):
    from sparkneuro.pipelines import sample as job

    name = choose_sample(settings)
    paths = paths_of(settings.directory, name)
    _say(1, f"sample {name}")
    try:
        _say(1, job.run(job.Settings(name=name, folder=str(paths.source))))
    except StorageError as error:
        if name == "synthetic" or settings.sample is not None:
            raise
        _say(1, f"{error}")
        _say(1, "the real rest BOLD cannot be had now: the synthetic sample is used instead")
        paths = paths_of(settings.directory, "synthetic")
        _say(1, job.run(job.Settings(name="synthetic", folder=str(paths.source))))
    return paths


def _ingest(paths, spark):
    from sparkneuro.pipelines import ingest as job

    masks = sorted(paths.source.glob("sub-*/**/*_mask.nii.gz"))
    mask = {"mask": str(masks[0])} if masks else {}
    _say(2, "ingest: BOLD to voxel table")
    _say(2, job.run(job.Settings(sources=(str(paths.source),), output=str(paths.table), high_pass=0.008, **mask), spark))


def _train(paths, settings, spark):
    from sparkneuro.pipelines import train_dca as job

    if is_trained(paths, settings.epochs):
        _say(3, f"train dca: {paths.model} is trained already")
        return
    _remove(paths.features)
    paths.report.unlink(missing_ok=True)
    n_workers = min(2, spark.sparkContext.defaultParallelism)
    _say(3, f"train dca: Downpour SGD; workers: {n_workers}, epochs: {settings.epochs}")
    result = job.run(
        job.Settings(
            table=str(paths.table), output=str(paths.model), workers=n_workers, epochs=settings.epochs, overwrite=True
        ),
        spark,
    )
    _say(3, ", ".join(f"{name} {value}" for name, value in result.items()))


def _transform(paths, spark):
    from sparkneuro.pipelines import transform as job

    if is_table(paths.features):
        _say(4, f"transform: {paths.features} is there already")
        return
    _say(4, "transform: hidden features of every voxel")
    _remove(paths.features)
    job.run(job.Settings(table=str(paths.table), model=str(paths.model), output=str(paths.features)), spark)


def _report(paths, spark):
    from sparkneuro.pipelines import report as job

    if paths.report.is_file():
        _say(5, f"report: {paths.report} is there already")
        return
    _say(5, "report: figures and tables")
    job.run(
        job.Settings(
            table=str(paths.table), model=str(paths.model), features=str(paths.features), output=str(paths.report)
        ),
        spark,
    )


def _remove(folder):
    from sparkneuro.data import store

    if folder.is_dir():
        store.delete(str(folder))
    elif folder.exists():
        raise SettingsError(f"{folder} must be a folder of the demo's; it is a file.")
