"""A stand-in for Docker's daemon, as a thread: runs containers as children of the tests' process, not of their clients."""

import json
import os
import socket
import subprocess
import threading


class Dockerd:
    """Serves the stand-in `docker` until it is closed.

    Parameters
    ----------
    address : str
        Path of its socket.
    """

    def __init__(self, address):
        self.containers = {}
        self.address = address
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(address)
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection:
            message, files, _, _ = socket.recv_fds(connection, 1 << 16, 4)
            request = json.loads(message)
            if "signal" in request:
                container = self.containers.get(request["name"])
                known = container is not None and container.poll() is None
                if known:
                    container.send_signal(request["signal"])
                connection.sendall(b"0" if known else b"1")
                return
            container = subprocess.Popen(
                request["run"], env=request["env"], cwd=request["cwd"], stdout=files[0], stderr=files[1], start_new_session=True
            )
            self.containers[request["name"]] = container
            for file in files:
                os.close(file)
            code = container.wait()
            try:
                connection.sendall(str(128 - code if code < 0 else code).encode())
            except OSError:
                pass  # the client has gone

    def close(self):
        """Stop serving, and every container."""
        # A thread that waits in accept() is only woken by a shutdown.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for container in self.containers.values():
            container.kill()
            container.wait()
        os.unlink(self.address)
