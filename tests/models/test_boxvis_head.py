from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmboxvis.apis import load_official
from mmboxvis.models.vis import BoxVIS, ClipNetwork
from mmboxvis.registry import MODELS
from mmboxvis.structures import ClipPredictions, FrameFeatures
from tests.models.tiny import NUM_CLASSES, NUM_LAYERS, NUM_QUERIES, make_network, network_cfg

FIELDS = ('cls_logits', 'mask_logits', 'embeds', 'mask_features')


@pytest.fixture(scope='module')
def released(golden: Path) -> BoxVIS:
    return load_official(golden / 'official_tiny_r50.pkl')


@pytest.fixture(scope='module')
def outputs(golden: Path) -> dict[str, Tensor]:
    with np.load(golden / 'official_tiny_r50_outputs.npz') as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


@pytest.fixture(scope='module')
def network() -> ClipNetwork:
    torch.manual_seed(0)
    return make_network().eval()


def assert_same(
    predictions: list[ClipPredictions], others: list[ClipPredictions], tolerance: float = 1e-5
) -> None:
    for one, other in zip(predictions, others, strict=True):
        for name in FIELDS:
            torch.testing.assert_close(
                getattr(one, name), getattr(other, name), atol=tolerance, rtol=tolerance
            )


class TestReleasedNumbers:
    def test_backbone(self, released: BoxVIS, outputs: dict[str, Tensor]) -> None:
        frames = released.data_preprocessor.normalize(outputs['frames_rgb'])
        with torch.no_grad():
            maps = released.student.backbone(frames)
        torch.testing.assert_close(maps[0], outputs['res2'], atol=1e-4, rtol=0)
        # res5 goes up to 2084, where float32 itself is coarser than 1e-4
        scale = outputs['res5'].abs().max()
        torch.testing.assert_close(maps[3] / scale, outputs['res5'] / scale, atol=1e-5, rtol=0)

    def test_predictions_of_every_layer(self, released: BoxVIS, outputs: dict[str, Tensor]) -> None:
        predictions = released.predict_clip(outputs['frames_rgb'])
        assert len(predictions) == len(outputs['cls_logits']) == 4
        for name in ('cls_logits', 'mask_logits'):
            ours = torch.stack([getattr(prediction, name) for prediction in predictions])
            torch.testing.assert_close(ours, outputs[name], atol=1e-4, rtol=0)
        last = predictions[-1]
        torch.testing.assert_close(last.embeds, outputs['embeds'], atol=1e-4, rtol=0)
        torch.testing.assert_close(
            last.mask_features, outputs['mask_features'][0], atol=1e-4, rtol=0
        )
        assert not last.mask_logits.requires_grad

    def test_position_code_matters(self, golden: Path, outputs: dict[str, Tensor]) -> None:
        model = load_official(golden / 'official_tiny_r50.pkl')
        model.student.track_head.decoder_positional_encoding.paired_frequencies = True
        ours = model.predict_clip(outputs['frames_rgb'])[-1].mask_logits
        assert (ours - outputs['mask_logits'][-1]).abs().max() > 1e-2


class TestShapes:
    def test_first_the_initial_queries_then_every_layer(self, network: ClipNetwork) -> None:
        predictions = network(torch.rand(2, 3, 3, 64, 96))
        assert len(predictions) == 1 + NUM_LAYERS
        for prediction in predictions:
            assert prediction.cls_logits.shape == (2, NUM_QUERIES, NUM_CLASSES + 1)
            assert prediction.mask_logits.shape == (2, NUM_QUERIES, 3, 16, 24)
            assert prediction.embeds.shape == (2, NUM_QUERIES, 32)
            assert prediction.mask_features.shape == (2, 3, 32, 16, 24)

    def test_initial_prediction_is_that_of_the_query_table(self, network: ClipNetwork) -> None:
        head = network.track_head
        first = network(torch.rand(1, 2, 3, 32, 32))[0]
        embeds = head.transformer_decoder.post_norm(head.query_feat.weight)
        torch.testing.assert_close(first.embeds[0], embeds)
        torch.testing.assert_close(first.cls_logits[0], head.cls_embed(embeds))

    def test_one_frame(self, network: ClipNetwork) -> None:
        predictions = network(torch.rand(2, 1, 3, 64, 96))
        assert predictions[-1].mask_logits.shape == (2, NUM_QUERIES, 1, 16, 24)

    def test_smallest_frames(self, network: ClipNetwork) -> None:
        assert network(torch.rand(1, 2, 3, 32, 32))[-1].mask_logits.shape[-2:] == (8, 8)

    def test_channels_that_do_not_fit_are_an_error(self) -> None:
        cfg = network_cfg()
        cfg['track_head']['feat_channels'] = 64
        with pytest.raises(ValueError, match='query decoder has 32 channels'):
            MODELS.build(cfg)


