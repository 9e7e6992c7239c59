import numpy as np
import pytest

from sparkneuro.train.weights import exchanged_variables, flatten, unflatten


def test_unflatten_undoes_flatten():
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in [(2, 3), (), (5,), (1, 4, 2)]]
    again = unflatten(flatten(arrays), [array.shape for array in arrays])
    for before, after in zip(arrays, again, strict=True):
        np.testing.assert_array_equal(before, after)


def test_nothing_flattens_to_an_empty_vector():
    assert flatten([]).shape == (0,)


def test_a_vector_of_another_length_is_refused():
    with pytest.raises(ValueError, match="must have 6 elements.*got 7"):
        unflatten(np.zeros(7), [(2, 3)])


def test_whole_numbers_of_a_seed_generator_are_not_exchanged(make_model):
    import keras

    model = keras.Sequential([keras.layers.Input((13,)), keras.layers.Dense(4), keras.layers.Dropout(0.5)])
    trainable, state = exchanged_variables(model)
    assert len(trainable) == 2
    assert state == []
