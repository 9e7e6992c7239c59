"""Blocks of targets sum up to the products of all of them."""

import numpy as np
import pytest

from sparkneuro.encoding.symmetric_sum import SymmetricSum


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("n_blocks", [1, 8, 19])
def test_the_sum_over_blocks_is_the_product_of_all_targets(order, n_blocks):
    rng, total = np.random.default_rng(0), SymmetricSum(23)
    blocks = [rng.standard_normal((23, 5 + place)).astype(np.float32) for place in range(n_blocks)]
    for block in blocks:
        total.add(np.asarray(block, order=order))
    Y = np.concatenate(blocks, axis=1).astype(np.float64)
    np.testing.assert_allclose(total.total(), Y @ Y.T, rtol=1e-5, atol=1e-4)


def test_a_part_of_the_scans_of_a_block_can_be_added():
    Y = np.asfortranarray(np.random.default_rng(1).standard_normal((31, 7)).astype(np.float32))
    total = SymmetricSum(20)
    total.add(Y[:20])
    np.testing.assert_allclose(total.total(), Y[:20] @ Y[:20].T, rtol=1e-5, atol=1e-5)


def test_many_blocks_lose_no_digits():
    total, block = SymmetricSum(3), np.full((3, 4), 0.1, np.float32)
    for _ in range(20_000):
        total.add(block)
    np.testing.assert_allclose(total.total(), 20_000 * 4 * float(np.float32(0.1)) ** 2, rtol=1e-6)
