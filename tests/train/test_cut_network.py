"""A machine whose network is cut while it trains, and comes back when another has taken its place."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pyspark", reason="needs the spark extra")
pytest.importorskip("psutil", reason="needs the dev extra")


def may_make_networks():
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    return (
        subprocess.run(
            ["unshare", "--net", "ip", "link", "add", "sna", "type", "veth", "peer", "name", "snb"], capture_output=True
        ).returncode
        == 0
    )


@pytest.mark.engine
@pytest.mark.timeout(400)
def test_a_machine_that_is_cut_off_and_comes_back_leaves_every_batch_applied_once(tmp_path):
    if not may_make_networks():
        pytest.skip("making a network needs root, and Linux's ip with veth")
    program = [sys.executable, str(Path(__file__).with_name("cut_network.py")), str(tmp_path)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=360, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["complaints"] == [] and answer["attempts"] >= 3
