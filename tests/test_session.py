"""The Spark session: its properties, the environment of its workers, and what becomes of an error."""

import errno
import os
import subprocess
import sys
import textwrap
from functools import partial

import pytest

from sparkneuro import session
from sparkneuro.environment import available_cores
from sparkneuro.errors import FormatError, MissingExtraError, SettingsError, StorageError, TrainingError

NO_CONFIG = {"master": None, "app_name": "a-test", "cores_per_task": 1, "config": None, "submitted": {}}


@pytest.fixture
def plain_environment(monkeypatch):
    """No variable of the user that names a master."""
    for name in ("SPARK_MASTER", "PYSPARK_GATEWAY_PORT", "SPARK_LOCAL_DIRS", "SPARK_CONF_DIR", "SPARK_HOME"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def configuration(**changes):
    return session.spark_configuration(**{**NO_CONFIG, **changes})


def test_all_cores_of_this_machine_are_the_default_master(plain_environment):
    assert configuration()["spark.master"] == f"local[{available_cores()}]"


def test_the_environment_names_the_master_where_the_caller_does_not(plain_environment):
    plain_environment.setenv("SPARK_MASTER", "spark://there:7077")
    assert configuration()["spark.master"] == "spark://there:7077"
    assert configuration(master="local[3]")["spark.master"] == "local[3]"


def test_spark_submit_keeps_its_master_and_its_properties(plain_environment):
    plain_environment.setenv("PYSPARK_GATEWAY_PORT", "1")
    plain_environment.setenv("SPARK_MASTER", "spark://elsewhere:7077")
    submitted = {"spark.master": "yarn", "spark.speculation": "true", "spark.app.name": "given"}
    properties = configuration(submitted=submitted)
    assert (properties["spark.master"], properties["spark.app.name"]) == ("yarn", "given")
    assert properties["spark.speculation"] == "true"


def test_a_cluster_master_is_not_bound_to_the_loopback_address(plain_environment):
    assert "spark.driver.host" not in configuration(master="spark://there:7077")
    assert configuration(master="local-cluster[2,1,1024]")["spark.driver.host"] == "127.0.0.1"


def test_the_callers_properties_win(plain_environment):
    properties = configuration(config={"spark.ui.enabled": "true"}, submitted={"spark.ui.enabled": "false"})
    assert properties["spark.ui.enabled"] == "true"


def test_workers_take_as_many_threads_as_their_task_has_cores(plain_environment):
    properties = configuration(cores_per_task=3)
    assert properties["spark.task.cpus"] == "3"
    assert properties["spark.executorEnv.OPENBLAS_NUM_THREADS"] == "3"
    assert properties["spark.executorEnv.TF_NUM_INTRAOP_THREADS"] == "3"


def test_spark_defaults_are_read(plain_environment, tmp_path):
    (tmp_path / "spark-defaults.conf").write_text("# a comment\nspark.master   yarn\nspark.ui.port=4050\n\n")
    plain_environment.setenv("SPARK_CONF_DIR", str(tmp_path))
    assert session._submitted_properties(None) == {"spark.master": "yarn", "spark.ui.port": "4050"}


def test_cores_per_task_is_checked():
    with pytest.raises(SettingsError, match="cores_per_task must be a whole number of at least 1; got 0"):
        session.start_session(cores_per_task=0)


def test_preparing_the_environment_keeps_what_the_user_has_set(monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    monkeypatch.delenv("GRPC_VERBOSITY", raising=False)
    session.prepare_environment()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    assert os.environ["GRPC_VERBOSITY"] == "ERROR"


def test_the_openblas_kernel_is_left_to_openblas(monkeypatch):
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    session.prepare_environment()
    assert "OPENBLAS_CORETYPE" not in os.environ


def test_the_error_of_a_task_is_found_in_sparks_text():
    text = (
        "An exception was thrown from the Python worker.\nTraceback (most recent call last):\n"
        '  File "x.py", line 3, in f\nsparkneuro.errors.FormatError: a.nii: first\n\n'
        "During handling of the above exception, another exception occurred:\n"
        "sparkneuro.errors.TrainingError: the parameter server is gone.\n\n\tat org.apache.spark.Task.run"
    )
    error = session.readable_error(RuntimeError(text))
    assert isinstance(error, TrainingError)
    assert str(error) == "the parameter server is gone."


def test_a_full_disk_is_said_as_such():
    error = session.readable_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/t.voxels"))
    assert isinstance(error, StorageError)
    assert "the disk is full while writing /data/t.voxels" in str(error)
    assert "disk is full" in str(session.readable_error(RuntimeError("java.io.IOException: No space left on device")))


def test_workers_without_sparkneuro_are_told_apart():
    error = session.readable_error(RuntimeError("ModuleNotFoundError: No module named 'sparkneuro'"))
    assert isinstance(error, MissingExtraError)


def test_a_defect_stays_a_defect():
    assert session.readable_error(KeyError("x")) is None


def describe_worker(_, variables):
    """What a Python worker sees: its BLAS, and some of its environment."""
    import numpy  # noqa: F401  (loads the BLAS)
    import threadpoolctl

    blas = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    kernels = sorted({pool.get("architecture") for pool in blas})
    return [(kernels, sorted({pool["num_threads"] for pool in blas}), [os.environ.get(name) for name in variables])]


def raise_format_error(_):
    raise FormatError("a.nii.gz: the file ends too early.")


BLAS_OF_A_FRESH_PROCESS = (
    "import numpy, threadpoolctl\n"
    "print(sorted({p.get('architecture') for p in threadpoolctl.threadpool_info() if p['user_api'] == 'blas'}))"
)


@pytest.mark.engine
def test_a_worker_runs_the_blas_kernel_of_its_processor_on_its_tasks_threads(spark):
    oracle = subprocess.run([sys.executable, "-c", BLAS_OF_A_FRESH_PROCESS], capture_output=True, text=True, check=True)
    variables = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    seen = spark.sparkContext.parallelize(range(2), 2).mapPartitions(partial(describe_worker, variables=variables)).collect()
    assert len(seen) == 2
    for kernels, threads, values in seen:
        assert str(kernels) == oracle.stdout.strip()
        assert threads == [1]
        assert values == ["1", "1", "1"]


@pytest.mark.engine
def test_an_error_in_a_task_reaches_the_driver_as_its_sentence(spark):
    with pytest.raises(Exception, match="the file ends too early") as caught:
        spark.sparkContext.parallelize(range(1), 1).mapPartitions(raise_format_error).collect()
    error = session.readable_error(caught.value)
    assert isinstance(error, FormatError)
    assert str(error) == "a.nii.gz: the file ends too early."


@pytest.mark.engine
def test_an_active_session_is_joined(spark):
    assert session.start_session(master="local[1]").sparkContext is spark.sparkContext


@pytest.mark.engine
def test_starting_spark_leaves_the_environment_of_the_next_one_alone(spark):
    assert "-Dlog4j2.configurationFile" in spark._jvm.System.getenv("SPARK_SUBMIT_OPTS")
    assert "log4j2" not in os.environ.get("SPARK_SUBMIT_OPTS", "")
    assert spark._jvm.System.getenv("SPARK_LOCAL_IP") == "127.0.0.1"


def run_program(program, **environment):
    """Run a driver program in a process of its own."""
    kept = {name: value for name, value in os.environ.items() if name not in ("SPARK_SUBMIT_OPTS", "PYSPARK_GATEWAY_PORT")}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True, text=True, timeout=180, env={**kept, **environment}, stdin=subprocess.DEVNULL,
    )


TWO_EXECUTORS = """
    import os
    from sparkneuro.session import start_session, stop_session
    def describe(_):
        import numpy, threadpoolctl
        blas = [p for p in threadpoolctl.threadpool_info() if p["user_api"] == "blas"]
        yield os.getppid(), max(p["num_threads"] for p in blas), os.environ["OPENBLAS_CORETYPE"]
    spark = start_session(master="local-cluster[2,1,1024]")
    found = set()
    for _ in range(20):  # the second executor may register after the first tasks have run
        found |= set(spark.sparkContext.parallelize(range(8), 8).mapPartitions(describe).collect())
        if len({row[0] for row in found}) == 2:
            break
    print(sorted({row[1:] for row in found}), len({row[0] for row in found}))
    stop_session(spark)
"""


@pytest.mark.engine
def test_two_executor_processes_get_the_environment_too():
    answer = run_program(TWO_EXECUTORS, OPENBLAS_CORETYPE="Haswell")
    assert answer.stdout.strip() == "[(1, 'Haswell')] 2", answer.stderr


@pytest.mark.engine
def test_starting_and_stopping_spark_says_nothing():
    answer = run_program("""
        from sparkneuro.session import start_session, stop_session
        spark = start_session(master="local[1]")
        assert spark.range(3).count() == 3
        stop_session(spark)
    """)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


@pytest.mark.engine
def test_a_master_that_does_not_answer_is_one_sentence():
    answer = run_program("""
        from sparkneuro.errors import SettingsError
        from sparkneuro.session import start_session
        try:
            start_session(master="nonsense://x")
        except SettingsError as error:
            print(error)
    """)
    assert answer.stdout.startswith("Spark did not start on nonsense://x: "), answer.stderr
    assert answer.stdout.count("\n") == 1


def test_a_jvm_that_has_ended_is_one_sentence():
    from py4j.protocol import Py4JNetworkError

    assert "Spark's JVM has ended" in str(session.readable_error(Py4JNetworkError("no answer")))
    assert session.readable_error(ConnectionRefusedError(111, "Connection refused")) is None  # of another server
