import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from sparkneuro.errors import FormatError
from sparkneuro.pipelines.ingest import STRATEGIES as OFFERED
from sparkneuro.preprocess.confound_strategy import STRATEGIES, make_confounds

_SPEC = importlib.util.spec_from_file_location("derivatives", Path(__file__).parents[1] / "pipelines" / "derivatives.py")
derivatives = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(derivatives)


@pytest.fixture
def table():
    """A confounds table and its sidecar, as bytes."""
    text, sidecar = derivatives.make_confounds(np.random.default_rng(0), 60)
    return text.encode(), json.dumps(sidecar).encode()


def test_every_strategy_is_offered_and_gives_finite_centred_regressors(table):
    assert OFFERED == STRATEGIES
    for strategy in STRATEGIES:
        confounds, names, kept = make_confounds(strategy, *table)
        assert np.isfinite(confounds).all() and confounds.shape == (60, len(names))
        kept = np.arange(60) if kept is None else kept
        np.testing.assert_allclose(confounds[kept].mean(axis=0), 0, atol=1e-10)


def test_motion24_is_six_parameters_their_derivatives_and_the_squares_of_both(table):
    _, names, kept = make_confounds("motion24", *table)
    motion = {name for name in names if name.startswith(("trans", "rot"))}
    bases = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
    assert motion == {name + ending for name in bases for ending in ("", "_derivative1", "_power2", "_derivative1_power2")}
    assert kept is None and set(names) - motion == {"cosine00", "cosine01", "cosine02"}


def test_scrubbing_keeps_the_scans_without_motion(table):
    kept = make_confounds("scrubbing", *table)[2]
    assert not {20, 21} & set(kept.tolist()) and len(kept) < 60


@pytest.mark.parametrize(
    ("strategy", "change", "message"),
    [
        ("compcor", lambda text, sidecar: (text, None), "compcor cannot be had from this table: Could not find .*json"),
        ("simple", lambda text, sidecar: (b"csf\n1\n2\n", sidecar), "simple cannot be had from this table: .*white_matter"),
        ("motion24", lambda text, sidecar: (text + text.split(b"\n")[1] + b"\n", sidecar), "column .*derivative1.* holds n/a"),
    ],
)  # fmt: skip
def test_a_table_that_lacks_what_a_strategy_needs_is_one_sentence(table, strategy, change, message):
    with pytest.raises(FormatError, match=message):
        make_confounds(strategy, *change(*table))
