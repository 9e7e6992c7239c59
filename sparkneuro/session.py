"""The Spark session: the only place that builds one, on a laptop or a cluster.

What the user, ``spark-submit`` or ``spark-defaults.conf`` has set is kept; `spark_configuration` fills in the rest.
"""

import logging
import os
import re
import shlex
import sys
import tempfile
import traceback
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from sparkneuro import errors
from sparkneuro.environment import available_cores, available_memory, executor_environment, prepare_environment
from sparkneuro.errors import MissingExtraError, SettingsError, SparkneuroError, StorageError, require
from sparkneuro.java import find_java, use_java
from sparkneuro.validation import check_number

__all__ = ["prepare_environment", "readable_error", "spark_configuration", "start_session", "stop_session"]

logger = logging.getLogger(__name__)

FULL_DISK = re.compile(r"(?:No space left on device|Disk quota exceeded)(?:[^\n]*?: '(?P<path>[^'\n]+)')?")
ERROR_LINE = re.compile(r"^\s*(?:\S+: )?sparkneuro\.errors\.(?P<name>\w+): (?P<message>[^\n]+)", re.MULTILINE)


def start_session(master=None, app_name="sparkneuro", cores_per_task=1, config=None):
    """Start Spark, or join the session that is already active.

    Parameters
    ----------
    master : str or None
        Spark master URL. When absent: that of ``spark-submit``, else ``$SPARK_MASTER``, else that of
        ``spark-defaults.conf``, else ``local[cores]``.
    app_name : str
        Name shown in Spark's own pages.
    cores_per_task : int
        Cores, and so BLAS and TensorFlow threads, of one task.
    config : dict of str to str or None
        Further Spark properties; these win over everything else.

    Returns
    -------
    spark : pyspark.sql.SparkSession
        The session. An active one is returned as it is.

    Raises
    ------
    MissingExtraError
        Without pyspark, or without a Java 17 or 21.
    SettingsError
        When Spark refuses the settings or cannot reach the master.
    """
    check_number("cores_per_task", cores_per_task, minimum=1, integer=True)
    prepare_environment()
    sql = require("pyspark.sql", "spark")
    context_class = require("pyspark", "spark").SparkContext
    if context_class._active_spark_context is not None:
        return sql.SparkSession.builder.getOrCreate()
    submitted = _submitted_properties(context_class)
    properties = spark_configuration(master, app_name, cores_per_task, config, submitted)
    os.environ.setdefault("PYSPARK_PYTHON", properties.get("spark.pyspark.python", sys.executable))
    builder = sql.SparkSession.builder
    for name, value in properties.items():
        builder = builder.config(name, value)
    launches = "PYSPARK_GATEWAY_PORT" not in os.environ and context_class._gateway is None
    try:
        with _environment_of_jvm(properties["spark.master"]) if launches else nullcontext():
            spark = builder.getOrCreate()
    except SparkneuroError:
        raise
    except Exception as error:  # Spark reports by many types; the user is told what it says, in one sentence.
        raise SettingsError(f"Spark did not start on {properties['spark.master']}: {_first_cause(error)}") from error
    logger.info("Spark %s on %s", spark.version, properties["spark.master"])
    return spark


def stop_session(spark):
    """Stop Spark and the JVM that `start_session` launched, and wait for its end.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
        The session. Under ``spark-submit`` the JVM is not ours and stays.
    """
    gateway = spark.sparkContext._gateway
    process = getattr(gateway, "proc", None)
    context_class = require("pyspark", "spark").SparkContext
    try:
        if process is not None and "SPARKNEURO_LOG" not in os.environ:
            spark.sparkContext.setLogLevel("OFF")  # tasks that an interrupt has cut short complain while Spark stops
        spark.stop()
    except (OSError, require("py4j.protocol", "spark").Py4JError) as error:
        # A signal to the whole process group ends the JVM too, and before us: then there is nothing left to stop.
        if process is None:
            raise
        logger.info("the JVM had ended already: %s", error.__class__.__name__)
        context_class._active_spark_context = None
        process.terminate()
    if process is None:
        return
    with suppress(OSError):
        gateway.shutdown()
        process.stdin.close()
    process.wait()
    context_class._gateway = context_class._jvm = None


def spark_configuration(master, app_name, cores_per_task, config, submitted):
    """Work out the properties of a session.

    Parameters
    ----------
    master : str or None
        Master that the caller asks for.
    app_name : str
        Name of the application.
    cores_per_task : int
        Cores of one task.
    config : dict of str to str or None
        Properties that win over everything.
    submitted : dict of str to str
        What ``spark-submit`` or ``spark-defaults.conf`` says; it wins over our defaults.

    Returns
    -------
    properties : dict of str to str
        To be set on the session's builder.
    """
    config = {name: str(value) for name, value in (config or {}).items()}
    under_submit = "PYSPARK_GATEWAY_PORT" in os.environ
    chosen = [config.get("spark.master"), master, os.environ.get("SPARK_MASTER"), submitted.get("spark.master")]
    if under_submit:
        chosen = [config.get("spark.master"), master, submitted.get("spark.master"), os.environ.get("SPARK_MASTER")]
    master = next(filter(None, chosen), f"local[{available_cores()}]")
    defaults = {
        "spark.app.name": app_name,
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.speculation": "false",
        "spark.task.cpus": str(cores_per_task),
        "spark.python.worker.reuse": "true",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        # One block of a voxel table, so that a batch is at most some tens of megabytes.
        "spark.sql.execution.arrow.maxRecordsPerBatch": "4096",
    }
    defaults |= {f"spark.executorEnv.{name}": value for name, value in executor_environment(cores_per_task).items()}
    if is_local(master):
        # A laptop without network, or with a name that resolves nowhere, still reaches itself.
        defaults |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
        if Path(__file__).is_file():  # not within an archive that spark-submit ships
            defaults["spark.python.daemon.module"] = "sparkneuro.worker_daemon"
        if "SPARK_LOCAL_DIRS" not in os.environ:
            defaults["spark.local.dir"] = tempfile.gettempdir()
    kept = {name: value for name, value in submitted.items() if name in defaults}
    return {**defaults, **kept, **config, "spark.master": master}


