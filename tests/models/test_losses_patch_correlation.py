from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmboxvis.models.losses.functional import grid_size, neighbor_offsets
from mmboxvis.models.losses.patch_correlation import (
    PatchCorrelation,
    Rows,
    _gathered_inner_products,
    _inner_products,
)
from tests.reference.stpa import look_up


def unfolded_correlation(features, size, stride, patch_size, rows, offsets):
    """(R, O, rows, columns) by upsampling, unfolding and shifting whole maps."""
    upsampled = F.normalize(F.interpolate(features, size, mode='bilinear'), dim=1)
    patches = F.unfold(upsampled, patch_size, padding=patch_size // 2, stride=stride)
    patches = patches.view(len(features), -1, *grid_size(size, stride))
    maps = []
    for frame, other, (shift_y, shift_x) in zip(*(part.tolist() for part in rows)):
        maps.append(
            torch.stack(
                [
                    (patches[frame] * look_up(patches[other], dx - shift_x, dy - shift_y)).sum(0)
                    for _, dx, dy in offsets
                ]
            )
        )
    return torch.stack(maps) / patch_size**2


def everywhere(num_rows, num_offsets, grid):
    index = torch.cartesian_prod(*(torch.arange(n) for n in (num_rows, num_offsets, *grid)))
    return index.unbind(1)


@settings(deadline=None, max_examples=40)
@given(
    native=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    scales=st.sampled_from([(4, 4), (2, 2), (1, 1), (3, 3), (4, 2), (5, 5), (1.5, 2.5)]),
    stride=st.integers(1, 3),
    patch_size=st.sampled_from([1, 3, 5]),
    seed=st.integers(0, 1000),
)
def test_equals_unfolding(native, scales, stride, patch_size, seed):
    torch.manual_seed(seed)
    size = tuple(max(int(n * s), 1) for n, s in zip(native, scales))
    features = torch.randn(2, 5, *native)
    rows = Rows(
        torch.tensor([0, 1, 0, 1]),
        torch.tensor([0, 0, 1, 1]),
        torch.cat([torch.zeros(1, 2).long(), torch.randint(-4, 5, (3, 2))]),
    )
    offsets = neighbor_offsets(9, 2)
    grid = grid_size(size, stride)
    row, neighbor, y, x = everywhere(len(rows.frames), len(offsets), grid)
    values = PatchCorrelation(features, size, stride, patch_size)(
        rows, offsets, row, y, x, neighbor
    )
    expected = unfolded_correlation(features, size, stride, patch_size, rows, offsets)
    # where the partner is off the grid, the plain map is zero and ours continues the patch
    there = torch.tensor([(dy, dx) for _, dx, dy in offsets])[neighbor] - rows.shifts[row]
    there = there + torch.stack([y, x], 1)
    inside = ((there >= 0) & (there < torch.tensor(grid))).all(1)
    torch.testing.assert_close(values[inside], expected.flatten()[inside], atol=2e-5, rtol=0)


def test_some_pairs_only_and_none():
    features = torch.randn(2, 8, 6, 8)
    correlation = PatchCorrelation(features, (24, 32), 2, 3)
    rows = Rows(torch.tensor([0, 1]), torch.tensor([1, 0]), torch.tensor([[1, 2], [-3, 0]]))
    offsets = neighbor_offsets(7, 2)
    index = everywhere(2, 7, (12, 16))
    row, neighbor, y, x = index
    every = correlation(rows, offsets, row, y, x, neighbor)
    some = torch.randperm(len(every))[:50]
    row, neighbor, y, x = (part[some] for part in index)
    torch.testing.assert_close(correlation(rows, offsets, row, y, x, neighbor), every[some])
    row, neighbor, y, x = (part[:0] for part in index)
    assert correlation(rows, offsets, row, y, x, neighbor).shape == (0,)


def test_features_of_zeros_correlate_with_nothing():
    correlation = PatchCorrelation(torch.zeros(1, 4, 3, 3), (12, 12), 2, 3)
    still = Rows(torch.tensor([0]), torch.tensor([0]), torch.zeros(1, 2).long())
    row, neighbor, y, x = everywhere(1, 2, (6, 6))
    values = correlation(still, neighbor_offsets(2, 2), row, y, x, neighbor)
    assert torch.equal(values, torch.zeros(72))


def test_equal_features_correlate_fully_inside_and_less_at_the_border():
    correlation = PatchCorrelation(torch.ones(1, 4, 4, 4).bfloat16(), (16, 16), 2, 3)
    still = Rows(torch.tensor([0]), torch.tensor([0]), torch.zeros(1, 2).long())
    zeros = torch.zeros(2).long()
    values = correlation(
        still, ((0, 2, 0),), zeros, torch.tensor([3, 0]), torch.tensor([3, 0]), zeros
    )
    torch.testing.assert_close(values, torch.tensor([1.0, 4 / 9]))


@pytest.mark.filterwarnings('error')
def test_warns_of_nothing():
    test_features_of_zeros_correlate_with_nothing()


@pytest.mark.parametrize('num_vectors', [1, 3, 40])
def test_both_ways_to_multiply_agree(num_vectors):
    vectors = torch.randn(num_vectors, 6)
    rows = torch.randint(0, num_vectors, (9,))
    partners = torch.randint(0, num_vectors, (9, 5))
    expected = (vectors[rows][:, None] * vectors[partners]).sum(-1)
    for multiply in (_inner_products, _gathered_inner_products):
        torch.testing.assert_close(multiply(vectors, rows, partners), expected)
        assert multiply(vectors, rows[:0], partners[:0]).shape == (0, 5)
