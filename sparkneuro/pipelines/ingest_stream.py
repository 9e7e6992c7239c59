"""Ingest a data set that lies elsewhere: each run is fetched, made into rows, and its raw file removed.

Sidecars and confounds are small: the driver fetches them beside the table, where every task can read them. A run is fetched
by the task that ingests it, to its machine's own disk; when the task is killed, the next one there goes on at its byte.
"""

import hashlib
import posixpath
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from sparkneuro.data import bids, store
from sparkneuro.data.nifti import check_grid, read_header
from sparkneuro.data.runs import SourceRun, choose_files, inspect_run
from sparkneuro.errors import FormatError, SettingsError
from sparkneuro.pipelines.fetch_source import fetch_file, list_source, resolve_source

RAW = "_raw"
FETCHERS = 8


@dataclass(frozen=True)
class Remote:
    """What of a data set is to be fetched.

    Parameters
    ----------
    runs : dict of str to dict
        What `fetch_file` takes, by the run's key.
    small : dict of str to dict
        The same of sidecars and confounds, by the place where they are kept.
    """

    runs: dict
    small: dict


def list_remote_runs(settings, bids_filter):
    """List the runs of data sets that lie elsewhere, by their names alone.

    Parameters
    ----------
    settings : sparkneuro.pipelines.ingest.Settings
        The settings; its sources are addresses.
    bids_filter : BidsFilter
        Which runs.

    Returns
    -------
    runs : list of SourceRun
        Sorted by key; shape, scans and repetition time are not known yet. `origin` is the address.
    remote : Remote
        What is to be fetched for them.

    Raises
    ------
    SparkneuroError
        When a source is not there, two files are the same run, or the settings need all runs at once.
    """
    if settings.mask in ("group", "subject") and not settings.labels:
        remedy = "give a mask file with --mask, or parcels with --labels"
        raise SettingsError(f"discard_raw: a {settings.mask} mask would need every run at once; {remedy}.")
    runs, entries, small = {}, {}, {}
    for dataset in settings.sources:
        uri = resolve_source(dataset)
        listed = {entry["path"]: entry for entry in list_source(uri)}
        mark = hashlib.sha256(uri.encode()).hexdigest()[:8]
        root = store.join(settings.output, RAW, f"{posixpath.basename(uri.rstrip('/'))}-{mark}")
        names = [name for name in listed if bids.is_bold(root, name)]
        if not names:
            raise FormatError(f"{uri}: no file here is a BOLD run.")
        chosen = choose_files(names, bids_filter)
        small |= _choose_small(root, listed, chosen, bool(settings.confounds or settings.denoise))
        for name in chosen:
            run = _name_run(store.join(root, name), listed[name], small)
            if run.key in runs:
                raise FormatError(f"{run.origin} and {runs[run.key].origin} are both run {run.key}; choose with --space.")
            runs[run.key], entries[run.key] = run, listed[name]
    return [runs[key] for key in sorted(runs)], Remote(entries, small)


def _name_run(path, entry, small):
    labels = bids.parse_name(path)[0]
    beside = [other for place, other in small.items() if _holds_for(place, path, labels)]
    mark = str(sorted((one["path"], one.get("size"), one.get("etag") or one.get("modified")) for one in [entry, *beside]))
    return SourceRun(
        path=path, **bids.name_run(path), space=labels.get("space", "native"), shape=(), affine=(), n_scans=0, t_r=0.0,
        size=entry.get("size") or 0, modified=int(hashlib.sha256(mark.encode()).hexdigest()[:12], 16),
        preprocessed="desc" in labels, origin=entry["url"],
    )  # fmt: skip


def _holds_for(small, path, labels):
    """Whether a sidecar or a confounds table is one of a run's."""
    theirs, suffix = bids.parse_name(small)
    own = {key: value for key, value in theirs.items() if key != "desc"}
    above = path.startswith(posixpath.dirname(small) + "/")
    return above and own.items() <= labels.items() and suffix in ("bold", "timeseries", "regressors")


def _choose_small(root, listed, chosen, need_confounds):
    """The sidecars that may hold for the chosen runs, and their confounds."""
    above = {"", *(posixpath.dirname(name) for name in chosen)}
    for folder in list(above):
        while folder := posixpath.dirname(folder):
            above.add(folder)
    return {
        store.join(root, name): entry for name, entry in listed.items()
        if posixpath.dirname(name) in above and (name.endswith(".json") or (need_confounds and _is_confounds(name)))
    }  # fmt: skip


def _is_confounds(name):
    return name.endswith(".tsv") and bids.parse_name(name)[0].get("desc") == "confounds"


def fetch_small(remote):
    """Fetch the sidecars and confounds that are not there yet.

    Parameters
    ----------
    remote : Remote
        What is to be fetched.

    Raises
    ------
    SparkneuroError
        When one cannot be fetched or kept.
    """
    with ThreadPoolExecutor(FETCHERS) as pool:
        list(pool.map(_copy_small, remote.small, remote.small.values()))


def _copy_small(path, entry):
    if store.exists(path) and store.stat(path)[0] == entry.get("size"):
        return
    with tempfile.TemporaryDirectory(prefix="sparkneuro-raw-") as folder:
        fetch_file(entry, f"{folder}/file")
        store.write_bytes(path, Path(folder, "file").read_bytes())


def ingest_remote_run(job):
    """Fetch one run, make its rows, and remove it.

    Parameters
    ----------
    job : dict
        As `sparkneuro.pipelines.ingest_task.ingest_run` takes it, with `entry` (what to fetch) and `t_r` (s, or None); its
        `source` is known by name only.

    Returns
    -------
    result : dict
        `key` of the run, and `made`.

    Raises
    ------
    SparkneuroError
        When the run cannot be fetched or is not what it should be.
    """
    from sparkneuro.pipelines.ingest_task import ingest_run

    named, recipe = SourceRun(**job["source"]), job["recipe"]
    local = _local_path(named)
    if not local.exists():
        fetch_file(job["entry"], str(local))
    try:
        found = inspect_run(named.path, job["t_r"], recipe["confounds"], bool(recipe["denoise"]), local=str(local))
        source = replace(found, origin=named.origin, size=named.size, modified=named.modified)
        _check_run(job, source, str(local))
        return ingest_run({**job, "source": source.to_dict(), "local": str(local)})
    finally:
        local.unlink(missing_ok=True)
        local.parent.rmdir()


def _local_path(source):
    """Where a run is fetched to on this machine: the same place each time, so that it goes on where it was cut off."""
    mark = hashlib.sha256(f"{source.path} {source.origin} {source.size} {source.modified}".encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir(), f"sparkneuro-raw-{mark}", posixpath.basename(source.path))


def _check_run(job, source, local):
    from sparkneuro.data.row_space import VOXELS
    from sparkneuro.preprocess.clean import check_high_pass

    check_high_pass(job["recipe"]["high_pass"], source.t_r)
    if source.rows != "voxels":
        raise SettingsError(f"{source.origin}: discard_raw is for images of voxels; this file holds {source.rows}.")
    if job["rows"] == VOXELS:
        header = replace(read_header(local), path=source.origin)
        check_grid(header, job["shape"], job["affine"], other="the mask", remedy="give a mask on the runs' grid, or --labels")