def is_local(master):
    """Whether a master URL stands for this machine alone.

    Parameters
    ----------
    master : str
        Spark master URL.

    Returns
    -------
    local : bool
        True for ``local``, ``local[2]``, ``local-cluster[2,1,1024]``.

    Examples
    --------
    >>> is_local("local-cluster[2,1,1024]"), is_local("yarn")
    (True, False)
    """
    return master.startswith("local")


def readable_error(exception):
    """Find the one sentence that a user can act on in an exception of Spark, a task or the system.

    Parameters
    ----------
    exception : BaseException
        What was raised on the driver.

    Returns
    -------
    error : SparkneuroError or None
        With the type and message that a task raised, or a full disk said as such; None when it is something else.
    """
    if isinstance(exception, SparkneuroError):
        return exception
    # The text of py4j's errors leaves out the cause, where Spark says what became of a task.
    try:
        text = f"{exception} {getattr(exception, 'java_exception', '')}"
    except Exception:  # an error of the JVM, which has ended and cannot tell its text any more
        text = ""
    refused = isinstance(exception, ConnectionRefusedError) and "/py4j/" in "".join(traceback.format_tb(exception.__traceback__))
    if type(exception).__name__ == "Py4JNetworkError" or refused:
        remedy = "run the command again, with more memory for it (SPARK_DRIVER_MEMORY) if it was killed for want of that"
        return SparkneuroError(f"Spark's JVM has ended; {remedy}.")
    raised = list(ERROR_LINE.finditer(text))
    if raised:
        kind = getattr(errors, raised[-1]["name"], SparkneuroError)
        return kind(raised[-1]["message"].strip())
    full = FULL_DISK.search(text)
    if full:
        place = full["path"] or getattr(exception, "filename", None)
        where = f" while writing {place}" if place else ""
        return StorageError(f"the disk is full{where}; free some space, or choose another folder (TMPDIR for temporary files).")
    if isinstance(exception, PermissionError) and exception.filename:
        return StorageError(f"{exception.filename}: permission denied.")
    if "Python worker exited unexpectedly" in text or "Python worker process terminated" in text:
        return SparkneuroError(
            "a Python worker of Spark died, killed or out of memory; use fewer of them (SPARK_MASTER='local[1]', --workers), or a"
            " machine with more memory, and run the command again."
        )
    if re.search(r"No module named '?sparkneuro\b", text):
        return MissingExtraError("the executors' Python has no sparkneuro; install it there, or name another in PYSPARK_PYTHON.")
    return None


def _submitted_properties(context_class):
    """What the user has set outside of our code: in the JVM of spark-submit, or in spark-defaults.conf."""
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        context_class._ensure_initialized()
        return dict(require("pyspark", "spark").SparkConf().getAll())
    folder = os.environ.get("SPARK_CONF_DIR") or os.path.join(os.environ.get("SPARK_HOME", ""), "conf")
    path = Path(folder) / "spark-defaults.conf"
    properties = {}
    for line in path.read_text().splitlines() if path.is_file() else ():
        found = re.match(r"\s*(spark\.[^\s=:]+)\s*[\s=:]\s*(.*?)\s*$", line)
        if found:
            properties[found[1]] = found[2]
    return properties


@contextmanager
def _environment_of_jvm(master):
    """Set what must stand while the JVM is started: its Java, memory, address and how much it says. The next may differ."""
    java, version = find_java()
    logger.info("Java %d: %s", version, java)
    options = os.environ.get("SPARK_SUBMIT_OPTS", "")
    names = ("JAVA_HOME", "SPARK_DRIVER_MEMORY", "SPARK_LOCAL_IP", "SPARK_SUBMIT_OPTS")
    before = {name: os.environ.get(name) for name in names}
    try:
        use_java(java)
        if is_local(master):
            # Local tasks run in the driver's JVM: a quarter of the memory, the rest for the Python workers beside it.
            n_gigabytes = max(1, min(8, available_memory() // 4 // 2**30))
            os.environ.setdefault("SPARK_DRIVER_MEMORY", f"{n_gigabytes}g")
            os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        quiet = Path(__file__).with_name("log4j2.properties")
        if quiet.is_file() and "log4j2.configurationFile" not in options:
            os.environ["SPARK_SUBMIT_OPTS"] = f"{options} -Dlog4j2.configurationFile={shlex.quote(quiet.as_uri())}".strip()
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _first_cause(error):
    """The innermost message of an exception of the JVM, in one line."""
    causes = re.findall(r"^(?:Caused by: |: )?[\w.$]+(?:Exception|Error): ([^\n]+)", str(error), re.MULTILINE)
    return (causes[-1] if causes else str(error).partition("\n")[0]).strip().rstrip(".") + "."
