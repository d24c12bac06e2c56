import numpy as np
import pytest
import torch

import lla
from lla.overlaps import overlap, random_overlap


def orthonormal(k, size, seed):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, k)))[0].T


def test_the_curve_is_that_of_the_first_vectors():
    U, V = orthonormal(4, 9, 0), orthonormal(4, 9, 1)
    expected = [np.linalg.norm(U[:k] @ V[:k].T) ** 2 / k for k in range(1, 5)]
    np.testing.assert_allclose(overlap(U, V), expected)
    np.testing.assert_allclose(overlap(torch.from_numpy(U), V.reshape(4, 3, 3)), expected)
    np.testing.assert_allclose(overlap(V, U), expected)


def test_a_space_overlaps_itself_whatever_its_basis():
    U = orthonormal(4, 9, 0)
    turned = orthonormal(4, 4, 2) @ U
    assert overlap(U, turned)[-1] == pytest.approx(1)


def test_sets_of_other_sizes_are_compared_up_to_the_smaller():
    assert overlap(orthonormal(4, 9, 0), orthonormal(2, 9, 0)).shape == (2,)


def test_random_spaces_overlap_as_the_baseline_says():
    k, size, count = 5, 60, 200
    found = np.array([
        overlap(orthonormal(k, size, 2 * i), orthonormal(k, size, 2 * i + 1)) for i in range(count)
    ])  # fmt: skip
    stderr = found.std(0, ddof=1) / np.sqrt(count)
    assert (np.abs(found.mean(0) - random_overlap(k, size)) < 4 * stderr).all()
    # the variance of ||U'V||^2 / k, which is near 2 / P^2 for k much smaller than P
    assert found[:, -1].std() == pytest.approx(np.sqrt(2) / size, rel=0.25)


@pytest.mark.parametrize(
    ("slip", "message"),
    [
        (lambda U: overlap(U, U[:, :-1] * 0), "second set are not orthonormal"),
        (lambda U: overlap(U, orthonormal(2, 8, 0)), "have 9 and 8 elements"),
        (lambda U: overlap(2 * U, U), "first set are not orthonormal"),
        (lambda U: overlap(U * np.nan, U), "first set are not orthonormal"),
        (lambda U: overlap(U[0], U), "first set is no matrix"),
        (lambda U: overlap(U, list(U)), "second set is no matrix"),
    ],
)
def test_slips_are_named(slip, message):
    with pytest.raises(lla.InputError, match=message):
        slip(orthonormal(4, 9, 0))
