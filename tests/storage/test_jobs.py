"""Whole jobs whose inputs and outputs are far away: they give what they give on a disk, and go on where they were ended."""

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import tables

from sparkneuro.data import spark as data_spark
from sparkneuro.data import store
from sparkneuro.data.samples import write_synthetic
from sparkneuro.data.storage import s3, s3_upload
from sparkneuro.data.voxel_table import VoxelTable
from sparkneuro.encoding.encoder_settings import EncoderSettings
from sparkneuro.encoding.fit_encoder import fit_encoder
from sparkneuro.errors import SparkneuroError, StorageError
from sparkneuro.pipelines import ingest, ingest_task
from sparkneuro.pipelines.ingest import Settings

FAR_STORAGES = [
    pytest.param("moto", marks=pytest.mark.processes),
    pytest.param("seaweed", marks=pytest.mark.storage),
    pytest.param("hdfs", marks=pytest.mark.storage),
]


@pytest.fixture(params=FAR_STORAGES)
def far(request, ask):
    """A folder that is not there yet, on each kind of storage that is not a disk."""
    return ask(request.getfixturevalue(request.param))


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """Two subjects of the synthetic sample, 40 scans each, on a disk."""
    folder = tmp_path_factory.mktemp("sample") / "s"
    write_synthetic(str(folder), n_subjects=2, n_scans=40)
    shutil.rmtree(folder / "derivatives")
    return str(folder)


@pytest.fixture(scope="module")
def near(sample, tmp_path_factory):
    """The voxel table of the sample, on a disk."""
    path = str(tmp_path_factory.mktemp("near") / "t.voxels")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_spark, "run_jobs", run_jobs)
        ingest.run(Settings((sample,), output=path, block_size=1000), None)
    return VoxelTable.open(path)


def run_jobs(spark, function, jobs):
    """Call the tasks in this process."""
    results, failures = [], []
    for job in json.loads(json.dumps(jobs)):
        try:
            results.append(function(job))
        except SparkneuroError as error:
            failures.append(error)
    return results, failures


@pytest.fixture(autouse=True)
def no_spark(monkeypatch):
    """Tasks run in this process."""
    monkeypatch.setattr(data_spark, "run_jobs", run_jobs)


def copy_folder(source, target):
    for name in store.list_files(source, recursive=True):
        store.write_bytes(store.join(target, name), store.read_bytes(store.join(source, name)))


def assert_same_rows(table, expected):
    for run, other in zip(table.runs, expected.runs, strict=True):
        assert run.sha256 == other.sha256 and run.n_voxels == other.n_voxels
        for block in range(expected.n_blocks):
            for part, wanted in zip(table.read_block(run, block), expected.read_block(other, block), strict=True):
                np.testing.assert_array_equal(part, wanted)


def test_an_ingest_gives_what_it_gives_on_a_disk_and_then_nothing_is_missing(far, sample, near):
    bids, output = store.join(far, "my bids"), store.join(far, "t.voxels")
    copy_folder(sample, bids)
    settings = Settings((bids,), output=output, block_size=1000)
    assert ingest.needs_spark(settings)
    ingest.run(settings, None)
    assert_same_rows(VoxelTable.open(output), near)
    before = {name: store.stat(store.join(output, name)) for name in store.list_files(output, recursive=True)}
    assert not ingest.needs_spark(settings)
    assert "nothing is missing" in ingest.run(settings, None)
    assert before == {name: store.stat(store.join(output, name)) for name in store.list_files(output, recursive=True)}


def test_an_ingest_that_was_killed_goes_on(far, sample, near, monkeypatch):
    settings, done = Settings((sample,), output=store.join(far, "t.voxels"), block_size=1000), []
    ingest_run = ingest_task.ingest_run

    def die_at_the_second(job):
        if done:
            raise SystemExit
        done.append(job["source"]["subject"])
        return ingest_run(job)

    monkeypatch.setattr(ingest_task, "ingest_run", die_at_the_second)
    with pytest.raises(SystemExit):
        ingest.run(settings, None)
    monkeypatch.setattr(ingest_task, "ingest_run", lambda job: done.append(job["source"]["subject"]) or ingest_run(job))
    ingest.run(settings, None)
    assert sorted(done) == ["01", "02"]
    assert_same_rows(VoxelTable.open(settings.output), near)


@pytest.mark.parametrize("name", FAR_STORAGES[:2])
def test_an_ingest_whose_server_dies_says_so_and_goes_on_when_it_is_back(request, ask, name, sample, near, monkeypatch):
    monkeypatch.setattr(s3, "TRIES", 1)
    monkeypatch.setattr(s3_upload, "CONNECT_S", 1)
    s3._open_bucket.cache_clear()
    server = request.getfixturevalue(name)
    settings = Settings((sample,), output=store.join(ask(server), "t.voxels"), block_size=1000)
    ingest_run, done = ingest_task.ingest_run, []

    def outlive_the_server(job):
        if done:
            server.kill()
        done.append(job)
        return ingest_run(job)

    monkeypatch.setattr(ingest_task, "ingest_run", outlive_the_server)
    try:
        with pytest.raises(StorageError, match="S3 at http://127.0.0.1:.* could not be reached") as caught:
            ingest.run(settings, None)
        assert "\n" not in str(caught.value)
    finally:
        server.start()
    monkeypatch.setattr(ingest_task, "ingest_run", ingest_run)
    ingest.run(settings, None)
    assert_same_rows(VoxelTable.open(settings.output), near)


def test_an_encoding_model_is_fitted_and_read_where_it_is(far, tmp_path):
    (tmp_path / "near").mkdir()
    planted = tables.plant(tmp_path / "near", block_size=31)
    copy_folder(str(tmp_path / "near"), far)
    found = {}
    for root in (str(tmp_path / "near"), far):
        features, output = store.join(root, "vgg.features"), store.join(root, "model")
        settings = EncoderSettings((features,), output, delays=(1, 2), alphas=(1.0, 30.0, 900.0), coefficients=True)
        blocks = {"01": list(range(planted.table.n_blocks))}
        for _ in range(2):  # the second finds all of it
            fit_encoder(store.join(root, "movie.voxels"), blocks, settings, tables.call_each, 2)
        names = [name for name in store.list_files(output, recursive=True) if name.endswith(".parquet")]
        found[root] = {name: read_table(store.join(output, name)) for name in names}
    assert found[far].keys() == found[str(tmp_path / "near")].keys() and found[far]
    for name, expected in found[str(tmp_path / "near")].items():
        pd.testing.assert_frame_equal(found[far][name], expected, obj=name)


def read_table(path):
    with store.open_file(path) as file:
        return pq.ParquetFile(file).read().to_pandas()
