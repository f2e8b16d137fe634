from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from pycocotools import mask as mask_utils
from torch import Tensor

from mmboxvis.models.vis import BoxVIS, VideoPredictor
from mmboxvis.models.vis.video_predictor import TrackedFrame
from mmboxvis.structures import VideoPrediction
from tests.models.tiny import NUM_QUERIES, make_boxvis, make_video
from tests.reference.clip_inference import Track, clip_starts, infer_video

ORIGINAL = (90, 140)
SIZE = (60, 90)  # padded to 64 x 96
CLIPS = [(length, stride) for length in (1, 2, 3) for stride in range(1, length + 1)]


@pytest.fixture(scope='module')
def model() -> BoxVIS:
    torch.manual_seed(0)
    return make_boxvis(pseudo_masks=None).eval()


def decode(prediction: VideoPrediction, track: int) -> Tensor:
    """(V, H0, W0) bool."""
    empty = np.zeros(prediction.size, np.uint8)
    frames = [mask_utils.decode(rle) if rle else empty for rle in prediction.segmentations[track]]
    return torch.from_numpy(np.stack(frames)).bool()


def assert_is(prediction: VideoPrediction, tracks: list[Track]) -> None:
    wanted = {(track.query, track.label): track for track in tracks}
    found = list(zip(prediction.track_ids.tolist(), prediction.labels.tolist(), strict=True))
    assert len(set(found)) == len(found)
    assert set(found) == set(wanted)
    assert (np.diff(prediction.scores) <= 0).all()
    for i, pair in enumerate(found):
        track = wanted[pair]
        assert prediction.scores[i] == pytest.approx(track.score, abs=1e-4)
        assert len(prediction.segmentations[i]) == len(track.logits)
        sure = track.logits.abs() > 1e-3
        assert torch.equal(decode(prediction, i)[sure], (track.logits > 0)[sure])


class TestEmptyAndShort:
    def test_no_frame(self, model: BoxVIS) -> None:
        prediction = VideoPredictor(model)([], video_id=3, ori_shape=ORIGINAL)
        assert prediction.video_id == 3
        assert prediction.num_frames == 0
        assert len(prediction.labels) == len(prediction.scores) == len(prediction.track_ids) == 0
        assert prediction.segmentations == []
        assert prediction.to_json([1, 2, 3, 4]) == []

    def test_black_frame(self, model: BoxVIS) -> None:
        frames = [np.zeros((*SIZE, 3), np.uint8)]
        prediction = VideoPredictor(model)(frames, ori_shape=ORIGINAL)
        assert_is(prediction, infer_video(model, frames, ORIGINAL))

    def test_videos_do_not_influence_each_other(self, model: BoxVIS) -> None:
        predictor = VideoPredictor(model)
        first = predictor(make_video(4, SIZE), ori_shape=ORIGINAL)
        predictor(make_video(2, (40, 40), seed=1), ori_shape=(50, 50))
        again = predictor(make_video(4, SIZE), ori_shape=ORIGINAL)
        assert again.segmentations == first.segmentations
        assert np.array_equal(again.scores, first.scores)


@pytest.mark.parametrize(('length', 'stride'), CLIPS)
@pytest.mark.parametrize('num_frames', [1, 2, 3, 4, 7])
def test_agrees_with_inference_over_the_whole_video(
    model: BoxVIS, num_frames: int, length: int, stride: int
) -> None:
    frames = make_video(num_frames, SIZE)
    predictor = VideoPredictor(model, clip_length=length, clip_stride=stride)
    prediction = predictor(frames, ori_shape=ORIGINAL)
    assert prediction.num_frames == num_frames
    assert prediction.size == ORIGINAL
    tracks = infer_video(model, frames, ORIGINAL, clip_length=length, clip_stride=stride)
    assert_is(prediction, tracks)
    # the comparison would mean little if nothing or everything were covered
    covered = torch.stack([track.logits > 0 for track in tracks]).float().mean()
    assert 0.02 < covered < 0.98
    assert max(track.score for track in tracks) > 0.05


