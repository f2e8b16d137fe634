from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.layers import MSDeformAttnPixelDecoder
from mmdet.models.layers import SinePositionalEncoding3D as MMDetPositionalEncoding3D
from mmengine.config import ConfigDict
from torch import Tensor

from mmboxvis.models.layers import FrameFeaturesPixelDecoder, SinePositionalEncoding3D
from mmboxvis.registry import MODELS

CHANNELS = 32


def code_by_loops(shape: tuple[int, int, int], num_feats: int, paired: bool) -> Tensor:
    """(T, 2 * num_feats, h, w), every value on its own."""

    def value(position: int, length: int, channel: int, channels: int) -> float:
        angle = (position + 1) / (length + 1e-6) * 2 * math.pi
        exponent = 2 * (channel // 2) if paired else channel
        angle /= 10000 ** (exponent / channels)
        return math.sin(angle) if channel % 2 == 0 else math.cos(angle)

    num_frames, height, width = shape
    code = torch.zeros(num_frames, 2 * num_feats, height, width)
    for t in range(num_frames):
        for y in range(height):
            for x in range(width):
                for channel in range(2 * num_feats):
                    position, length = (y, height) if channel < num_feats else (x, width)
                    code[t, channel, y, x] = value(
                        position, length, channel % num_feats, num_feats
                    ) + value(t, num_frames, channel, 2 * num_feats)
    return code


class TestSinePositionalEncoding3D:
    def test_released_numbers(self, golden: Path) -> None:
        with np.load(golden / 'position_3d_boxvis.npz') as arrays:
            shape, wanted = tuple(arrays['shape']), torch.from_numpy(arrays['code'])
        encoding = SinePositionalEncoding3D(128, normalize=True, paired_frequencies=False)
        code = encoding(torch.zeros(shape, dtype=torch.bool))
        torch.testing.assert_close(code, wanted, atol=1e-5, rtol=0)

    @pytest.mark.parametrize('paired', [False, True])
    @pytest.mark.parametrize('shape', [(1, 1, 1), (1, 2, 3), (3, 3, 2)])
    def test_agrees_with_loops(self, shape: tuple[int, int, int], paired: bool) -> None:
        encoding = SinePositionalEncoding3D(4, normalize=True, paired_frequencies=paired)
        code = encoding(torch.zeros(1, *shape, dtype=torch.bool))[0]
        torch.testing.assert_close(code, code_by_loops(shape, 4, paired), atol=1e-5, rtol=0)

    @settings(deadline=None, max_examples=25)
    @given(
        shape=st.tuples(*[st.integers(1, 4)] * 4),
        normalize=st.booleans(),
        offset=st.sampled_from([0.0, -0.5]),
        ignored=st.floats(0, 0.5),
    )
    def test_paired_is_mmdets(
        self, shape: tuple[int, int, int, int], normalize: bool, offset: float, ignored: float
    ) -> None:
        mask = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < ignored
        ours = SinePositionalEncoding3D(6, normalize=normalize, offset=offset)
        theirs = MMDetPositionalEncoding3D(6, normalize=normalize, offset=offset)
        torch.testing.assert_close(ours(mask), theirs(mask))

    def test_flavours_differ(self) -> None:
        mask = torch.zeros(1, 2, 3, 4, dtype=torch.bool)
        paired, unpaired = (
            SinePositionalEncoding3D(8, normalize=True, paired_frequencies=flag)(mask)
            for flag in (True, False)
        )
        # channels with an even number keep their frequency
        torch.testing.assert_close(paired[:, :, 0::2], unpaired[:, :, 0::2])
        assert (paired[:, :, 1::2] - unpaired[:, :, 1::2]).abs().max() > 0.05

    @pytest.mark.parametrize('paired', [False, True])
    @pytest.mark.parametrize('num_frames', [1, 3])
    def test_is_the_sum_of_its_parts(self, num_frames: int, paired: bool) -> None:
        encoding = SinePositionalEncoding3D(8, normalize=True, paired_frequencies=paired)
        whole = encoding(torch.zeros(1, num_frames, 4, 5, dtype=torch.bool))[0]
        parts = encoding.frame_code((4, 5)) + encoding.time_code(num_frames)[..., None, None]
        torch.testing.assert_close(parts, whole)

    def test_odd_number_of_channels_is_an_error(self) -> None:
        with pytest.raises(ValueError, match='even'):
            SinePositionalEncoding3D(5)

    def test_mask_without_a_batch_is_an_error(self) -> None:
        with pytest.raises(ValueError, match=r'\(B, T, h, w\)'):
            SinePositionalEncoding3D(4)(torch.zeros(2, 3, 4, dtype=torch.bool))


def pixel_decoder_cfg() -> dict:
    return dict(
        in_channels=[8, 16, 24, 40],
        feat_channels=CHANNELS,
        out_channels=16,
        encoder=dict(
            num_layers=2,
            layer_cfg=dict(
                self_attn_cfg=dict(
                    embed_dims=CHANNELS,
                    num_heads=4,
                    num_levels=3,
                    num_points=4,
                    dropout=0.0,
                    batch_first=True,
                ),
                ffn_cfg=dict(
                    embed_dims=CHANNELS,
                    feedforward_channels=48,
                    num_fcs=2,
                    ffn_drop=0.0,
                    act_cfg=dict(type='ReLU', inplace=True),
                ),
            ),
        ),
        positional_encoding=dict(num_feats=CHANNELS // 2, normalize=True),
    )


def make_maps(num_frames: int, height: int = 16, width: int = 24) -> list[Tensor]:
    return [
        torch.randn(num_frames, channels, height // 2**i, width // 2**i)
        for i, channels in enumerate((8, 16, 24, 40))
    ]


@pytest.fixture(scope='module')
def decoders() -> tuple[FrameFeaturesPixelDecoder, MSDeformAttnPixelDecoder]:
    """Ours and mmdet's with the same random tensors."""
    torch.manual_seed(0)
    theirs = MSDeformAttnPixelDecoder(**ConfigDict(pixel_decoder_cfg()))
    theirs.init_weights()
    for parameter in theirs.encoder.parameters():
        # otherwise the attention starts out uniform
        torch.nn.init.normal_(parameter, std=0.2)
    ours = MODELS.build(dict(type='FrameFeaturesPixelDecoder', **pixel_decoder_cfg()))
    assert ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours.eval(), theirs.eval()


Decoders = tuple[FrameFeaturesPixelDecoder, MSDeformAttnPixelDecoder]


class TestFrameFeaturesPixelDecoder:
    @pytest.mark.parametrize(('num_frames', 'size'), [(1, (16, 8)), (3, (16, 24)), (2, (24, 40))])
    def test_same_numbers_as_mmdets(
        self, decoders: Decoders, num_frames: int, size: tuple[int, int]
    ) -> None:
        ours, theirs = decoders
        maps = make_maps(num_frames, *size)
        with torch.no_grad():
            features = ours(maps)
            mask_feature, multi_scale = theirs(maps)
        torch.testing.assert_close(features.mask_embeds, mask_feature, atol=1e-5, rtol=1e-5)
        for level, their_level in zip(features.multi_scale, multi_scale, strict=True):
            torch.testing.assert_close(level, their_level, atol=1e-5, rtol=1e-5)

    def test_gradients_are_mmdets(self, decoders: Decoders) -> None:
        maps = make_maps(2)
        gradients = []
        for decoder in decoders:
            decoder.zero_grad()
            out = decoder(maps)
            embeds, levels = (out.mask_embeds, out.multi_scale) if decoder is decoders[0] else out
            (embeds.square().mean() + sum(level.abs().mean() for level in levels)).backward()
            gradients.append({name: p.grad for name, p in decoder.named_parameters()})
        for name, gradient in gradients[1].items():
            torch.testing.assert_close(gradients[0][name], gradient, atol=1e-5, rtol=1e-3)

    def test_mask_embeds_are_a_projection_of_mask_features(self, decoders: Decoders) -> None:
        ours = decoders[0]
        with torch.no_grad():
            features = ours(make_maps(2))
            assert features.mask_features.shape == (2, CHANNELS, 16, 24)
            assert (features.mask_features >= 0).all()  # the last layer is a ReLU
            weight = ours.mask_feature.weight[:, :, 0, 0]
            projected = torch.einsum('oc,fchw->fohw', weight, features.mask_features)
            projected = projected + ours.mask_feature.bias[:, None, None]
        torch.testing.assert_close(features.mask_embeds, projected, atol=1e-5, rtol=1e-5)

    def test_levels_from_low_to_high_resolution(self, decoders: Decoders) -> None:
        with torch.no_grad():
            features = decoders[0](make_maps(1))
        assert [level.shape[-2:] for level in features.multi_scale] == [(2, 3), (4, 6), (8, 12)]

    def test_frames_do_not_mix(self, decoders: Decoders) -> None:
        maps = make_maps(3)
        with torch.no_grad():
            together = decoders[0](maps)
            alone = decoders[0]([level[1:2] for level in maps])
        torch.testing.assert_close(
            together.mask_embeds[1:2], alone.mask_embeds, atol=1e-5, rtol=1e-5
        )

    def test_stays_in_float32_under_autocast(self, decoders: Decoders) -> None:
        maps = make_maps(1)
        with torch.no_grad():
            wanted = decoders[0](maps)
            with torch.autocast('cpu', dtype=torch.bfloat16):
                got = decoders[0](maps)
                halves = decoders[0]([level.bfloat16() for level in maps])
        assert torch.equal(got.mask_embeds, wanted.mask_embeds)
        assert torch.equal(got.mask_features, wanted.mask_features)
        for level, wanted_level in zip(got.multi_scale, wanted.multi_scale, strict=True):
            assert torch.equal(level, wanted_level)
        assert halves.mask_embeds.dtype == torch.float32
        torch.testing.assert_close(halves.mask_embeds, wanted.mask_embeds, atol=0.1, rtol=0.1)

    def test_keeps_double_precision(self, decoders: Decoders) -> None:
        maps = make_maps(1)
        with torch.no_grad():
            wanted = decoders[0](maps)
            found = copy.deepcopy(decoders[0]).double()([level.double() for level in maps])
        assert found.mask_embeds.dtype == torch.float64
        for one, other in zip(
            (found.mask_embeds, *found.multi_scale), (wanted.mask_embeds, *wanted.multi_scale)
        ):
            torch.testing.assert_close(one.float(), other, atol=1e-4, rtol=1e-4)
