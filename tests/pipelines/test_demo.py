"""The demo: which steps are done, in what order, and which are not done again. The steps themselves have tests of their own."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("pyspark", reason="needs the extra spark")

from sparkneuro.errors import SettingsError, StorageError, TrainingError  # noqa: E402
from sparkneuro.pipelines import demo, ingest, report, sample, train_dca, transform  # noqa: E402

SPARK = SimpleNamespace(sparkContext=SimpleNamespace(defaultParallelism=5))
STEPS = ["sample", "ingest", "train", "transform", "report"]


@pytest.fixture
def steps(monkeypatch):
    """The five steps as stand-ins that leave their finished result; ``steps.failing`` names one that raises."""
    state = SimpleNamespace(done=[], settings={}, failing={})

    def stand_in(name, finish):
        def run(settings, spark=None):
            if name in state.failing:
                raise state.failing[name]
            state.done.append(name)
            state.settings[name] = settings
            finish(settings)
            return {"a": 1} if name == "train" else "done"

        return run

    def train(settings):
        folder = Path(settings.output)
        folder.mkdir(exist_ok=True)
        (folder / "training.json").write_text(json.dumps({"settings": {"epochs": settings.epochs}}))

    monkeypatch.setattr(sample, "run", stand_in("sample", lambda s: Path(s.folder).mkdir(exist_ok=True)))
    monkeypatch.setattr(ingest, "run", stand_in("ingest", lambda s: Path(s.output).mkdir(exist_ok=True)))
    monkeypatch.setattr(train_dca, "run", stand_in("train", train))
    monkeypatch.setattr(transform, "run", stand_in("transform", lambda s: Path(s.output).mkdir()))
    monkeypatch.setattr(report, "run", stand_in("report", lambda s: Path(s.output).write_text("<html>")))
    monkeypatch.setattr(demo, "is_table", lambda path: path.is_dir())
    return state


def run(folder, **changes):
    return demo.run(demo.Settings(directory=str(folder), **changes), SPARK)


def test_the_steps_follow_the_data_and_the_end_names_the_report(steps, tmp_path):
    sentence = run(tmp_path / "demo")
    assert steps.done == STEPS
    assert sentence.endswith(f"The report: {tmp_path}/demo/rest.html")
    assert steps.settings["train"].workers == 2


def test_a_second_run_repeats_nothing(steps, tmp_path):
    run(tmp_path)
    steps.done.clear()
    assert not demo.needs_spark(demo.Settings(directory=str(tmp_path)))
    assert run(tmp_path) == f"Nothing is left to do. The report: {tmp_path}/rest.html"
    assert steps.done == []


def test_an_interrupted_run_goes_on_where_it_was(steps, tmp_path):
    steps.failing["transform"] = TrainingError("the machine was switched off.")
    with pytest.raises(TrainingError, match="switched off"):
        run(tmp_path)
    steps.failing.clear()
    steps.done.clear()
    run(tmp_path)
    # sample and ingest look for themselves what is missing
    assert steps.done == ["sample", "ingest", "transform", "report"]


def test_another_number_of_epochs_trains_again_and_renews_what_follows(steps, tmp_path):
    run(tmp_path, epochs=3)
    steps.done.clear()
    run(tmp_path, epochs=4)
    assert steps.done == STEPS


def test_without_network_the_synthetic_sample_is_used_and_stays(steps, tmp_path, monkeypatch, capsys):
    fetch = sample.run

    def offline(settings, spark=None):
        if settings.name == "rest":
            raise StorageError("there is no network.")
        return fetch(settings, spark)

    monkeypatch.setattr(sample, "run", offline)
    assert run(tmp_path).endswith("synthetic.html")
    assert "the synthetic sample is used instead" in capsys.readouterr().err
    assert demo.choose_sample(demo.Settings(directory=str(tmp_path))) == "synthetic"
    with pytest.raises(StorageError, match="no network"):
        run(tmp_path, sample="rest")


def test_a_sample_that_cannot_be_made_is_an_error(steps, tmp_path):
    steps.failing["sample"] = SettingsError("this holds something else than a sample.")
    with pytest.raises(SettingsError, match="something else"):
        run(tmp_path)


def test_epochs_are_checked(tmp_path):
    with pytest.raises(SettingsError, match="--epochs must be a whole number of at least 1; got 0"):
        demo.needs_spark(demo.Settings(directory=str(tmp_path), epochs=0))


def test_the_demo_runs_on_this_machine():
    with pytest.raises(SettingsError, match="runs in a folder of this machine; got s3://bucket/demo"):
        demo.needs_spark(demo.Settings(directory="s3://bucket/demo"))
