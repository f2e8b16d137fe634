"""The attention of the CPU against mmcv's own, which writes every sample out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmcv.ops import MultiScaleDeformableAttention
from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch
from torch import Tensor

from mmboxvis.models.layers import FusedDeformableAttention, sample_and_sum
from mmboxvis.models.layers.deformable_attention import _sample_by_grid
from mmboxvis.registry import MODELS
from tests.models.test_layers import pixel_decoder_cfg

HEADS, CHANNELS = 2, 8  # a head
LEVELS = {
    'one cell': [(1, 1)],
    'one row': [(1, 7)],
    'three levels': [(2, 3), (4, 6), (8, 12)],
}


def make_samples(
    shapes: list[tuple[int, int]], num_frames: int = 2, num_queries: int = 9, spread: float = 0.8
) -> tuple[Tensor, Tensor, Tensor]:
    """Values, locations from -spread to 1 + spread and weights, in double precision."""
    torch.manual_seed(0)
    options: dict[str, Any] = dict(dtype=torch.float64, requires_grad=True)
    num_cells = sum(h * w for h, w in shapes)
    points = (num_frames, num_queries, HEADS, len(shapes), 4)
    locations = torch.rand(*points, 2, dtype=torch.float64) * (1 + 2 * spread) - spread
    return (
        torch.randn(num_frames, num_cells, HEADS, CHANNELS, **options),
        locations.requires_grad_(),
        torch.randn(points, **options),
    )


def ours(
    shapes: list[tuple[int, int]], values: Tensor, locations: Tensor, weights: Tensor
) -> Tensor:
    """``sample_and_sum`` with mmcv's locations, 0 to 1."""
    size = torch.tensor([(w, h) for h, w in shapes])[:, None]
    x, y = (locations * size - 0.5).unbind(-1)
    return sample_and_sum(values, shapes, x, y, weights)


class TestSampleAndSum:
    @pytest.mark.parametrize('spread', [0.0, 0.8], ids=['inside', 'inside and outside'])
    @pytest.mark.parametrize('shapes', LEVELS.values(), ids=LEVELS)
    def test_values_and_gradients_are_mmcvs(
        self, shapes: list[tuple[int, int]], spread: float
    ) -> None:
        samples = make_samples(shapes, spread=spread)
        found = ours(shapes, *samples)
        wanted = multi_scale_deformable_attn_pytorch(
            samples[0], torch.tensor(shapes), samples[1], samples[2]
        )
        torch.testing.assert_close(found, wanted)
        weight = torch.randn_like(wanted)
        gradients = (torch.autograd.grad((x * weight).sum(), samples) for x in (found, wanted))
        for one, other in zip(*gradients):
            torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-7)

    def test_gradients_are_those_of_differences(self) -> None:
        shapes = LEVELS['three levels'][:2]
        samples = make_samples(shapes, num_frames=1, num_queries=2)
        assert torch.autograd.gradcheck(lambda *args: ours(shapes, *args), samples)

    def test_far_outside_is_nothing(self) -> None:
        shapes = LEVELS['three levels']
        values, locations, weights = make_samples(shapes)
        for shift in (3.0, -3.0, 1e6):
            moved = locations.detach() + shift
            assert not ours(shapes, values, moved.requires_grad_(), weights).any()
            (slope,) = torch.autograd.grad(ours(shapes, values, moved, weights).sum(), moved)
            assert not slope.any()

    @pytest.mark.parametrize('broken', [float('nan'), float('inf')])
    def test_broken_positions_break_their_query_alone(self, broken: float) -> None:
        shapes = LEVELS['three levels']
        values, locations, weights = (x.detach() for x in make_samples(shapes))
        wanted = ours(shapes, values, locations, weights)
        locations[1, 2, 0, 1, 3] = broken
        found = ours(shapes, values, locations, weights)
        if broken != broken:
            assert found[1, 2, :CHANNELS].isnan().all()
        found[1, 2] = wanted[1, 2]
        torch.testing.assert_close(found, wanted)

    def test_on_a_cell_is_the_cell(self) -> None:
        values = torch.arange(6.0).view(1, 6, 1, 1)
        x, y, weight = (
            torch.tensor([v]).view(1, 1, 1, 1, 1) for v in (2.0, 1.0, 3.0)
        )  # of a 2x3 map
        assert sample_and_sum(values, [(2, 3)], x, y, weight).item() == 3 * 5

    def test_by_grid_it_is_the_same(self) -> None:
        shapes = LEVELS['three levels']
        values, locations, weights = make_samples(shapes)
        x, y = (locations * torch.tensor([(w, h) for h, w in shapes])[:, None] - 0.5).unbind(-1)
        found = _sample_by_grid(values, shapes, x, y, weights)
        torch.testing.assert_close(found, sample_and_sum(values, shapes, x, y, weights))

    def test_no_query(self) -> None:
        shapes = LEVELS['three levels']
        assert ours(shapes, *make_samples(shapes, num_queries=0)).shape == (2, 0, HEADS * CHANNELS)

    def test_only_what_wants_a_gradient_gets_one(self) -> None:
        shapes = LEVELS['three levels']
        samples = make_samples(shapes)
        for wanted in range(3):
            used = [s if i == wanted else s.detach() for i, s in enumerate(samples)]
            (alone,) = torch.autograd.grad(ours(shapes, *used).sum(), used[wanted])
            (together,) = torch.autograd.grad(ours(shapes, *samples).sum(), samples[wanted])
            torch.testing.assert_close(alone, together)

    def test_slices_of_larger_tensors(self) -> None:
        shapes = LEVELS['three levels']
        values, locations, weights = make_samples(shapes)
        wide = torch.cat([values, values], -1)[..., :CHANNELS]
        torch.testing.assert_close(
            ours(shapes, wide, locations, weights), ours(shapes, values, locations, weights)
        )


