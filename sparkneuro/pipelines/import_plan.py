"""What an import has to do: HDF5 files of one export, checked to be of one table, and which files of it each of them brings."""

import hashlib
import json
import posixpath
from dataclasses import dataclass

from sparkneuro.data import store, voxel_table
from sparkneuro.data.bids import run_key
from sparkneuro.data.hdf5_table import read_contents
from sparkneuro.errors import FormatError, SettingsError
from sparkneuro.pipelines.export_plan import MANIFEST

MARKER = ".import-unfinished"


@dataclass(frozen=True)
class SourceFile:
    """One exported file.

    Parameters
    ----------
    path : str
        Path or URI.
    files : list of str
        Other files of the table than rows and metadata, that are taken from this one.
    n_bytes : int
        Its size.
    """

    path: str
    files: list
    n_bytes: int


@dataclass(frozen=True)
class Plan:
    """What an import has to do.

    Parameters
    ----------
    output : str
        Path or URI of the voxel table.
    metadata : dict
        Of the table, with all runs, sorted by key.
    files : tuple of SourceFile
        The sources.
    """

    output: str
    metadata: dict
    files: tuple


def make_plan(settings):
    """Check the sources and the output.

    Parameters
    ----------
    settings : sparkneuro.pipelines.import_table.Settings
        The settings.

    Returns
    -------
    plan : Plan
        What is to be done. Nothing has been written.

    Raises
    ------
    SparkneuroError
        When a source is missing, damaged, of a newer format or of another table, or the output is something else.
    """
    if not settings.output:
        raise SettingsError("output is missing; name the voxel table to make with --output, e.g. --output rest.voxels.")
    output = store.make_absolute(settings.output).rstrip("/")
    names = store.list_files(output, recursive=True) if store.is_folder(output) else []
    if (names and MARKER not in names) or (store.exists(output) and not store.is_folder(output)):
        raise SettingsError(f"{output}: there is something here already; choose another --output.")
    paths = [path for source in settings.sources for path in _list_files(store.make_absolute(source))]
    return _merge(output, list(dict.fromkeys(paths)))


def write_metadata(plan):
    """Write the table's metadata, as `VoxelTable.save` does, which makes the folder a table.

    Parameters
    ----------
    plan : Plan
        What was to be done, and is done now.
    """
    content = json.dumps(plan.metadata, indent=1).encode()
    store.write_bytes(store.join(plan.output, voxel_table.METADATA), content)


def _list_files(source):
    if not store.exists(source):
        raise FormatError(f"{source}: there is no such file or folder.")
    if not store.is_folder(source):
        return [source]
    path = store.join(source, MANIFEST)
    if not store.exists(path):
        raise FormatError(f"{source}: this folder is no finished export, it has no {MANIFEST}; run 'sparkneuro export' again.")
    try:
        files = json.loads(store.read_bytes(path))["files"]
        sizes = {name: files[name]["bytes"] for name in sorted(files)}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{path}: the manifest is damaged ({error!r}); copy or export the folder again.") from error
    for name, size in sizes.items():
        there = store.stat(store.join(source, name))[0] if store.exists(store.join(source, name)) else None
        if there != size:
            found = "is missing" if there is None else f"has {there} of {size} bytes"
            raise FormatError(f"{source}: of this export {name} {found}; copy it again.")
    return [store.join(source, name) for name in sizes]


def _merge(output, paths):
    first, runs, seen, sources = None, {}, {}, []
    for path in paths:
        contents = read_contents(path)
        _check_metadata(path, contents.metadata)
        first = first or contents.metadata
        for name in {**first, **contents.metadata}:
            if name != "runs" and first.get(name) != contents.metadata.get(name):
                raise FormatError(f"{path}: this is of another table than {paths[0]}: their {name} differs; import them apart.")
        for run in contents.metadata["runs"]:
            key = run_key(run["subject"], run["session"], run["task"], run["run"])
            if key in runs:
                raise FormatError(f"{path} and {runs[key][0]} both hold run {key}; give one of them.")
            runs[key] = path, run
        sources.append(SourceFile(path, _take_files(path, contents.files, seen), store.stat(path)[0]))
    if not runs:
        raise FormatError(f"{', '.join(paths[:3])}: there is no run in this export.")
    return Plan(output, {**first, "runs": [runs[key][1] for key in sorted(runs)]}, tuple(sources))


def _check_metadata(path, metadata):
    missing = [name for name in ("format", "runs", "n_voxels", "block_size") if name not in metadata]
    labels = [str(run.get(name)) for run in metadata.get("runs", ()) for name in ("subject", "session", "task", "run")]
    odd = [label for label in labels if "/" in label or label.startswith(".")]  # they become names of folders
    if missing or odd:
        raise FormatError(f"{path}: its metadata have no {missing[0]}." if missing else f"{path}: {odd[0]} is no label of a run.")
    if metadata["format"] > voxel_table.FORMAT:
        newer = f"it holds a voxel table of format {metadata['format']}, and this sparkneuro reads up to {voxel_table.FORMAT}"
        raise FormatError(f"{path}: {newer}; update sparkneuro.")


def _take_files(path, files, seen):
    """Names of files that no source before has brought; one that two bring must be the same."""
    taken = []
    for name, content in files.items():
        if posixpath.isabs(name) or ".." in name.split("/") or name.endswith(".parquet") or name == voxel_table.METADATA:
            raise FormatError(f"{path}: it holds a file {name}, which no export takes along; export the table again.")
        sha256 = hashlib.sha256(content).hexdigest()
        other, theirs = seen.setdefault(name, (path, sha256))
        if theirs != sha256:
            raise FormatError(f"{path}: this is of another table than {other}: their {name} differs; import them apart.")
        if other == path:
            taken.append(name)
    return taken
