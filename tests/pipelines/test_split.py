from types import SimpleNamespace

import pytest

from sparkneuro.data.voxel_table import Run
from sparkneuro.errors import SettingsError
from sparkneuro.pipelines.split import choose_split, is_held_out, mark_held_out, select_rows


def table_of(*labels, n_blocks=6):
    runs = tuple(Run(subject, "", "rest", number, 20, 2.0, "", "", 9) for subject, number in labels)
    return SimpleNamespace(runs=runs, n_blocks=n_blocks)


COHORT = table_of(("01", "1"), ("01", "2"), ("02", "1"), ("03", "1"), ("03", "2"))


def test_named_subjects_are_held_out():
    split = choose_split(COHORT, subjects=("sub-03", "01"))
    assert (split["kind"], split["training"], split["validation"]) == ("subjects", ["02"], ["01", "03"])


def test_a_share_of_the_runs_is_held_out_at_least_one():
    for fraction, n in [(0.01, 1), (0.4, 2), (0.6, 3)]:
        split = choose_split(COHORT, fraction=fraction)
        assert split["kind"] == "runs" and len(split["validation"]) == n
        assert sorted(split["training"] + split["validation"]) == [run.key for run in COHORT.runs]


def test_blocks_of_an_only_run_are_held_out():
    split = choose_split(table_of(("01", "1")), fraction=0.3)
    assert split["kind"] == "blocks" and len(split["validation"]) == 2 and len(split["training"]) == 4


def test_nothing_is_held_out_on_demand():
    split = choose_split(COHORT, fraction=0)
    assert split == {"kind": "none", "training": [], "validation": []}
    assert not is_held_out(split, COHORT.runs[0], 0)


def test_the_choice_depends_on_the_seed_alone():
    assert choose_split(COHORT, fraction=0.4, seed=1) == choose_split(COHORT, fraction=0.4, seed=1)
    assert len({str(choose_split(COHORT, fraction=0.4, seed=seed)) for seed in range(20)}) > 1


@pytest.mark.parametrize(
    "options, match",
    [
        ({"subjects": ("09",)}, r"must be subjects of the table \(01, 02, 03\); got 09"),
        ({"subjects": ("01", "02", "03")}, "something must be left to train on; all 3 subjects"),
        ({"fraction": 1.0}, "something must be left to train on; all 5 runs"),
        ({"fraction": 1.5}, "--validation-fraction must be a number of at least 0 and of at most 1; got 1.5"),
    ],
)
def test_a_split_that_makes_no_sense_is_refused(options, match):
    with pytest.raises(SettingsError, match=match):
        choose_split(COHORT, **options)


def test_one_run_of_one_block_has_nothing_to_hold_out():
    with pytest.raises(SettingsError, match="give --validation-fraction 0"):
        choose_split(table_of(("01", "1"), n_blocks=1))


@pytest.mark.engine
@pytest.mark.parametrize("options", [{"subjects": ("03",)}, {"fraction": 0.4}, {"fraction": 0}])
def test_rows_on_spark_are_split_as_files_are(spark, options):
    split = choose_split(COHORT, **options)
    labels = [(run.subject, block, "", "rest", run.run) for run in COHORT.runs for block in range(3)]
    frame = spark.createDataFrame(labels, "subject string, block int, session string, task string, run string")
    expected = {(run.subject, block, run.run) for run in COHORT.runs for block in range(3) if is_held_out(split, run, block)}
    held_out = {(row.subject, row.block, row.run) for row in select_rows(frame, split, "validation").collect()}
    kept = {(row.subject, row.block, row.run) for row in select_rows(frame, split, "training").collect()}
    assert held_out == expected and len(kept) == 15 - len(expected) and not kept & held_out
    assert mark_held_out(frame, split).filter("held_out").count() == len(expected)