class TestModule:
    SHAPES = LEVELS['three levels']

    def pair(self, **kwargs: Any) -> tuple[FusedDeformableAttention, MultiScaleDeformableAttention]:
        torch.manual_seed(0)
        settings = dict(embed_dims=16, num_heads=2, num_levels=3, num_points=4, dropout=0.0)
        theirs = MultiScaleDeformableAttention(**{**settings, **kwargs})
        for parameter in theirs.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        module = MODELS.build(dict(type='FusedDeformableAttention', **{**settings, **kwargs}))
        assert module.load_state_dict(theirs.state_dict(), strict=True)
        return module, theirs

    def arguments(self, last: int = 2, num_frames: int = 2) -> dict[str, Any]:
        num_cells = sum(h * w for h, w in self.SHAPES)
        return dict(
            query=torch.randn(num_frames, num_cells, 16),
            query_pos=torch.randn(num_frames, num_cells, 16),
            reference_points=torch.rand(num_frames, num_cells, 3, last),
            spatial_shapes=torch.tensor(self.SHAPES),
            level_start_index=torch.tensor([0, 6, 30]),
            key_padding_mask=torch.rand(num_frames, num_cells) < 0.2,
        )

    @pytest.mark.parametrize('batch_first', [True, False])
    @pytest.mark.parametrize('last', [2, 4], ids=['points', 'boxes'])
    def test_agrees_with_mmcvs(self, batch_first: bool, last: int) -> None:
        module, theirs = self.pair(batch_first=batch_first)
        arguments = self.arguments(last)
        if not batch_first:
            for name in ('query', 'query_pos'):
                arguments[name] = arguments[name].transpose(0, 1)
        found, wanted = module(**arguments), theirs(**arguments)
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
        weight = torch.randn_like(found)
        gradients = (
            torch.autograd.grad((out * weight).sum(), list(owner.parameters()))
            for out, owner in ((found, module), (wanted, theirs))
        )
        for one, other in zip(*gradients, strict=True):
            scale = other.abs().max()
            torch.testing.assert_close(one / scale, other / scale, atol=1e-4, rtol=0)

    def test_shapes_may_be_plain_numbers(self) -> None:
        module, _ = self.pair(batch_first=True)
        arguments = self.arguments()
        plain = {**arguments, 'level_shapes': self.SHAPES}
        assert torch.equal(module(**plain), module(**arguments))

    @pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
    def test_gpu_agrees_with_cpu(self) -> None:
        module, _ = self.pair(batch_first=True)
        arguments = self.arguments()
        on_gpu = {name: value.cuda() for name, value in arguments.items()}
        wanted = module(**arguments)
        torch.testing.assert_close(module.cuda()(**on_gpu).cpu(), wanted, atol=1e-3, rtol=1e-3)


def test_pixel_decoder_takes_the_attention_its_config_names() -> None:
    cfg = pixel_decoder_cfg()
    default = MODELS.build(dict(type='FrameFeaturesPixelDecoder', **cfg))
    cfg['encoder']['layer_cfg']['self_attn_cfg']['type'] = 'MultiScaleDeformableAttention'
    stock = MODELS.build(dict(type='FrameFeaturesPixelDecoder', **cfg))
    for decoder, kind in (
        (default, FusedDeformableAttention),
        (stock, MultiScaleDeformableAttention),
    ):
        assert [type(layer.self_attn) for layer in decoder.encoder.layers] == [kind] * 2
    assert stock.load_state_dict(default.state_dict(), strict=True)
    assert cfg['encoder']['layer_cfg']['self_attn_cfg']['type']  # not edited
