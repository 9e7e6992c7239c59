"""Every rule against the Keras optimizer that it stands for, whole and in shards. The tests run on both backends of Keras."""

import json

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the keras extra")

from sparkneuro.errors import FormatError, SettingsError  # noqa: E402
from sparkneuro.train.parameter_server.compiled_rules import MIN_THREADED, Adagrad  # noqa: E402
from sparkneuro.train.parameter_server.keras_rule import ELEMENTWISE  # noqa: E402
from sparkneuro.train.parameter_server.update_rules import apply_update, describe_rule, make_rule  # noqa: E402

pytestmark = pytest.mark.processes  # seconds of TensorFlow and Keras

optimizers = keras.optimizers
decay = optimizers.schedules.ExponentialDecay(0.1, decay_steps=4, decay_rate=0.5)
COMPILED = {
    "sgd": lambda: optimizers.SGD(0.1),
    "momentum": lambda: optimizers.SGD(0.1, momentum=0.8),
    "nesterov": lambda: optimizers.SGD(0.1, momentum=0.8, nesterov=True),
    "adagrad": lambda: optimizers.Adagrad(0.1),
    "adagrad from zero": lambda: optimizers.Adagrad(0.1, initial_accumulator_value=0.0, epsilon=1e-3),
}
THROUGH_KERAS = {
    "scheduled sgd": lambda: optimizers.SGD(decay, momentum=0.8),
    "decaying adagrad": lambda: optimizers.Adagrad(0.1, weight_decay=0.1),
    "clipped adagrad": lambda: optimizers.Adagrad(0.1, clipvalue=0.5),
    "scheduled adamw": lambda: optimizers.AdamW(decay, weight_decay=0.1, amsgrad=True),
    "centered rmsprop": lambda: optimizers.RMSprop(0.1, momentum=0.5, centered=True),
    **{name: getattr(optimizers, name) for name in ELEMENTWISE if name not in ("Adagrad", "SGD")},
}
OPTIMIZERS = {**COMPILED, **THROUGH_KERAS}

# Classes that do not come into being without arguments.
CLASSES = {name: value for name, value in vars(optimizers).items() if isinstance(value, type)} | {
    "LossScaleOptimizer": lambda: optimizers.LossScaleOptimizer(optimizers.Adam()),
    "MultiOptimizer": lambda: optimizers.MultiOptimizer(lambda variable: optimizers.Adam()),
    "Optimizer": lambda: optimizers.Optimizer(0.1),
    "OptimizerMap": lambda: optimizers.OptimizerMap(optimizers.Adam()),
}
N_WEIGHTS, N_STEPS = 23, 10


def numbers(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def rule_of(make):
    return make_rule(json.loads(json.dumps(describe_rule(make()))))


def keras_weights(make, weights, gradients):
    """What Keras makes of a matrix, a vector and a scalar."""
    shapes = [(weights.size // 5, 3), (weights.size - weights.size // 5 * 3 - 1,), ()]
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]

    def cut(vector):
        return [part.reshape(shape) for part, shape in zip(np.split(vector, ends), shapes, strict=True)]

    variables, optimizer = [keras.Variable(part) for part in cut(weights)], make()
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(part) for part in cut(gradient)], variables)
    return np.concatenate([keras.ops.convert_to_numpy(variable).reshape(-1) for variable in variables])


def our_weights(make, weights, gradients, shards=(slice(None),)):
    """What our rule makes of the vector, cut into shards."""
    updated = []
    for shard in shards:
        rule, values = rule_of(make), weights[shard]
        slots = rule.make_slots(values.size)
        for gradient in gradients:
            values = apply_update(rule, values, gradient[shard], slots, np.full_like(values, np.nan))
        updated.append(values)
    return np.concatenate(updated)


def assert_close(found, expected):
    assert np.linalg.norm(found - expected) <= 1e-6 * np.linalg.norm(expected)


def assert_elementwise(make):
    weights, gradients = numbers(N_WEIGHTS), numbers(N_STEPS, N_WEIGHTS, seed=2)
    expected = keras_weights(make, weights, gradients)
    assert_close(our_weights(make, weights, gradients), expected)
    assert_close(our_weights(make, weights, gradients, [slice(0, 9), slice(9, None)]), expected)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_optimizer_of_keras_is_elementwise_or_refused(name):
    if name in ELEMENTWISE:
        assert_elementwise(CLASSES[name])
    else:
        with pytest.raises(SettingsError, match=f"must be one of Keras's own .*AdamW.*; got {name}"):
            describe_rule(CLASSES[name]())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_options_that_are_elementwise_are_followed(name):
    assert_elementwise(OPTIMIZERS[name])


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "adagrad", "Adam"])
def test_a_long_vector_is_updated_to_its_last_element(name):
    weights, gradients = numbers(MIN_THREADED + 13), numbers(2, MIN_THREADED + 13, seed=2)
    found, expected = (update(OPTIMIZERS[name], weights, gradients) for update in (our_weights, keras_weights))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_only_optimizers_without_further_options_are_compiled(name):
    assert (describe_rule(OPTIMIZERS[name]())["name"] == "Keras") == (name in THROUGH_KERAS)


