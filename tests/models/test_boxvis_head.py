from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mmboxvis.apis import load_official
from mmboxvis.models.heads.boxvis_head import _visible
from mmboxvis.models.layers.query_decoder import ProjectedCrossAttention
from mmboxvis.models.vis import BoxVIS, ClipNetwork
from mmboxvis.registry import MODELS
from mmboxvis.structures import ClipPredictions, DecoderInputs, FrameFeatures
from tests.models.tiny import NUM_CLASSES, NUM_LAYERS, NUM_QUERIES, make_network, network_cfg
from tests.reference import query_decoder as reference
from tests.reference.query_decoder import plain_decoder

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


class TestAgainstThePlainDecoder:
    """In double precision, so that no attention mask hangs on rounding."""

    @pytest.mark.parametrize('num_frames', [1, 3])
    def test_predictions_and_gradients(self, num_frames: int) -> None:
        torch.manual_seed(0)
        head = make_network(decoder_layers=4).double().track_head
        decoder = plain_decoder(head)
        features = random_features(2 * num_frames)
        wanted = reference.predict(head, decoder, features, num_frames)
        found = head(features, num_frames)
        assert_same(found, wanted, 1e-6)
        # some queries see part of a clip, otherwise nothing was tried
        inside = (wanted[0].mask_logits > 0).double().mean()
        assert 0.2 < inside < 0.8

        inputs = [features.mask_embeds, *features.multi_scale]
        tables = [head.query_feat.weight, head.query_embed.weight, head.level_embed.weight]
        weights = [torch.rand_like(layer.mask_logits) for layer in wanted]
        layers = ((head.transformer_decoder, found), (decoder, wanted))
        ours, theirs = (
            torch.autograd.grad(
                sum((layer.mask_logits * w).mean() for layer, w in zip(predictions, weights)),
                [*inputs, *tables, *module.parameters()],
            )
            for module, predictions in layers
        )
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-4)

    def test_frames_prepared_one_by_one(self) -> None:
        torch.manual_seed(0)
        head = make_network().double().track_head
        features = random_features(3)
        with torch.no_grad():
            parts = [head.decoder_inputs(one_frame(features, t)) for t in range(3)]
            found = head.decode(DecoderInputs.cat(parts), 3)
            wanted = reference.predict(head, plain_decoder(head), features, 3)
        assert_same(found, wanted, 1e-6)


def one_frame(features: FrameFeatures, t: int) -> FrameFeatures:
    levels = tuple(level[t : t + 1] for level in features.multi_scale)
    return FrameFeatures(features.mask_embeds[t : t + 1], features.mask_features[t : t + 1], levels)


def random_features(num_frames: int) -> FrameFeatures:
    """Double precision, of frames of 64x96 pixels, with gradients."""

    def maps(height: int, width: int) -> Tensor:
        values = torch.randn(num_frames, 32, height, width, dtype=torch.float64)
        return values.requires_grad_()

    return FrameFeatures(maps(16, 24), maps(16, 24), (maps(2, 3), maps(4, 6), maps(8, 12)))


class TestVisible:
    def test_a_query_that_would_see_nothing_sees_everything(self) -> None:
        logits = torch.full((1, 2, 1, 4), -3.0)
        logits[0, 1, 0, 1] = 3
        assert _visible(logits).int().tolist() == [[[1, 1, 1, 1], [0, 1, 0, 0]]]

    def test_one_visible_frame_keeps_the_others_blocked(self) -> None:
        logits = torch.full((1, 1, 2, 2), -3.0)
        logits[:, :, 1] = 3
        assert _visible(logits).int().tolist() == [[[0, 0, 1, 1]]]

    def test_a_logit_of_zero_is_visible(self) -> None:
        logits = torch.tensor([0.0, -1.0, 1.0]).view(1, 1, 1, 3)
        assert _visible(logits).int().tolist() == [[[1, 0, 1]]]


def test_attention_over_channels_of_its_own_is_an_error() -> None:
    with pytest.raises(ValueError, match='kdim'):
        ProjectedCrossAttention(32, 4, batch_first=True, kdim=16)
    with pytest.raises(ValueError, match='batch_first'):
        ProjectedCrossAttention(32, 4)


def test_levels_are_used_in_turn_from_low_to_high_resolution(network: ClipNetwork) -> None:
    torch.manual_seed(0)
    deep = MODELS.build(network_cfg(decoder_layers=4)).eval()
    seen = []
    for layer in deep.track_head.transformer_decoder.layers:
        layer.register_forward_pre_hook(lambda _, args: seen.append(args[1].flatten(1, 2).shape[1]))
    with torch.no_grad():
        deep(torch.rand(1, 2, 3, 64, 96))
    assert seen == [2 * 2 * 3, 2 * 4 * 6, 2 * 8 * 12, 2 * 2 * 3]
