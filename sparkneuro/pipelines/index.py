"""Index BIDS data sets: one Parquet file with a row for each file, its entities, and its sidecar with inheritance resolved.

A folder is a data set (raw or derived, with a dataset_description.json) or holds several. sourcedata, code, stimuli and hidden
files are left out; data sets below derivatives are separate ones, indexed when they are named or with --derivatives. The index
holds the folders that this command names, no others. Running the command again lists the folders, reads those JSON files that
are new or changed, and takes the rest from the index.
"""

import logging
import time
from dataclasses import dataclass

from sparkneuro.data import store
from sparkneuro.errors import SettingsError
from sparkneuro.pipelines.settings import argument, option

LOG = logging.getLogger(__name__)

N_NAMED = 5
"""Notices of one kind that are shown in full."""


@dataclass(frozen=True)
class Settings:
    """Settings of ``sparkneuro index``."""

    folders: tuple = argument("BIDS data sets, or folders that hold some; local, s3:// or hdfs://", many=True)
    output: str = option(None, "the index to make or to bring up to date, e.g. bids.index.parquet")
    derivatives: bool = option(False, "also index the data sets in derivatives below each data set")
    show: bool = option(True, "print how many files there are of each data set, datatype, suffix and task")


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
    """Make an index of BIDS data sets, or bring it up to date.

    Parameters
    ----------
    settings : Settings
        The settings.
    spark : None
        Not used.

    Returns
    -------
    text : str
        A table of what there is, and a sentence on what was done.

    Raises
    ------
    SparkneuroError
        When a folder is no BIDS data set, a sidecar is damaged, or the output is something else; the output is then as it was.
    """
    if not settings.output:
        raise SettingsError("the index needs a name: give one with --output bids.index.parquet.")
    from sparkneuro.data.index.bids_datasets import find_datasets
    from sparkneuro.data.index.bids_index_file import read_index, write_index
    from sparkneuro.data.index.bids_index_update import update_index
    from sparkneuro.data.index.bids_summary import summarise_index

    started = time.monotonic()
    old = read_index(settings.output) if store.exists(settings.output) else None
    datasets = find_datasets(settings.folders, settings.derivatives)
    for dataset in datasets:
        if not dataset.is_described:
            LOG.warning("%s has no dataset_description.json; its files are indexed all the same.", dataset.root)
    update = update_index(datasets, old)
    if old is None or not update.table.equals(old):
        write_index(settings.output, update.table)
    for sentence in update.disputes[:N_NAMED]:
        LOG.warning("%s", sentence)
    if len(update.disputes) > N_NAMED:
        LOG.warning("%d more sidecars disagree in this way.", len(update.disputes) - N_NAMED)
    table = summarise_index(update.table) + "\n\n" if settings.show else ""
    return table + _describe(settings.output, len(datasets), update, time.monotonic() - started)


def _describe(output, n_datasets, update, seconds):
    counts = [f"{getattr(update, f'n_{word}'):,} {word}" for word in ("new", "changed", "unchanged", "removed")]
    what = f"{_plural(update.table.num_rows, 'file')} of {_plural(n_datasets, 'data set')} in {seconds:.1f} s"
    absent = f"; {_plural(update.n_absent, 'link')} without content, to be fetched with datalad get" if update.n_absent else ""
    return f"{output}: {what}: {', '.join(counts)}; {_plural(update.n_read, 'sidecar')} read{absent}."


def _plural(number, noun):
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
