"""What meets the backend in gradients and rules, once more on JAX: a process has one backend of Keras."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

HERE = Path(__file__).parent
TESTS = {
    "test_gradients.py": [
        "test_following_the_gradients_is_plain_training[dropout-SGD]",
        "test_following_the_gradients_is_plain_training[further losses-SGD]",
        "test_following_the_gradients_is_plain_training[half precision-SGD]",
        "test_following_the_gradients_is_plain_training[batch statistics-Adam]",
        "test_a_gradient_depends_on_nothing_but_its_arguments",
        "test_what_is_dropped_differs_from_step_to_step",
        "test_a_size_of_batch_is_compiled_at_most_once",
        "test_a_warm_up_changes_nothing",
        "test_jax_keeps_to_the_cores_that_it_is_given",
        "test_reading_undoes_writing",
        "test_the_tiny_preset_has_a_gradient",
    ],
    "parameter_server/test_update_rules.py": [
        "test_options_that_are_elementwise_are_followed[scheduled adamw]",
        "test_options_that_are_elementwise_are_followed[Nadam]",
        "test_stored_slots_are_taken_up_again_in_other_shards[scheduled adamw]",
        "test_an_update_leaves_the_old_weights_and_the_gradient_alone",
        "test_a_shard_may_have_no_weights[Adam]",
    ],
}


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs JAX")
def test_gradients_and_rules_are_the_same_on_jax():
    # Compiled without optimisation, which takes longer than the tests; and on one core, which a test looks at.
    environment = {"KERAS_BACKEND": "jax", "PJRT_NPROC": "1", "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    tests = [f"{HERE / file}::{test}" for file, names in TESTS.items() for test in names]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    answer = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "skipped" not in answer.stdout
