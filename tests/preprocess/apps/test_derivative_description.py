"""The description of derivatives, where an app writes none."""

import json

import pytest

from sparkneuro.preprocess.apps.derivative_description import find_version, write_description


@pytest.mark.parametrize(
    ("runtime", "image", "container"),
    [
        ("docker", "nipreps/mriqc:24.0", {"Type": "docker", "Tag": "nipreps/mriqc:24.0"}),
        ("apptainer", "/i/my mriqc.sif", {"Type": "apptainer", "URI": "file:///i/my%20mriqc.sif"}),
        ("", "mriqc", None),
    ],
)
def test_it_says_what_made_the_derivatives_and_of_what(tmp_path, runtime, image, container):
    (tmp_path / "bids").mkdir()
    (tmp_path / "bids" / "dataset_description.json").write_text('{"Name": "Rest", "DatasetDOI": "doi:10.0/x"}')
    (tmp_path / "out").mkdir()
    assert write_description(str(tmp_path / "out"), str(tmp_path / "bids"), "mriqc", "24.0.2", runtime, image)
    said = json.loads((tmp_path / "out" / "dataset_description.json").read_text())
    assert said["DatasetType"] == "derivative" and said["Name"] == "mriqc on Rest" and said["BIDSVersion"]
    assert said["SourceDatasets"] == [{"URL": (tmp_path / "bids").as_uri(), "DOI": "doi:10.0/x"}]
    assert said["GeneratedBy"][0]["Name"] == "mriqc" and said["GeneratedBy"][0].get("Container") == container


@pytest.mark.parametrize("folder", ["", "fmriprep"])
def test_one_that_is_there_is_left(tmp_path, folder):
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "dataset_description.json").write_text("{}")
    assert not write_description(str(tmp_path), str(tmp_path), "mriqc", "")
    assert (tmp_path / folder / "dataset_description.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("said", "version"), [("fMRIPrep v24.1.1\n", "24.1.1"), ("mriqc 24.1.0.dev0+g1a2b", "24.1.0.dev0+g1a2b"), ("usage: x", "")]
)
def test_a_version_is_found_in_what_an_app_says(said, version):
    assert find_version(said) == version
