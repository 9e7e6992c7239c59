"""A climb finds what trying all finds, with few tries, and always ends."""

import numpy as np
import pytest

from sparkneuro.encoding.search import search_alphas

N_ALPHAS, N_TARGETS = 11, 40


class Landscape:
    """Known losses that remember what was asked."""

    def __init__(self, losses):
        self.losses, self.asked = np.asarray(losses, float), []

    def evaluate(self, index, columns):
        assert len(columns) and (np.diff(columns) > 0).all()
        self.asked += [(index, int(column)) for column in columns]
        return self.losses[index, columns]

    def search(self, start, search="climb"):
        return search_alphas(self.evaluate, len(self.losses), np.asarray(start), search)


def draw_valleys(rng):
    """Losses that fall strictly to a random bottom and rise strictly from it."""
    bottom = rng.integers(0, N_ALPHAS, N_TARGETS)
    down = np.sort(rng.standard_normal((N_ALPHAS, N_TARGETS)), axis=0)[::-1]
    up = down[-1] + np.cumsum(rng.uniform(0.01, 1, down.shape), axis=0)
    places = np.arange(N_ALPHAS)[:, None]
    return np.where(places < bottom, down, up) - 2 * (places == bottom) * np.ptp(down), bottom


@pytest.mark.parametrize("seed", range(20))
def test_a_climb_finds_the_bottom_of_any_valley(seed):
    rng = np.random.default_rng(seed)
    losses, bottom = draw_valleys(rng)
    np.testing.assert_array_equal(losses.argmin(axis=0), bottom)
    best, found = Landscape(losses).search(rng.integers(0, N_ALPHAS, N_TARGETS))
    np.testing.assert_array_equal(best, bottom)
    known = np.isfinite(found)
    np.testing.assert_array_equal(found[known], losses[known])


@pytest.mark.parametrize("start", [0, 5, N_ALPHAS - 1])
def test_a_climb_tries_what_lies_on_its_way_and_the_neighbours_of_the_bottom(start):
    losses, bottom = draw_valleys(np.random.default_rng(1))
    landscape = Landscape(losses)
    _, found = landscape.search(np.full(N_TARGETS, start))
    places = np.arange(N_ALPHAS)[:, None]
    wanted = (places >= np.minimum(bottom, start) - 1) & (places <= np.maximum(bottom, start) + 1)
    np.testing.assert_array_equal(np.isfinite(found), wanted)
    assert len(landscape.asked) == len(set(landscape.asked)) == wanted.sum()


def test_a_climb_from_the_bottom_needs_three_tries_and_two_at_an_edge():
    losses, bottom = draw_valleys(np.random.default_rng(2))
    _, found = Landscape(losses).search(bottom)
    at_edge = (bottom == 0) | (bottom == N_ALPHAS - 1)
    assert 0 < at_edge.sum() < N_TARGETS
    np.testing.assert_array_equal(np.isfinite(found).sum(axis=0), 3 - at_edge)


def test_targets_are_tried_together():
    losses, _ = draw_valleys(np.random.default_rng(3))
    calls = []
    search_alphas(lambda index, columns: calls.append(len(columns)) or losses[index, columns], N_ALPHAS, np.full(N_TARGETS, 5))
    assert calls[:3] == [N_TARGETS] * 3


def test_trying_all_tries_each_penalty_once():
    losses = np.random.default_rng(4).standard_normal((N_ALPHAS, N_TARGETS))
    landscape = Landscape(losses)
    best, found = landscape.search(np.zeros(N_TARGETS, int), "exhaustive")
    np.testing.assert_array_equal(best, losses.argmin(axis=0))
    np.testing.assert_array_equal(found, losses)
    assert len(landscape.asked) == losses.size


@pytest.mark.parametrize("seed", range(5))
def test_a_climb_ends_where_no_neighbour_is_better(seed):
    rng = np.random.default_rng(seed)
    losses = rng.standard_normal((N_ALPHAS, N_TARGETS))  # many valleys
    best, _ = Landscape(losses).search(rng.integers(0, N_ALPHAS, N_TARGETS))
    padded = np.pad(losses, ((1, 1), (0, 0)), constant_values=np.inf)
    columns = np.arange(N_TARGETS)
    reached = losses[best, columns]
    assert (reached <= padded[best, columns]).all() and (reached <= padded[best + 2, columns]).all()


@pytest.mark.parametrize("search", ["climb", "exhaustive"])
@pytest.mark.parametrize("start", [0, 3, N_ALPHAS - 1])
def test_of_equally_good_penalties_the_smallest_is_taken(search, start):
    flat = np.full(N_ALPHAS, 2.0)
    basin = np.maximum(np.abs(np.arange(N_ALPHAS) - 5), 2)  # 3 to 7 are equally good
    best, _ = Landscape(np.stack([flat, basin], axis=1)).search([start, 5], search)
    assert best.tolist() == [0, 3]


@pytest.mark.parametrize("search", ["climb", "exhaustive"])
def test_losses_that_are_no_numbers_are_asked_for_once(search):
    landscape = Landscape(np.full((N_ALPHAS, 3), np.nan))
    best, losses = landscape.search([0, 5, N_ALPHAS - 1], search)
    assert best.tolist() == [0, 0, 0]
    assert len(landscape.asked) == len(set(landscape.asked))
    assert not np.isfinite(losses).any()


@pytest.mark.parametrize("start", [1, 2, 3])
def test_a_loss_that_is_no_number_is_never_the_best(start):
    landscape = Landscape(np.array([[4.0], [3.0], [np.nan], [1.0], [2.0]]))
    best, _ = landscape.search([start])
    assert best.tolist() == [{1: 1, 2: 3, 3: 3}[start]]  # what is no number is a wall
    assert landscape.search([0], "exhaustive")[0].tolist() == [3]


@pytest.mark.parametrize("search", ["climb", "exhaustive"])
def test_an_only_penalty_is_the_best(search):
    best, losses = Landscape([[3.0, 1.0]]).search([0, 0], search)
    assert best.tolist() == [0, 0]
    np.testing.assert_array_equal(losses, [[3.0, 1.0]])


def test_the_start_is_not_written_to():
    start = np.array([0, 4])
    Landscape(np.arange(10.0)[::-1].reshape(5, 2)).search(start)
    assert start.tolist() == [0, 4]
