"""The process of one parameter server: ``python -m sparkneuro.train.server_process``, started by `server_group`.

It reads one line of JSON from standard input (address, token, sizes), prints one line with its port, and serves until
it is told to stop or standard input ends, which happens however the parent dies: no server outlives its run. The token
comes by standard input because arguments and environments can be read by other users of a machine.
"""

import json
import signal
import sys
import threading

from sparkneuro.train.parameter_server import ParameterServer, ServerSettings
from sparkneuro.train.transport import FlightParameterServer


def main():
    """Serve one shard until told to stop, or until the parent is gone."""
    # Ctrl-C reaches every process of the terminal; the parent stops its servers when it has stopped the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    request = json.loads(sys.stdin.readline())
    server = FlightParameterServer(ParameterServer(ServerSettings(**request["settings"])), request["host"], request["token"])
    sys.stdout.write(json.dumps({"port": server.port}) + "\n")
    sys.stdout.flush()
    threading.Thread(target=_stop_with_parent, args=(server,), daemon=True).start()
    server.serve()


def _stop_with_parent(server):
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main()
