"""What a volume store is to be made of: images checked by their headers, settings, and both compared with what is there."""

import fnmatch
import hashlib
import json
import posixpath
from dataclasses import dataclass, replace

import numpy as np

from sparkneuro.data import bids, store
from sparkneuro.data.nifti import read_header
from sparkneuro.data.runs import find_t_r
from sparkneuro.data.volumes.volume_coding import DTYPES, STANDARDIZATIONS
from sparkneuro.data.volumes.volume_shards import shard_name
from sparkneuro.data.volumes.volume_store import CRC32, METADATA, PARTS, VolumeStore
from sparkneuro.errors import FormatError, SettingsError
from sparkneuro.validation import check_choice, check_number

RECIPE = "recipe.json"
SOURCES = ".sources.json"
_IMAGES = ("*.nii", "*.nii.gz")


@dataclass(frozen=True)
class SourceImage:
    """One NIfTI file, known by its header and its sidecar.

    Parameters
    ----------
    path : str
        Path or URI of the file.
    key : str
        Name of its part, made of its path.
    size, modified : int
        Bytes of the file as stored, and the time of its last change (ns).
    n_scans : int or None
        Scans of a run; None for a 3-D image.
    t_r : float or None
        Repetition time of a run (s), where it is known.
    """

    path: str
    key: str
    size: int
    modified: int
    n_scans: int | None
    t_r: float | None


@dataclass(frozen=True)
class Plan:
    """What is to be made.

    Parameters
    ----------
    output : str
        Path or URI of the volume store.
    recipe : dict
        Settings that decide what the volumes are.
    per_shard : int
        Volumes of a shard.
    volume_bytes : int
        Bytes of a volume.
    sources : tuple of SourceImage
        The images, sorted by path.
    is_finished : bool
        Whether the store is there, made of these images with these settings.
    """

    output: str
    recipe: dict
    per_shard: int
    volume_bytes: int
    sources: tuple
    is_finished: bool


