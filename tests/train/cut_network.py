"""Program of `test_cut_network`: a standalone cluster with one machine in a network namespace, whose link is cut and mended.

Needs root, and Linux's ``ip``. Prints one JSON object.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyspark

from sparkneuro.java import find_java
from sparkneuro.session import start_session, stop_session

sys.path.insert(0, str(Path(__file__).parent))

NAME = f"sn{os.getpid() % 100000}"
HERE, THERE = f"10.231.{os.getpid() % 250}.1", f"10.231.{os.getpid() % 250}.2"
CUT_S = 14.0


def ip(*words):
    """Run ``ip``."""
    subprocess.run(["ip", *words], check=True)


@contextmanager
def other_machine():
    """A network namespace with a link to this one."""
    ip("netns", "add", NAME)
    try:
        ip("link", "add", f"{NAME}a", "type", "veth", "peer", "name", f"{NAME}b")
        ip("link", "set", f"{NAME}b", "netns", NAME)
        ip("addr", "add", f"{HERE}/24", "dev", f"{NAME}a")
        ip("link", "set", f"{NAME}a", "up")
        inside = ["netns", "exec", NAME, "ip"]
        ip(*inside, "addr", "add", f"{THERE}/24", "dev", f"{NAME}b")
        ip(*inside, "link", "set", f"{NAME}b", "up")
        ip(*inside, "link", "set", "lo", "up")
        yield
    finally:
        ip("netns", "delete", NAME)  # the link goes with it


@contextmanager
def spark_class(name, *words, before=()):
    """A process of Spark's own cluster manager."""
    program = Path(pyspark.__file__).parent / "bin" / "spark-class"
    options = {"SPARK_HOME": str(program.parents[1]), "SPARK_DAEMON_JAVA_OPTS": "-Dspark.master.rest.enabled=false"}
    command = [*before, str(program), f"org.apache.spark.deploy.{name}", *words]
    process = subprocess.Popen(command, env={**os.environ, **options}, stdout=sys.stderr, stderr=sys.stderr)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def wait_for_workers(port, n_workers):
    """Wait until so many workers have registered with the master."""
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with opener.open(f"http://{HERE}:{port}/json/", timeout=5) as answer:
                if len([w for w in json.load(answer)["workers"] if w["state"] == "ALIVE"]) == n_workers:
                    return
        except OSError:
            pass
        time.sleep(0.3)
    raise TimeoutError("the standalone cluster did not come up")


def free_port():
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        return probe.getsockname()[1]


def cut_link(training):
    """Cut the other machine off, and mend the link after a while."""
    ip("link", "set", f"{NAME}a", "down")
    threading.Timer(CUT_S, ip, ["link", "set", f"{NAME}a", "up"]).start()


def main():
    """Train on two machines, one of which is cut off."""
    folder = tempfile.mkdtemp(dir=sys.argv[1])
    java, _ = find_java()
    os.environ["JAVA_HOME"] = str(Path(java).parents[1])
    with ExitStack() as stack:
        stack.enter_context(other_machine())
        port, web = free_port(), free_port()
        stack.enter_context(spark_class("master.Master", "--host", HERE, "--port", str(port), "--webui-port", str(web)))
        machine = ("--cores", "1", "--memory", "1g", "--webui-port", "0", "--work-dir")
        master = f"spark://{HERE}:{port}"
        for number, before in ((1, []), (2, ["ip", "netns", "exec", NAME])):
            words = ("--host", (HERE, THERE)[number - 1], *machine, f"{folder}/work{number}", master)
            stack.enter_context(spark_class("worker.Worker", *words, before=before))
        wait_for_workers(web, 2)
        print(json.dumps(train(master, folder)))


def train(master, folder):
    """Train while the link is cut, and say what does not hold."""
    config = {
        "spark.driver.host": HERE, "spark.driver.bindAddress": HERE, "spark.executor.memory": "512m",
        "spark.executor.heartbeatInterval": "2s", "spark.network.timeout": "10s", "spark.network.timeoutInterval": "2s",
        "spark.task.maxFailures": "8",
    }  # fmt: skip
    spark = start_session(master, "cut network", config=config)
    try:
        import faults
        import pyarrow as pa
        from pyspark import cloudpickle

        cloudpickle.register_pickle_by_value(faults)
        series = faults.make_series(46)
        halves = [spark.createDataFrame(pa.table({"series": list(half)})).coalesce(1) for half in (series[:23], series[23:])]
        rows = halves[0].union(halves[1])
        while spark.sparkContext.defaultParallelism < 2:  # both executors have come
            time.sleep(0.2)
        result = faults.train(spark, rows, folder, [(0.3, cut_link)], step_s=0.3, call_s=6.0)
    finally:
        stop_session(spark)
    return {
        "complaints": faults.complaints(result, series),
        **{key: result[key] for key in ("versions", "attempts", "retrained", "seconds")},
    }


if __name__ == "__main__":
    main()
