from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmboxvis.models.losses.functional import (
    bilinear_taps,
    color_similarity,
    grid_size,
    mask_projections,
    neighbor_offsets,
    projection_dice,
    resize_to_nodes,
    rgb_to_lab,
    working_size,
)
from tests.reference.lab import rgb_to_lab as rgb_to_lab_by_pixel


def test_lab_of_nothing_black_and_white():
    assert rgb_to_lab(torch.zeros(0, 3, 4, 5)).shape == (0, 3, 4, 5)
    assert torch.equal(rgb_to_lab(torch.zeros(3, 4, 5)), torch.zeros(3, 4, 5))
    white = rgb_to_lab(torch.full((3, 1, 1), 255)).flatten()
    torch.testing.assert_close(white, torch.tensor([100.0, 0.0, 0.0]), atol=1e-2, rtol=0)


def test_lab_equals_the_pixel_by_pixel_conversion():
    # 8-bit values, dark ones too, so that both branches of both curves are used
    rgb = torch.cat([torch.randint(0, 256, (3, 6, 7)), torch.randint(0, 16, (3, 6, 7))], 1)
    expected = rgb_to_lab_by_pixel(rgb)
    assert rgb_to_lab(rgb.byte()).dtype == torch.float32
    torch.testing.assert_close(rgb_to_lab(rgb.byte()), expected, atol=1e-3, rtol=0)


def test_lab_stays_float32_under_autocast():
    rgb = torch.rand(2, 3, 5, 6) * 255
    with torch.autocast('cpu', dtype=torch.bfloat16):
        lab = rgb_to_lab(rgb)
    assert torch.equal(lab, rgb_to_lab(rgb))


def test_lab_golden(golden):
    data = np.load(golden / 'lab.npz')
    lab = rgb_to_lab(torch.from_numpy(data['rgb']))
    torch.testing.assert_close(lab, torch.from_numpy(data['lab']), atol=1e-3, rtol=0)


def test_lab_wants_three_channels():
    with pytest.raises(ValueError, match=r'\(\.\.\., 3, H, W\)'):
        rgb_to_lab(torch.zeros(4, 5, 6))


def test_mask_projections_are_the_maxima_of_columns_and_rows():
    masks = torch.rand(2, 3, 4, 5)
    columns, rows = mask_projections(masks)
    assert columns.shape == (2, 3, 5) and rows.shape == (2, 3, 4)
    assert columns[1, 2, 3] == masks[1, 2, :, 3].max()
    assert rows[1, 2, 3] == masks[1, 2, 3].max()


def test_projection_dice_of_equal_disjoint_and_empty():
    p = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    q = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(projection_dice(p, q), torch.tensor([0.0, 1.0, 1.0]))
    half = projection_dice(torch.tensor([0.01]), torch.tensor([0.01]), floor=4e-4)
    torch.testing.assert_close(half, torch.tensor(0.5))


@pytest.mark.parametrize(
    ('size', 'expected'),
    [((320, 480), (320, 480)), ((320, 481), (160, 240)), ((512, 33), (256, 16))],
)
def test_working_size(size, expected):
    assert working_size(size) == expected


def test_neighbors():
    two, four, five, seven, nine = (set(neighbor_offsets(n, 2)) for n in (2, 4, 5, 7, 9))
    assert two == {(0, 2, 0), (0, 0, 2)}
    assert four - two == {(0, -2, 2), (0, 2, 2)}
    assert five - two == {(1, 0, 0), (1, 2, 0), (1, 0, 2)}
    assert seven - five == {(1, -2, 0), (1, 0, -2)}
    assert nine == four | seven
    with pytest.raises(ValueError, match='3'):
        neighbor_offsets(3, 2)


def test_color_similarity():
    lab = torch.tensor([[0.0, 10.0], [0.0, 3.0], [0.0, 4.0]])
    other = torch.tensor([[0.0, 10.0], [0.0, 0.0], [0.0, 0.0]])
    expected = torch.tensor([1.0, float(np.exp(-2.5))])
    torch.testing.assert_close(color_similarity(lab, other, dim=0), expected)


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 13),
    width=st.integers(1, 13),
    full=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    stride=st.integers(1, 3),
)
def test_resize_to_nodes_equals_resizing_and_striding(height, width, full, stride):
    image = torch.randn(2, 3, height, width)
    nodes = resize_to_nodes(image, full, stride)
    expected = F.interpolate(image, full, mode='bilinear')[..., ::stride, ::stride]
    assert nodes.shape[-2:] == grid_size(full, stride)
    torch.testing.assert_close(nodes, expected, atol=1e-5, rtol=1e-5)


def test_bilinear_taps_stay_inside():
    for length in (1, 2, 5):
        index, weight = bilinear_taps(length, torch.arange(17), 17)
        assert index.min() >= 0 and index.max() <= max(length - 2, 0)
        assert weight.min() >= 0 and weight.max() <= 1
