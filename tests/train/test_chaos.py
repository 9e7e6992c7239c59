"""Three seeds of `chaos`; `make chaos SEEDS=30` runs more."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pyspark", reason="needs the spark extra")
pytest.importorskip("psutil", reason="needs the dev extra")


@pytest.mark.engine
@pytest.mark.timeout(900)
def test_trainings_survive_three_random_schedules_of_faults(tmp_path):
    program = [sys.executable, str(Path(__file__).with_name("chaos.py")), "--seeds", "3", "--folder", str(tmp_path)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=840, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {"seeds": 3, "first": 0, "failures": {}}
