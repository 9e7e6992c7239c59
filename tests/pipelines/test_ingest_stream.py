"""Runs that are fetched, made into rows and removed: the same rows as from files, and nothing left of the files."""

import importlib.util
import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import pytest

from sparkneuro.data import store
from sparkneuro.data.voxel_table import VoxelTable
from sparkneuro.errors import FormatError, SettingsError
from sparkneuro.pipelines import ingest
from sparkneuro.pipelines.ingest import Settings

TESTS = Path(__file__).resolve().parents[1]


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


derivatives, faulty = load(TESTS / "pipelines" / "derivatives.py"), load(TESTS / "faulty_server.py")


@pytest.fixture(scope="module")
def fmriprep(tmp_path_factory):
    """Three subjects as fMRIPrep leaves them; read only."""
    folder = tmp_path_factory.mktemp("derivatives") / "fmriprep"
    return folder, derivatives.write_derivatives(folder, ("01", "02", "03"))


@pytest.fixture
def server(fmriprep):
    """The same folder on a web server that can be told to fail; stopped afterwards."""
    web = faulty.FaultyServer()
    for path in fmriprep[0].rglob("*"):
        if path.is_file():
            web.files[f"fmriprep/{path.relative_to(fmriprep[0])}"] = path.read_bytes()
    yield web
    web.close()


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Where tasks keep what they fetch."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def read_rows(path):
    table = VoxelTable.open(path)
    return [np.concatenate([table.read_block(run, block)[1] for block in range(table.n_blocks)]) for run in table.runs]


@pytest.mark.processes
def test_a_table_from_a_server_is_that_of_the_files_and_nothing_raw_is_left(fmriprep, server, jobs, scratch, tmp_path):
    mask = str(next(fmriprep[0].glob("sub-01/func/*_mask.nii.gz")))
    options = {"mask": mask, "denoise": "motion24", "block_size": 100}
    ingest.run(Settings((str(fmriprep[0]),), output=str(tmp_path / "files.voxels"), **options), None)
    settings = Settings((f"{server.url}/fmriprep",), output=str(tmp_path / "web.voxels"), discard_raw=True, **options)
    name = "fmriprep/" + str(fmriprep[1]["02"].relative_to(fmriprep[0]))
    server.faults[name] = [{"send": 5000, "drop": True}]
    sentence = ingest.run(settings, None)
    assert "3 runs ingested" in sentence
    for here, there in zip(read_rows(str(tmp_path / "web.voxels")), read_rows(str(tmp_path / "files.voxels")), strict=True):
        np.testing.assert_array_equal(here, there)
    assert not list(scratch.iterdir())
    names = store.list_files(str(tmp_path / "web.voxels"), recursive=True)
    assert not [name for name in names if name.startswith("_raw") or name.endswith("_bold.nii.gz")]
    runs = VoxelTable.open(str(tmp_path / "web.voxels")).runs
    assert all(run.source.startswith(server.url) for run in runs)
    assert server.asked(name) == [None, "bytes=5000-"]  # each byte once
    before = len(server.requests)
    assert "nothing is missing" in ingest.run(settings, None)
    assert not [path for verb, path, _ in server.requests[before:] if verb == "GET" and path in server.files]


def test_a_mask_that_needs_all_runs_is_refused_with_the_remedy(server, tmp_path):
    settings = Settings((f"{server.url}/fmriprep",), output=str(tmp_path / "t.voxels"), discard_raw=True)
    with pytest.raises(SettingsError, match="a group mask would need every run at once; give a mask file with --mask"):
        ingest.needs_spark(settings)
    assert not (tmp_path / "t.voxels").exists()


def test_a_run_on_another_grid_than_the_mask_is_named_by_its_address(fmriprep, server, jobs, scratch, tmp_path):
    image = nibabel.load(next(fmriprep[0].glob("sub-01/func/*_mask.nii.gz")))
    nibabel.save(image.slicer[1:], tmp_path / "mask.nii.gz")
    settings = Settings(
        (f"{server.url}/fmriprep",), output=str(tmp_path / "t.voxels"), discard_raw=True, mask=str(tmp_path / "mask.nii.gz")
    )
    with pytest.raises(FormatError, match=f"{server.url}/.*the grid is .*give a mask on the runs' grid, or --labels"):
        ingest.run(settings, None)
    assert not (tmp_path / "t.voxels").exists() and not list(scratch.iterdir())


def test_a_folder_is_no_address(fmriprep, tmp_path):
    mask = str(next(fmriprep[0].glob("sub-01/func/*_mask.nii.gz")))
    with pytest.raises(SettingsError, match=r"a data set is ds000114 \(OpenNeuro\), s3://bucket/folder or https"):
        ingest.needs_spark(Settings((str(fmriprep[0]),), output=str(tmp_path / "t"), discard_raw=True, mask=mask))