def make_plan(settings):
    """Check sources and settings, and compare them with what is there.

    Parameters
    ----------
    settings : sparkneuro.pipelines.volumes.Settings
        The settings.

    Returns
    -------
    plan : Plan
        What is to be done. Nothing has been written.

    Raises
    ------
    SparkneuroError
        When an input or a setting is wrong, or the output is something else or made of something else.
    """
    _check_settings(settings)
    output = store.make_absolute(settings.output).rstrip("/")
    names = ("shape", "voxel_size", "interpolation", "standardize", "dtype", "shard_mb")
    recipe = json.loads(json.dumps({name: getattr(settings, name) for name in names}))
    volume_bytes = int(np.prod(settings.shape)) * np.dtype(settings.dtype).itemsize
    per_shard = max(1, int(settings.shard_mb * 1e6) // volume_bytes)
    sources = tuple(_inspect(path) for path in _find_images(settings.sources, settings.pattern))
    plan = Plan(output, recipe, per_shard, volume_bytes, sources, False)
    return replace(plan, is_finished=_compare(plan))


def _check_settings(settings):
    if not settings.output:
        raise SettingsError("output is missing; name the volume store to make with --output, e.g. --output t1w.volumes.")
    if len(settings.shape) != 3:
        raise SettingsError(f"shape must be three numbers of voxels; got {' '.join(map(str, settings.shape))}.")
    for side in settings.shape:
        check_number("shape", side, minimum=1, integer=True)
    if settings.voxel_size is not None:
        check_number("voxel_size", settings.voxel_size, minimum=0, maximum=100, exclusive=True)
    check_number("shard_mb", settings.shard_mb, minimum=0, exclusive=True)
    check_choice("standardize", settings.standardize, STANDARDIZATIONS)
    check_choice("dtype", settings.dtype, DTYPES)
    check_choice("interpolation", settings.interpolation, ("linear", "nearest"))


def _find_images(sources, patterns):
    paths = []
    for source in map(str, sources):
        if not store.exists(source):
            raise FormatError(f"{source}: there is no such file or folder.")
        if not store.is_folder(source):
            paths.append(store.make_absolute(source))
            continue
        names = [name for name in store.list_files(source, recursive=True) if _is_wanted(name, patterns)]
        if not names:
            what = f"no file here is named {' or '.join(patterns or _IMAGES)}"
            raise FormatError(f"{source}: {what}, outside hidden folders and {', '.join(bids.SKIPPED_FOLDERS)}.")
        paths += [store.join(store.make_absolute(source), name) for name in names]
    return sorted(set(paths))


def _is_wanted(name, patterns):
    *folders, last = name.split("/")
    skipped = any(part.startswith(".") for part in (*folders, last)) or any(part in bids.SKIPPED_FOLDERS for part in folders)
    fits = all(any(fnmatch.fnmatch(last, pattern) for pattern in some) for some in (_IMAGES, patterns or ("*",)))
    return fits and not skipped


def _inspect(path):
    header = read_header(path)
    if len(header.shape) > 4:
        raise FormatError(f"{path}: an image of 3 or 4 axes is needed; the header says shape {header.shape}.")
    n_scans = header.shape[3] if len(header.shape) == 4 else None
    t_r = None
    if n_scans is not None and bids.read_sidecar(path).get("RepetitionTime", header.t_r) is not None:
        t_r = find_t_r(path, header.t_r)
    size, modified = store.stat(path)
    return SourceImage(path, hashlib.sha256(path.encode()).hexdigest()[:20], size, modified, n_scans, t_r)


def _compare(plan):
    """Whether the store is finished; what is there and something else is refused."""
    if store.exists(store.join(plan.output, METADATA)):
        earlier = VolumeStore.open(plan.output)
        _compare_recipes(plan, earlier.settings)
        _compare_sources(plan, earlier)
        return _is_complete(plan, earlier)
    if store.exists(store.join(plan.output, PARTS, RECIPE)):
        _compare_recipes(plan, json.loads(store.read_bytes(store.join(plan.output, PARTS, RECIPE))))
    elif store.exists(plan.output) and (not store.is_folder(plan.output) or store.list_files(plan.output, recursive=True)):
        raise SettingsError(f"{plan.output}: this is something else than a volume store; choose another --output.")
    return False


def _is_complete(plan, earlier):
    n_volumes = sum(record.n_volumes for record in earlier.records)
    names = {shard_name(number) for number in range(-(-n_volumes // plan.per_shard))} | {CRC32}
    missing = sorted(names - set(store.list_files(plan.output)))
    if missing:
        raise FormatError(f"{plan.output}: {missing[0]} of this volume store is missing; copy it again, or delete the store.")
    return True


def _compare_recipes(plan, earlier):
    for name, value in plan.recipe.items():
        if earlier.get(name) != value:
            begun = f"this volume store was begun with {name} {earlier.get(name)}, not {value}"
            raise SettingsError(f"{plan.output}: {begun}; give the same setting, or another --output.")


def _compare_sources(plan, earlier):
    path = store.join(plan.output, SOURCES)
    theirs = json.loads(store.read_bytes(path)) if store.exists(path) else {record.source: None for record in earlier.records}
    ours = {source.path: [source.size, source.modified, source.t_r] for source in plan.sources}
    changed = {name for name in theirs.keys() & ours.keys() if theirs[name] not in (None, ours[name])}
    odd = sorted((theirs.keys() ^ ours.keys()) | changed)
    if odd:
        name = posixpath.basename(odd[0])
        what = "new" if odd[0] not in theirs else "not given now" if odd[0] not in ours else "changed since"
        rest = f" ({len(odd)} such images)" if len(odd) > 1 else ""
        remedy = "a finished store is not added to; choose another --output, or delete this one"
        raise SettingsError(f"{plan.output}: this volume store was made of other images: {name} is {what}{rest}; {remedy}.")
