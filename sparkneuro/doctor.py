"""Show what this machine has for Spark, Keras and linear algebra, and how to get what it lacks.

One table: each thing, what was found, whether that is enough, and the remedy where it is not. The exit status is 0 when all that
the main job needs is there, and 1 otherwise. Works with any of the extras missing.
"""

import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from importlib import import_module, metadata

from sparkneuro import blas, environment, java
from sparkneuro.errors import SparkneuroError

GIBIBYTE = 2**30


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Parameters
    ----------
    thing : str
        What was looked at.
    found : str
        What is there.
    status : str
        ``ok``, ``short`` (there, but not enough) or ``missing``.
    remedy : str
        What to do about it; empty when it is ok.
    needed : bool
        Whether the main job cannot do without.
    """

    thing: str
    found: str
    status: str = "ok"
    remedy: str = ""
    needed: bool = True


def examine():
    """Look at everything, heavy libraries last.

    Returns
    -------
    table : str
        The table.
    status : int
        Exit status: 0 when all that is needed is there, 1 otherwise.
    """
    environment.prepare_environment()
    findings = [find_python(), *find_machine(), find_java_runtime(), *find_packages(), *find_linear_algebra(), *find_keras()]
    return format_table(findings), exit_status(findings)


def exit_status(findings):
    """Whether the main job can run on what was found.

    Parameters
    ----------
    findings : sequence of Finding
        The lines of the table.

    Returns
    -------
    status : int
        1 when something needed is short or missing, else 0.

    Examples
    --------
    >>> exit_status([Finding("GPU", "none", "short", needed=False)])
    0
    """
    return int(any(finding.needed and finding.status != "ok" for finding in findings))


def format_table(findings):
    """Lay the findings out as text.

    Parameters
    ----------
    findings : sequence of Finding
        The lines of the table.

    Returns
    -------
    table : str
        One line each, columns aligned, with a last line that sums up.
    """
    rows = [("", "found", "status", "remedy")] + [(f.thing, f.found, f.status, f.remedy) for f in findings]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]).rstrip() for row in rows]
    wanting = [f.thing for f in findings if f.needed and f.status != "ok"]
    lines.append("")
    lines.append(f"Not ready: {', '.join(wanting)}." if wanting else "Ready: all that the main job needs is here.")
    return "\n".join(lines)


def find_python():
    """Version of this Python. An older one than 3.11 cannot have installed us.

    Returns
    -------
    finding : Finding
        Always ok.
    """
    return Finding("Python", f"{'.'.join(map(str, sys.version_info[:3]))} ({sys.executable})")


def find_machine():
    """Cores, memory, and free disk of the working and the temporary folder.

    Returns
    -------
    findings : list of Finding
        In this order.
    """
    n_bytes = environment.available_memory()
    spark_folder = os.environ.get("SPARK_LOCAL_DIRS", tempfile.gettempdir()).partition(",")[0]
    return [
        Finding("cores", str(environment.available_cores())),
        assess_size("memory", n_bytes, 4, "close other programs, or take a machine with 8 GiB or more"),
        assess_disk("free disk, working folder", os.getcwd(), "free some space, or work in a folder on another disk"),
        assess_disk("free disk, temporary folder", spark_folder, "free some space, or set TMPDIR to a folder on another disk"),
    ]


def assess_size(thing, n_bytes, minimum, remedy, place=""):
    """Judge an amount of memory or disk.

    Parameters
    ----------
    thing : str
        What it is.
    n_bytes : int
        How much there is, in bytes.
    minimum : float
        How much is needed, in GiB.
    remedy : str
        What to do when there is less.
    place : str
        Where it is, for the table.

    Returns
    -------
    finding : Finding
        Short below `minimum`.

    Examples
    --------
    >>> assess_size("memory", 2**30, 4, "buy some").status
    'short'
    """
    found = f"{n_bytes / GIBIBYTE:.1f} GiB" + (f" ({place})" if place else "")
    if n_bytes < minimum * GIBIBYTE:
        return Finding(thing, found, "short", f"{minimum} GiB are needed: {remedy}")
    return Finding(thing, found)


def assess_disk(thing, folder, remedy):
    """Judge the free space of a folder.

    Parameters
    ----------
    thing : str
        What it is for.
    folder : str
        Where to look.
    remedy : str
        What to do when there is too little.

    Returns
    -------
    finding : Finding
        Short below 2 GiB; missing where the folder is.
    """
    try:
        return assess_size(thing, shutil.disk_usage(folder).free, 2, remedy, place=folder)
    except OSError as error:
        return Finding(thing, f"{folder}: {error.strerror}", "missing", remedy)


def find_java_runtime():
    """The Java that Spark would run on.

    Returns
    -------
    finding : Finding
        Missing without a Java 17 or 21.
    """
    try:
        launcher, version = java.find_java()
    except SparkneuroError as error:
        return Finding("Java", "none that Spark can use", "missing", str(error).partition("; ")[2])
    return Finding("Java", f"{version} ({launcher.parent.parent})")


def find_packages():
    """Versions of the packages of each extra, without importing the heavy ones.

    Returns
    -------
    findings : list of Finding
        Spark, Arrow, reading NIfTI, figures, and the cloud's (which nothing local needs).
    """
    return [
        assess_packages("Spark", ("pyspark", "pandas"), "spark"),
        _find_arrow(),
        assess_packages("neuroimaging", ("nibabel", "nilearn", "isal"), "neuro"),
        assess_packages("figures", ("matplotlib",), "report"),
        assess_packages("cloud", ("boto3",), "cloud", needed=False),
    ]


def assess_packages(thing, names, extra, needed=True):
    """Judge the packages that one extra brings.

    Parameters
    ----------
    thing : str
        What they are for.
    names : tuple of str
        Names of the distributions.
    extra : str
        The extra that installs them.
    needed : bool
        Whether the main job cannot do without.

    Returns
    -------
    finding : Finding
        Missing when one of them is.
    """
    versions = {name: _version_of(name) for name in names}
    absent = [name for name, version in versions.items() if version is None]
    remedy = f"pip install 'sparkneuro[{extra}]'"
    if absent:
        return Finding(thing, f"no {', '.join(absent)}", "missing", remedy, needed)
    found = ", ".join(f"{name} {version}" for name, version in versions.items())
    if "pyspark" in versions and not versions["pyspark"].startswith("4."):
        return Finding(thing, found, "short", f"pyspark 4 is needed: {remedy}", needed)
    return Finding(thing, found, needed=needed)


def find_linear_algebra():
    """The BLAS that numpy runs on, its kernel, and its rate at a matrix product.

    Returns
    -------
    findings : list of Finding
        Library, kernel, rate in float32, rate in float64.
    """
    library, kernel = blas.describe_blas()
    remedy = blas.faster_kernel(kernel, environment.processor_flags(), os.environ.get("OPENBLAS_CORETYPE"))
    rates = [
        Finding(f"matrix product, {dtype}", f"{blas.measure_gemm(dtype):.0f} GFLOP/s", needed=False)
        for dtype in ("float32", "float64")
    ]
    return [Finding("BLAS", library), Finding("BLAS kernel", kernel, "short" if remedy else "ok", remedy, needed=False), *rates]


def find_keras():
    """Keras, the backend that it runs on, and the devices that this one sees.

    Returns
    -------
    findings : list of Finding
        Keras and devices.
    """
    try:
        keras = import_module("keras")
    except ImportError as error:
        missing = getattr(error, "name", None) or "keras"
        remedy = "pip install 'sparkneuro[keras]'"
        if missing in ("jax", "torch"):
            remedy = f"pip install {missing}, or unset KERAS_BACKEND for TensorFlow"
        return [Finding("Keras", f"no {missing}", "missing", remedy)]
    backend = keras.backend.backend()
    version = _version_of(backend) or _version_of(f"{backend}-cpu") or "of unknown version"
    return [Finding("Keras", f"{keras.__version__} on {backend} {version}"), assess_devices(_list_gpus(backend), backend)]


def assess_devices(gpus, backend, nvidia=None):
    """Judge the accelerators that the Keras backend sees.

    Parameters
    ----------
    gpus : list of str
        Their names.
    backend : str
        Name of the backend.
    nvidia : bool or None
        Whether the machine has an NVIDIA driver; looked up when absent.

    Returns
    -------
    finding : Finding
        Short when there is a driver and the backend sees no GPU.
    """
    nvidia = bool(shutil.which("nvidia-smi")) if nvidia is None else nvidia
    if gpus:
        return Finding("devices", ", ".join(gpus), needed=False)
    if nvidia:
        remedy = "pip install 'tensorflow[and-cuda]'" if backend == "tensorflow" else f"install {backend} with CUDA"
        return Finding("devices", f"an NVIDIA driver, but no GPU that {backend} sees", "short", remedy, needed=False)
    return Finding("devices", "CPU only", needed=False)


def _list_gpus(backend):
    if backend == "tensorflow":
        tensorflow = import_module("tensorflow")
        gpus = tensorflow.config.list_physical_devices("GPU")
        return [tensorflow.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]
    if backend == "torch":
        cuda = import_module("torch").cuda
        return [cuda.get_device_name(number) for number in range(cuda.device_count())]
    if backend == "jax":
        return [str(device) for device in import_module("jax").devices() if device.platform != "cpu"]
    return []


def _find_arrow():
    version = _version_of("pyarrow")
    try:
        import_module("pyarrow.flight")
    except ImportError:
        found = f"pyarrow {version} without Flight" if version else "no pyarrow"
        return Finding("Arrow", found, "missing", "pip install pyarrow (the wheel of the Python index has Flight)")
    return Finding("Arrow", f"pyarrow {version} with Flight")


def _version_of(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
