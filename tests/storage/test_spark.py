"""Spark reads and writes tables where they are: on HDFS, in buckets by S3A, and in buckets without it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError

import copy_table
import downloads
import numpy as np
import pytest
import tables

from sparkneuro.data import store
from sparkneuro.data.voxel_table import VoxelTable

pytest.importorskip("pyspark", reason="needs the spark extra")
pytestmark = [pytest.mark.storage, pytest.mark.timeout(600)]
# The jars of S3A that can be had are older than the Hadoop of Spark: without these they do not start.
OLD_WORDS = {
    "threads.keepalivetime": 60, "connection.timeout": 200000, "connection.establish.timeout": 5000,
    "connection.request.timeout": 0, "multipart.purge.age": 86400, "assumed.role.session.duration": 1800,
    "aws.credentials.provider": "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider",
}  # fmt: skip


@pytest.fixture
def s3a(request, tmp_path):
    """A configuration of Spark with S3A on its classpath."""
    try:
        jars = sorted(map(str, downloads.fetch(downloads.S3A).glob("*.jar")))
    except (URLError, OSError) as error:
        pytest.skip(f"the jars of S3A cannot be had here: {error}")
    words = OLD_WORDS if request.node.callspec.params["jars"] == "S3A" else {}
    lines = ["spark.jars " + ",".join(jars), *(f"spark.hadoop.fs.s3a.{name} {value}" for name, value in words.items())]
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "spark-defaults.conf").write_text("\n".join(lines))
    return {"SPARK_CONF_DIR": str(tmp_path / "conf")}


@pytest.mark.parametrize(
    ("server", "jars", "scheme"),
    [("moto", "", None), ("moto", "S3A of another Hadoop", None), ("seaweed", "S3A", "s3a"), ("hdfs", "", "hdfs")],
)
def test_a_table_is_copied_where_it_is(request, ask, tmp_path, server, jars, scheme):
    folder = store.join(ask(request.getfixturevalue(server)), "a study")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    environment |= request.getfixturevalue("s3a") if jars else {}
    (tmp_path / "near").mkdir()
    planted = tables.plant(tmp_path / "near", subjects=("01", "02"))
    for name in store.list_files(planted.table.path, recursive=True):
        store.write_bytes(store.join(folder, "t.voxels", name), store.read_bytes(store.join(planted.table.path, name)))
    words = [sys.executable, copy_table.__file__, store.join(folder, "t.voxels"), store.join(folder, "copy.voxels")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-4000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["uri"] or "").partition(":")[0] == (scheme or "")
    assert told["partitions"] == len(planted.table.runs) * planted.table.n_blocks and told["rows of one"] == 4 * 17
    copy = VoxelTable.open(store.join(folder, "copy.voxels"))
    for run in copy.runs:
        for block in range(copy.n_blocks):
            for part, wanted in zip(copy.read_block(run, block), planted.table.read_block(run, block), strict=True):
                np.testing.assert_array_equal(part, wanted)