@pytest.mark.parametrize("name", ["nesterov", "adagrad", "Adam"])
@pytest.mark.parametrize("offset", range(0, 16, 5))  # some backends share an array's memory, where it is aligned
def test_an_update_leaves_the_old_weights_and_the_gradient_alone(name, offset):
    rule = rule_of(OPTIMIZERS[name])
    weights, gradient = numbers(2, 4096 + offset)[:, offset:]
    before = weights.copy(), gradient.copy()
    gradient.flags.writeable = False
    slots = rule.make_slots(4096)
    first = apply_update(rule, weights, gradient, slots, np.empty_like(weights))
    kept = first.copy()
    apply_update(rule, first, gradient, slots, np.empty_like(weights))
    np.testing.assert_array_equal([weights, gradient], before)
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("name", ["sgd", "adagrad", "Adam"])
def test_a_shard_may_have_no_weights(name):
    rule, nothing = rule_of(OPTIMIZERS[name]), np.empty(0, np.float32)
    assert apply_update(rule, nothing, nothing, rule.make_slots(0), nothing.copy()).size == 0


def test_a_gradient_may_lie_anywhere_in_memory():
    rule, weights = Adagrad(0.1), numbers(11)
    gradient = np.frombuffer(b"-" + numbers(11, seed=2).tobytes(), np.uint8)[1:].view(np.float32)
    assert not gradient.flags.aligned and not gradient.flags.writeable
    found = apply_update(rule, weights, gradient, rule.make_slots(11), np.empty_like(weights))
    expected = apply_update(rule, weights, gradient.copy(), rule.make_slots(11), np.empty_like(weights))
    np.testing.assert_array_equal(found, expected)


def test_vectors_of_other_lengths_are_refused():
    rule = Adagrad(0.1)
    with pytest.raises(ValueError, match="must be of one length"):
        apply_update(rule, numbers(11), numbers(10), rule.make_slots(11), numbers(11))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_stored_slots_are_taken_up_again_in_other_shards(name):
    rule, weights, gradients = rule_of(OPTIMIZERS[name]), numbers(N_WEIGHTS), numbers(6, N_WEIGHTS, seed=2)
    slots = rule.make_slots(N_WEIGHTS)
    for gradient in gradients[:3]:
        weights = apply_update(rule, weights, gradient, slots, np.empty_like(weights))
    stored, halfway = rule.read_slots(slots), weights
    assert {value.shape for value in stored.values()} <= {(), (N_WEIGHTS,)}
    copies = {slot: value.copy() for slot, value in stored.items()}
    for gradient in gradients[3:]:
        weights = apply_update(rule, weights, gradient, slots, np.empty_like(weights))
    for shard in (slice(0, 9), slice(9, N_WEIGHTS)):
        rule, values = rule_of(OPTIMIZERS[name]), halfway[shard]
        slots = rule.make_slots(values.size, {slot: value[shard] if value.shape else value for slot, value in stored.items()})
        for gradient in gradients[3:]:
            values = apply_update(rule, values, gradient[shard], slots, np.empty_like(values))
        np.testing.assert_allclose(values, weights[shard], rtol=1e-6, atol=1e-7)
    for slot, value in stored.items():  # what was read is a copy, and what was given is copied
        np.testing.assert_array_equal(value, copies[slot])


@pytest.mark.parametrize("name", ["momentum", "adagrad", "Adam"])
def test_slots_of_another_rule_or_length_are_refused(name):
    rule = rule_of(OPTIMIZERS[name])
    for values in ({}, rule.read_slots(rule.make_slots(7)), rule_of(optimizers.Nadam).make_slots(8).variables):
        with pytest.raises(FormatError, match="slots must be .*; got .*; were they stored by another optimizer"):
            rule.make_slots(8, values)


def test_the_names_of_slots_do_not_depend_on_what_else_the_process_has_made():
    keras.Variable(0.0)
    rule = rule_of(optimizers.Nadam)
    assert list(rule.read_slots(rule.make_slots(3))) == ["iterations", "momentum", "velocity", "product"]


@pytest.mark.parametrize(
    "options, remedy",
    [
        ({"clipnorm": 1.0}, "clipvalue"),
        ({"global_clipnorm": 1.0}, "clipvalue"),
        ({"use_ema": True}, "leave it out"),
        ({"loss_scale_factor": 8.0}, "mixed_bfloat16"),
        ({"gradient_accumulation_steps": 2}, "n_push"),
    ],
)
@pytest.mark.parametrize("optimizer", [optimizers.Adagrad, optimizers.Adam])
def test_what_is_not_elementwise_is_refused(optimizer, options, remedy):
    with pytest.raises(SettingsError, match=f"cannot apply {next(iter(options))}.*{optimizer.__name__}: .*{remedy}"):
        describe_rule(optimizer(0.1, **options))


@pytest.mark.parametrize("excluded", [{"var_names": ["bias"]}, {"var_list": [keras.Variable(0.0)]}])
def test_variables_that_weight_decay_leaves_out_are_refused(excluded):
    optimizer = optimizers.AdamW(0.1)
    optimizer.exclude_from_weight_decay(**excluded)
    with pytest.raises(SettingsError, match="cannot exclude variables from the weight decay of AdamW"):
        describe_rule(optimizer)


def test_an_optimizer_of_the_users_own_is_refused():
    with pytest.raises(SettingsError, match="one of Keras's own .*; got Adam"):
        describe_rule(type("Adam", (optimizers.Adam,), {})(0.1))


def own_rate():
    return 0.1


@pytest.mark.parametrize("rate", [own_rate, type("Own", (type(decay),), {})(0.1, 4, 0.5)])
def test_a_learning_rate_of_the_users_own_making_is_refused(rate):
    with pytest.raises(SettingsError, match="learning rate of Adam must be a number or one of keras.optimizers.schedules"):
        describe_rule(optimizers.Adam(rate))


def test_a_learning_rate_of_zero_is_refused():
    with pytest.raises(SettingsError, match="learning_rate must be a number above 0; got 0"):
        Adagrad(learning_rate=0)
