"""What a process may use of its machine, and the variables that tell the numerical libraries so.

Nothing here imports numpy, TensorFlow or pyspark: these libraries read their variables when they are loaded, so whoever calls
`prepare_environment` first must not have loaded them on the way.
"""

import os
import shutil
from pathlib import Path

from sparkneuro.quiet_import import import_tensorflow_quietly

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
)

# A process that exchanges a model's vector allocates blocks of its size each time. By default glibc gives such blocks back to the
# system at once and has every page of the next ones cleared: a quarter of an exchange's time. These keep them.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 28), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}

# A worker that the user has told which kernels or which backend to take must be told the same as the driver.
# So must one that reads the same bucket: Spark hands the driver's keys to S3A too, and hides them where it shows settings.
FORWARDED_VARIABLES = (
    "OPENBLAS_CORETYPE", "KERAS_BACKEND", "TF_ENABLE_ONEDNN_OPTS", "TF_CPP_MIN_LOG_LEVEL", "SPARKNEURO_LOG",
    "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN", "SPARKNEURO_S3_ANONYMOUS", "HADOOP_USER_NAME",
)  # fmt: skip


def prepare_environment():
    """Set what must stand before numpy, TensorFlow or pyspark are loaded.

    Only what the user has not set. The BLAS kernel is left to OpenBLAS, which recognises the processor by itself; a variable that
    holds it back (``OPENBLAS_CORETYPE``) is the user's, and `sparkneuro doctor` names it.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    import_tensorflow_quietly()


def executor_environment(n_threads):
    """Variables of every Python worker on the executors.

    Parameters
    ----------
    n_threads : int
        Cores of one task; its BLAS and TensorFlow take so many threads, never more.

    Returns
    -------
    variables : dict of str to str
        Names and values.

    Examples
    --------
    >>> executor_environment(2)["OPENBLAS_NUM_THREADS"]
    '2'
    """
    threads = dict.fromkeys(THREAD_VARIABLES, str(n_threads))
    forwarded = {name: os.environ[name] for name in FORWARDED_VARIABLES if name in os.environ}
    return {**threads, "TF_NUM_INTEROP_THREADS": "1", **KEEP_MEMORY, **forwarded}


def available_cores():
    """Number of cores that this process may use.

    The processor's, less what an affinity mask or a container's quota takes away.

    Returns
    -------
    n_cores : int
        At least 1.
    """
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    if quota.isdigit() and period.strip().isdigit():
        n_cores = min(n_cores, int(quota) // int(period))
    return max(1, n_cores)


def available_memory():
    """Memory that this process may use, in bytes.

    Returns
    -------
    n_bytes : int
        The machine's physical memory, or a container's limit where that is less.
    """
    n_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _read("/sys/fs/cgroup/memory.max").strip()
    return min(n_bytes, int(limit)) if limit.isdigit() else n_bytes


def is_spark_local():
    """Tell whether Spark's tasks will run on this machine, as far as the environment says.

    Returns
    -------
    local : bool
        False under ``spark-submit``, with a master elsewhere, or where a configuration of Spark may name one.
    """
    elsewhere = ("PYSPARK_GATEWAY_PORT", "SPARK_CONF_DIR", "SPARK_HOME")
    return os.environ.get("SPARK_MASTER", "local").startswith("local[") or (
        "SPARK_MASTER" not in os.environ and not any(name in os.environ for name in elsewhere)
    )


def free_disk(path):
    """Free bytes of the filesystem that a path is on, or will be.

    Parameters
    ----------
    path : str
        Plain path; it need not exist.

    Returns
    -------
    n_bytes : int
        What a process of this user may still write.
    """
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def processor_flags(cpuinfo=None):
    """Instruction sets of this machine's processor.

    Parameters
    ----------
    cpuinfo : str or None
        Text of ``/proc/cpuinfo``; this machine's when absent.

    Returns
    -------
    flags : frozenset of str
        E.g. ``avx2``, ``avx512f``; empty where the system does not tell.

    Examples
    --------
    >>> sorted(processor_flags("processor : 0\\nflags\\t\\t: sse2 avx2\\n"))
    ['avx2', 'sse2']
    """
    text = _read("/proc/cpuinfo") if cpuinfo is None else cpuinfo
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            return frozenset(value.split())
    return frozenset()


def _read(path):
    try:
        return Path(path).read_text()
    except OSError:
        return ""