@pytest.mark.parametrize('training', [False, True], ids=['eval', 'train'])
@pytest.mark.parametrize('num_frames', [1, 3])
def test_clips_of_a_batch_do_not_mix(network: ClipNetwork, training: bool, num_frames: int) -> None:
    clips = torch.rand(2, num_frames, 3, 64, 96)
    network.train(training)
    with torch.no_grad():
        both = network(clips)
        for i in range(2):
            alone = network(clips[i : i + 1])
            assert_same([p.clip(i) for p in both], [p.clip(0) for p in alone], 1e-4)
    network.eval()


def test_train_and_eval_mode_agree(network: ClipNetwork) -> None:
    clips = torch.rand(2, 2, 3, 64, 96)
    with torch.no_grad():
        evaluated = network.eval()(clips)
        trained = network.train()(clips)
    network.eval()
    assert_same(evaluated, trained)


def test_frames_of_a_clip_do_mix(network: ClipNetwork) -> None:
    clip = torch.rand(1, 2, 3, 64, 96)
    changed = torch.cat([clip[:, :1], torch.rand(1, 1, 3, 64, 96)], 1)
    with torch.no_grad():
        first, other = network(clip)[-1], network(changed)[-1]
    assert (first.mask_logits[:, :, 0] - other.mask_logits[:, :, 0]).abs().max() > 1e-3


def test_frame_features_can_be_joined(network: ClipNetwork) -> None:
    clip = torch.rand(1, 3, 3, 64, 96)
    with torch.no_grad():
        parts = [network.encode_frames(clip[0, t : t + 1]) for t in range(3)]
        joined = network.track_head(FrameFeatures.cat(parts), 3)
        assert_same(joined, network(clip), 1e-4)


def test_last_only_is_the_last_of_all(network: ClipNetwork) -> None:
    clip = torch.rand(2, 2, 3, 64, 96)
    with torch.no_grad():
        alone = network(clip, last_only=True)
        assert len(alone) == 1
        assert_same(alone, network(clip)[-1:], 0)


class TestAttentionMask:
    def test_agrees_with_a_loop(self, network: ClipNetwork) -> None:
        head, size = network.track_head, (4, 6)
        logits = torch.randn(2, NUM_QUERIES, 3, 16, 24)
        logits[0, 1] = -1
        blocked = head._attention_mask(logits, size)
        assert blocked.shape == (2 * head.num_heads, NUM_QUERIES, 3 * 4 * 6)
        assert blocked.dtype == torch.bool
        for clip in range(2):
            for query in range(NUM_QUERIES):
                frames = [
                    F.interpolate(
                        logits[clip, query, t][None, None], size, mode='bilinear'
                    ).sigmoid()
                    for t in range(3)
                ]
                wanted = torch.cat([frame.flatten() < 0.5 for frame in frames])
                if wanted.all():
                    wanted = torch.zeros_like(wanted)
                for attention_head in range(head.num_heads):
                    row = blocked[clip * head.num_heads + attention_head, query]
                    assert torch.equal(row, wanted)

    def test_a_query_that_would_see_nothing_sees_everything(self, network: ClipNetwork) -> None:
        logits = torch.full((1, 2, 1, 8, 8), -3.0)
        logits[0, 1, 0, :2] = 3
        blocked = network.track_head._attention_mask(logits, (4, 4))
        assert not blocked[:, 0].any()
        assert blocked[0, 1].view(4, 4).int().tolist() == [[0] * 4] + [[1] * 4] * 3

    def test_one_visible_frame_keeps_the_others_blocked(self, network: ClipNetwork) -> None:
        logits = torch.full((1, 1, 2, 8, 8), -3.0)
        logits[:, :, 1] = 3
        blocked = network.track_head._attention_mask(logits, (2, 2))[0, 0].view(2, 4)
        assert blocked.tolist() == [[True] * 4, [False] * 4]

    def test_has_no_gradient(self, network: ClipNetwork) -> None:
        logits = torch.randn(1, 2, 1, 8, 8, requires_grad=True)
        assert not network.track_head._attention_mask(logits, (4, 4)).requires_grad


def test_levels_are_used_in_turn_from_low_to_high_resolution(network: ClipNetwork) -> None:
    torch.manual_seed(0)
    deep = MODELS.build(network_cfg(decoder_layers=4)).eval()
    seen = []
    for layer in deep.track_head.transformer_decoder.layers:
        layer.register_forward_pre_hook(
            lambda _, args, kwargs: seen.append(kwargs['key'].shape[1]), with_kwargs=True
        )
    with torch.no_grad():
        deep(torch.rand(1, 2, 3, 64, 96))
    assert seen == [2 * 2 * 3, 2 * 4 * 6, 2 * 8 * 12, 2 * 2 * 3]