@pytest.mark.parametrize('ori_shape', [(30, 45), (60, 90), (240, 180)])
def test_masks_have_the_original_size(model: BoxVIS, ori_shape: tuple[int, int]) -> None:
    frames = make_video(3, SIZE)
    prediction = VideoPredictor(model)(frames, ori_shape=ori_shape)
    assert_is(prediction, infer_video(model, frames, ori_shape))
    for masks in prediction.segmentations:
        for rle in masks:
            assert rle is None or tuple(rle['size']) == ori_shape


def test_empty_masks_are_none(model: BoxVIS) -> None:
    prediction = VideoPredictor(model)(make_video(3, SIZE), ori_shape=ORIGINAL)
    entries = [rle for masks in prediction.segmentations for rle in masks]
    assert all(rle is None or mask_utils.area(rle) > 0 for rle in entries)
    assert all(isinstance(rle['counts'], str) for rle in entries if rle)


def test_a_mask_too_unsure_to_be_drawn_lowers_the_score(
    model: BoxVIS, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = VideoPredictor(model)
    settled = [
        TrackedFrame(t, SIZE, torch.full((1, 16, 24), logit), torch.tensor([0]), None)
        for t, logit in enumerate((2.0, -0.5))
    ]
    monkeypatch.setattr(predictor, 'stream', lambda frames: iter(settled))
    monkeypatch.setattr(predictor.tracker, 'scores', lambda: torch.tensor([[0.8]]))
    prediction = predictor([], ori_shape=ORIGINAL)
    ((drawn, nothing),) = prediction.segmentations
    assert drawn and nothing is None
    assert prediction.scores.tolist() == pytest.approx([0.4])


def test_classes_of_one_track_share_their_masks(model: BoxVIS) -> None:
    """The checker of results reads a list once, by its identity."""
    prediction = VideoPredictor(model)(make_video(3, SIZE), ori_shape=ORIGINAL)
    lists = {id(masks) for masks in prediction.segmentations}
    assert len(lists) == len(set(prediction.track_ids.tolist())) < len(prediction.labels)


def test_masks_can_be_enlarged_in_parts(model: BoxVIS, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = make_video(3, SIZE)
    whole = VideoPredictor(model)(frames, ori_shape=ORIGINAL)
    monkeypatch.setattr('mmboxvis.models.vis.video_predictor._MAX_PIXELS', 1)
    parts = VideoPredictor(model)(frames, ori_shape=ORIGINAL)
    assert parts.segmentations == whole.segmentations
    assert np.array_equal(parts.scores, whole.scores)


class TestBuffer:
    @pytest.mark.parametrize('buffer_frames', [1, 2, 5])
    def test_flushing_everything_changes_nothing(self, model: BoxVIS, buffer_frames: int) -> None:
        frames = make_video(9, SIZE)
        whole = VideoPredictor(model)(frames, ori_shape=ORIGINAL)
        options = dict(buffer_frames=buffer_frames, exact_frames=buffer_frames, prune_score=0)
        predictor = VideoPredictor(model, **options, prune_best=1)
        flushed = predictor(frames, ori_shape=ORIGINAL)
        assert flushed.segmentations == whole.segmentations
        assert np.array_equal(flushed.scores, whole.scores)
        assert np.array_equal(flushed.labels, whole.labels)
        assert np.array_equal(flushed.track_ids, whole.track_ids)

    def test_pruning_encodes_fewer(self, model: BoxVIS) -> None:
        options = dict(buffer_frames=1, exact_frames=1, prune_score=0.99, prune_best=2)
        predictor = VideoPredictor(model, **options)
        predictor(make_video(5, SIZE), ori_shape=ORIGINAL)
        assert len(predictor._promising()) == 2

    def test_the_rest_of_a_pruned_video_is_encoded_for_all_that_are_reported(
        self, model: BoxVIS, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Frames 0 to 3 go before the video ends; of the last three everything is known."""
        frames = make_video(7, SIZE)
        whole = VideoPredictor(model)(frames, ori_shape=ORIGINAL)
        monkeypatch.setattr(VideoPredictor, '_promising', lambda self: set())
        pruned = VideoPredictor(model, buffer_frames=3, exact_frames=3)(frames, ori_shape=ORIGINAL)
        tracks = {int(track): i for i, track in enumerate(whole.track_ids)}
        assert set(pruned.track_ids.tolist()) == set(tracks)
        for track, masks in zip(pruned.track_ids.tolist(), pruned.segmentations, strict=True):
            assert masks[:4] == [None] * 4
            assert masks[4:] == whole.segmentations[tracks[track]][4:]
        assert any(masks[-1] for masks in pruned.segmentations)

    def test_no_more_frames_are_kept(self, model: BoxVIS) -> None:
        predictor = VideoPredictor(model, buffer_frames=3, exact_frames=5)
        lengths = []
        encode = predictor._encode

        def count(buffer: Any, *args: Any) -> None:
            lengths.append(len(buffer))
            encode(buffer, *args)

        predictor._encode = count  # type: ignore[method-assign]
        predictor(make_video(12, SIZE), ori_shape=ORIGINAL)
        assert lengths == [6, 4, 2]

    def test_a_track_that_rises_late_has_all_its_masks(
        self, model: BoxVIS, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A video that is kept to its end asks nobody before what may be worth it."""
        frames = make_video(9, SIZE)
        whole = VideoPredictor(model)(frames, ori_shape=ORIGINAL)
        monkeypatch.setattr(VideoPredictor, '_promising', lambda self: set())
        kept = VideoPredictor(model, buffer_frames=3, exact_frames=9)(frames, ori_shape=ORIGINAL)
        assert kept.segmentations == whole.segmentations
        assert np.array_equal(kept.scores, whole.scores)
        assert any(rle for masks in whole.segmentations for rle in masks)


class TestStream:
    @pytest.mark.parametrize(('length', 'stride'), CLIPS)
    @pytest.mark.parametrize('num_frames', [1, 2, 5])
    def test_each_frame_is_encoded_and_returned_once(
        self,
        model: BoxVIS,
        monkeypatch: pytest.MonkeyPatch,
        num_frames: int,
        length: int,
        stride: int,
    ) -> None:
        encoded: list[Tensor] = []
        encode_frames = model.student.encode_frames

        def count(frames: Tensor) -> Any:
            encoded.append(frames)
            return encode_frames(frames)

        decoded: list[int] = []
        decode = model.student.track_head.decode

        def count_clips(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            decoded.append(len(inputs))
            return decode(inputs, *args, **kwargs)

        monkeypatch.setattr(model.student, 'encode_frames', count)
        monkeypatch.setattr(model.student.track_head, 'decode', count_clips)
        predictor = VideoPredictor(model, clip_length=length, clip_stride=stride)
        frames = list(predictor.stream(make_video(num_frames, SIZE)))
        assert [frame.index for frame in frames] == list(range(num_frames))
        assert [len(batch) for batch in encoded] == [1] * num_frames
        assert decoded == [length] * len(clip_starts(num_frames, length, stride))
        for frame in frames:
            assert frame.size == SIZE
            assert frame.mask_logits.shape == (NUM_QUERIES, 16, 24)
            assert frame.track_ids.tolist() == list(range(NUM_QUERIES))

    def test_frames_leave_as_soon_as_they_are_settled(self, model: BoxVIS) -> None:
        read: list[int] = []

        def endless() -> Iterator[np.ndarray]:
            (frame,) = make_video(1, SIZE)
            while True:
                read.append(len(read))
                yield frame

        for frame in VideoPredictor(model).stream(endless()):
            # the last clip that covers frame i ends with frame i + 2
            assert len(read) == frame.index + 3
            if frame.index == 4:
                break

    @pytest.mark.parametrize(('length', 'stride'), CLIPS)
    @pytest.mark.parametrize('num_frames', [1, 5])
    def test_can_be_taken_up_again(
        self, model: BoxVIS, num_frames: int, length: int, stride: int
    ) -> None:
        frames = make_video(num_frames, SIZE)
        predictor = VideoPredictor(model, clip_length=length, clip_stride=stride)
        logits: list[Tensor] = []
        stops = []
        for settled, position in predictor.stream_clips(frames):
            logits.extend(frame.mask_logits for frame in settled)
            stops.append((position, copy.deepcopy(predictor.tracker)))
        assert len(logits) == num_frames
        scores = predictor.tracker.scores()
        for position, tracker in stops:
            later = VideoPredictor(model, clip_length=length, clip_stride=stride)
            later.tracker = tracker
            first = position.seen - later.num_replayed(position)
            rest = [
                frame
                for settled, _ in later.stream_clips(frames[first:], position)
                for frame in settled
            ]
            assert [frame.index for frame in rest] == list(range(position.finished, num_frames))
            for frame in rest:
                assert torch.equal(frame.mask_logits, logits[frame.index])
            assert torch.equal(tracker.scores(), scores)

    def test_has_no_gradient(self, model: BoxVIS) -> None:
        frames = VideoPredictor(model).stream(make_video(3, SIZE))
        assert not any(frame.mask_logits.requires_grad for frame in frames)


class TestOverlapTracker:
    @pytest.mark.parametrize('num_frames', [1, 3, 6])
    def test_gives_every_frame(self, model: BoxVIS, num_frames: int) -> None:
        predictor = VideoPredictor(model, tracker=dict(type='OverlapTracker'))
        prediction = predictor(make_video(num_frames, SIZE), ori_shape=ORIGINAL)
        assert prediction.num_frames == num_frames
        assert len(prediction.labels) > 0
        assert (np.diff(prediction.scores) <= 0).all()
        assert all(len(masks) == num_frames for masks in prediction.segmentations)
        # the last frame has its masks, too
        assert any(masks[-1] for masks in prediction.segmentations)

    def test_frames_without_any_track(self, model: BoxVIS) -> None:
        tracker = dict(type='OverlapTracker', lose_last_frame=True)
        prediction = VideoPredictor(model, tracker=tracker)(make_video(4, SIZE), ori_shape=ORIGINAL)
        assert prediction.num_frames == 4
        assert len(prediction.labels) > 0
        assert not any(masks[-1] for masks in prediction.segmentations)


@pytest.mark.parametrize('scope', [None, 'mmdet', 'mmengine'])
def test_works_whatever_the_default_scope(
    model: BoxVIS, monkeypatch: pytest.MonkeyPatch, scope: str | None
) -> None:
    monkeypatch.setattr(DefaultScope, '_instance_dict', OrderedDict())
    if scope:
        DefaultScope.get_instance('test', scope_name=scope)
    for tracker in (None, dict(type='QueryTracker', memory_clips=1)):
        predictor = VideoPredictor(model, tracker=tracker)
        assert predictor(make_video(2, SIZE), ori_shape=ORIGINAL).num_frames == 2


def test_mixed_precision_is_close(model: BoxVIS) -> None:
    frames = make_video(3, SIZE)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        prediction = VideoPredictor(model)(frames, ori_shape=ORIGINAL)
    assert np.isfinite(prediction.scores).all()
    best = infer_video(model, frames, ORIGINAL)[0]
    pairs = list(zip(prediction.track_ids, prediction.labels))
    found = decode(prediction, pairs.index((best.query, best.label)))
    agree = (found == (best.logits > 0)).float().mean()
    assert agree > 0.9


class TestErrors:
    def test_frames_of_changing_size(self, model: BoxVIS) -> None:
        frames = [*make_video(2, SIZE), *make_video(1, (50, 90))]
        with pytest.raises(ValueError, match=r'frame 2 has 90x50 pixels.*90x60'):
            VideoPredictor(model)(frames, ori_shape=ORIGINAL)

    @pytest.mark.parametrize(('length', 'stride'), [(3, 4), (3, 0), (0, 0), (1, 2)])
    def test_stride_out_of_range(self, model: BoxVIS, length: int, stride: int) -> None:
        with pytest.raises(ValueError, match='clip_stride'):
            VideoPredictor(model, clip_length=length, clip_stride=stride)
