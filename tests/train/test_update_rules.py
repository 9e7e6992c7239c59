import numpy as np
import pytest

from sparkneuro.errors import SettingsError
from sparkneuro.train import update_rules
from sparkneuro.train.update_rules import Adagrad, apply_update, describe_rule, make_rule

keras = pytest.importorskip("keras", reason="needs the keras extra")
OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1),
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.8),
    "nesterov": lambda: keras.optimizers.SGD(0.1, momentum=0.8, nesterov=True),
    "adagrad": lambda: keras.optimizers.Adagrad(0.1),
    "adagrad from zero": lambda: keras.optimizers.Adagrad(0.1, initial_accumulator_value=0.0, epsilon=1e-3),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_rule_does_what_the_keras_optimizer_does(name, monkeypatch):
    monkeypatch.setattr(update_rules, "PIECE", 7)  # 23 weights: three whole pieces and a partial one
    rng = np.random.default_rng(1)
    weights = rng.standard_normal(23).astype(np.float32)
    optimizer, variable = OPTIMIZERS[name](), keras.Variable(weights)
    rule = make_rule(describe_rule(optimizer))
    slots = rule.make_slots(weights.size)
    for _ in range(30):
        gradient = rng.standard_normal(23).astype(np.float32)
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        weights = apply_update(rule, weights, gradient, slots, np.empty_like(weights))
    np.testing.assert_allclose(weights, keras.ops.convert_to_numpy(variable), rtol=1e-5, atol=1e-6)


def test_an_update_leaves_the_old_weights_and_the_gradient_alone():
    weights, gradient, rule = np.ones(5, np.float32), np.full(5, 2, np.float32), Adagrad(0.1)
    apply_update(rule, weights, gradient, rule.make_slots(5), np.empty_like(weights))
    assert (weights == 1).all() and (gradient == 2).all()


def test_a_rule_of_the_whole_model_is_refused():
    with pytest.raises(SettingsError, match="applies Adagrad or SGD; got the optimizer Muon"):
        describe_rule(keras.optimizers.Muon())


@pytest.mark.parametrize("options", [{"global_clipnorm": 1.0}, {"weight_decay": 0.1}, {"use_ema": True}])
def test_what_a_server_cannot_do_is_refused(options):
    with pytest.raises(SettingsError, match=f"cannot apply {next(iter(options))}"):
        describe_rule(keras.optimizers.Adagrad(0.1, **options))


def test_a_learning_rate_schedule_is_refused():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    with pytest.raises(SettingsError, match="constant learning rate"):
        describe_rule(keras.optimizers.Adagrad(schedule))


def test_a_learning_rate_of_zero_is_refused():
    with pytest.raises(SettingsError, match="learning_rate must be a number above 0; got 0"):
        Adagrad(learning_rate=0)
