import pytest

from sparkneuro.cli import main
from sparkneuro.errors import SettingsError
from sparkneuro.pipelines import sample


def test_the_synthetic_sample_is_made_once(tmp_path):
    settings = sample.Settings("synthetic", f"{tmp_path}/s/", subjects=1, scans=60)
    assert not sample.needs_spark(settings)
    assert sample.run(settings) == f"{tmp_path}/s: the sample synthetic is there; 1 subject written."
    assert sample.run(settings) == f"{tmp_path}/s: nothing is missing; the sample synthetic is there already."
    assert (tmp_path / "s" / "sub-01/func/sub-01_task-motor_run-1_bold.nii.gz").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "real"}, "name must be one of synthetic, rest; got 'real'"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"subjects": 0}, "subjects must be a whole number of at least 1"),
        ({"scans": 20}, "scans must be a whole number of at least 60"),
        ({"noise": -0.1}, "noise must be a number of at least 0"),
    ],
)
def test_a_setting_that_makes_no_sense_writes_nothing(tmp_path, change, message):
    with pytest.raises(SettingsError, match=message):
        sample.run(sample.Settings(**{"name": "synthetic", "folder": f"{tmp_path}/s", **change}))
    assert not (tmp_path / "s").exists()


def test_the_command_refuses_a_folder_that_is_not_its_own(tmp_path, capsys):
    (tmp_path / "thesis.txt").touch()
    assert main(["sample", "synthetic", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith(f"sparkneuro: error: {tmp_path}: this holds something else than a sample")
