"""QueryTracker against a twin that keeps the whole video, and against the released program."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmboxvis.models.trackers import BaseTracker, QueryTracker
from mmboxvis.registry import TASK_UTILS
from tests.reference.query_tracker import Clip, track_queries

NUM_CLASSES, SIZE, CHANNELS = 4, (3, 5), 8


def clip_starts(num_frames: int, clip_length: int, stride: int) -> list[int]:
    """0, s, 2s, ... and a last clip that ends with the video."""
    last = max(num_frames - clip_length, 0)
    starts = list(range(0, last + 1, stride))
    return starts if starts[-1] == last else [*starts, last]


def make_clips(num_clips: int, clip_length: int, num_queries: int, seed: int = 0) -> list[Clip]:
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return [
        (
            randn(num_queries, NUM_CLASSES + 1),
            randn(num_queries, clip_length, *SIZE),
            randn(num_queries, CHANNELS),
        )
        for _ in range(num_clips)
    ]


def run(tracker: QueryTracker, clips: list[Clip], starts: list[int]) -> tuple[Tensor, Tensor]:
    tracker.reset()
    frames = []
    for clip, start in zip(clips, starts, strict=True):
        frames += tracker.update(*clip, start=start)
    frames += tracker.finish()
    return tracker.scores(), torch.stack(frames, 1)


def test_nothing_seen() -> None:
    tracker = QueryTracker()
    with pytest.raises(RuntimeError, match='before the first clip'):
        tracker.scores()
    assert tracker.finish() == []


def test_no_queries() -> None:
    scores, masks = run(QueryTracker(), make_clips(2, 3, 0), [0, 1])
    assert scores.shape == (0, NUM_CLASSES)
    assert masks.shape == (0, 4, *SIZE)


def test_one_clip_gives_all_its_frames() -> None:
    [clip] = make_clips(1, 3, 5)
    scores, masks = run(QueryTracker(), [clip], [0])
    torch.testing.assert_close(masks, clip[1])
    torch.testing.assert_close(scores, clip[0].softmax(-1)[:, :-1])


def test_one_frame_a_clip_finishes_one_frame_an_update() -> None:
    tracker = QueryTracker()
    for clip in make_clips(4, 1, 5):
        assert [frame.shape for frame in tracker.update(*clip)] == [(5, *SIZE)]
        assert tracker.num_live_frames == 0
    assert tracker.finish() == []


def test_one_frame_leaves_at_every_clip() -> None:
    tracker = QueryTracker()
    counts = [len(tracker.update(*clip)) for clip in make_clips(4, 3, 5)]
    assert counts == [1, 1, 1, 1]
    assert len(tracker.finish()) == 2
    assert tracker.num_frames == 6


def test_golden(golden) -> None:
    data = {
        name: torch.from_numpy(array)
        for name, array in np.load(golden / 'query_tracker.npz').items()
    }
    clips = list(zip(data['clip_cls_logits'], data['clip_mask_logits'], data['clip_embeds']))
    scores, masks = run(QueryTracker(), clips, list(range(len(clips))))
    torch.testing.assert_close(scores, data['video_scores'], atol=1e-5, rtol=0)
    torch.testing.assert_close(masks, data['video_mask_logits'], atol=1e-5, rtol=0)


@settings(deadline=None, max_examples=40)
@given(
    num_frames=st.integers(1, 8),
    clip_length=st.integers(1, 4),
    num_queries=st.integers(1, 6),
    stride=st.integers(1, 4),
    memory_clips=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_equals_twin(num_frames, clip_length, num_queries, stride, memory_clips, seed) -> None:
    stride = min(stride, clip_length)
    starts = clip_starts(num_frames, clip_length, stride)
    clips = make_clips(len(starts), clip_length, num_queries, seed)
    tracker = QueryTracker(memory_clips=memory_clips, stride=stride)
    scores, masks = run(tracker, clips, starts)
    expected_scores, expected_masks = track_queries(clips, starts, memory_clips)
    assert masks.shape[1] == max(num_frames, clip_length)
    torch.testing.assert_close(scores, expected_scores)
    torch.testing.assert_close(masks, expected_masks)


@pytest.mark.parametrize(('clip_length', 'stride'), [(1, 1), (3, 1), (3, 2), (3, 3), (5, 2)])
def test_holds_no_more_frames_than_a_clip(clip_length: int, stride: int) -> None:
    tracker = QueryTracker(stride=stride)
    for index, clip in enumerate(make_clips(9, clip_length, 2)):
        frames = tracker.update(*clip)
        assert tracker.num_live_frames < clip_length
        # settled frames leave at once: all before the clip, and its first
        assert len(frames) == (1 if index == 0 else stride)


def test_default_start_is_the_stride() -> None:
    clips = make_clips(4, 3, 5)
    tracker, explicit = QueryTracker(stride=2), QueryTracker()
    frames = [frame for clip in clips for frame in tracker.update(*clip)] + tracker.finish()
    _, masks = run(explicit, clips, [0, 2, 4, 6])
    torch.testing.assert_close(torch.stack(frames, 1), masks)


def test_permuted_clips_are_recovered() -> None:
    [(cls_logits, mask_logits, embeds)] = make_clips(1, 3, 7)
    clips = []
    for seed in range(5):
        order = torch.randperm(7, generator=torch.Generator().manual_seed(seed))
        order = torch.arange(7) if seed == 0 else order
        clips.append((cls_logits[order], mask_logits[order, :1].repeat(1, 3, 1, 1), embeds[order]))
    scores, masks = run(QueryTracker(), clips, list(range(5)))
    torch.testing.assert_close(scores, cls_logits.softmax(-1)[:, :-1])
    torch.testing.assert_close(masks, mask_logits[:, :1].repeat(1, 7, 1, 1))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_precision(dtype: torch.dtype) -> None:
    clips = [tuple(x.to(dtype) for x in clip) for clip in make_clips(5, 3, 6)]
    scores, masks = run(QueryTracker(), clips, list(range(5)))
    wide = [tuple(x.to(torch.promote_types(dtype, torch.float32)) for x in c) for c in clips]
    expected_scores, expected_masks = run(QueryTracker(), wide, list(range(5)))
    assert masks.dtype == dtype
    assert scores.isfinite().all()
    # sums are wide, only the result is rounded
    torch.testing.assert_close(masks, expected_masks.to(dtype), rtol=0, atol=0)
    torch.testing.assert_close(scores, expected_scores, rtol=0, atol=0)


def test_half_precision_sums_do_not_overflow() -> None:
    clips = [
        (cls_logits.half() + 60000, mask_logits.half() + 60000, embeds.half())
        for cls_logits, mask_logits, embeds in make_clips(4, 3, 3)
    ]
    scores, masks = run(QueryTracker(), clips, list(range(4)))
    assert scores.isfinite().all()
    assert masks.isfinite().all()


def test_autocast_changes_nothing() -> None:
    clips = make_clips(4, 3, 6)
    expected = run(QueryTracker(), clips, list(range(4)))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = run(QueryTracker(), clips, list(range(4)))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_inputs_are_neither_edited_nor_kept() -> None:
    clips = make_clips(4, 3, 6)
    expected = run(QueryTracker(), [tuple(x.clone() for x in c) for c in clips], list(range(4)))
    copies = [tuple(x.clone().requires_grad_() for x in clip) for clip in clips]
    tracker, frames = QueryTracker(), []
    for clip, original in zip(copies, clips):
        frames += tracker.update(*clip)
        for x, y in zip(clip, original):
            assert torch.equal(x, y)
            x.data.zero_()
    frames += tracker.finish()
    torch.testing.assert_close((tracker.scores(), torch.stack(frames, 1)), expected)
    assert not any(frame.requires_grad for frame in frames)


def test_reset_begins_a_new_video() -> None:
    tracker, clips = QueryTracker(), make_clips(3, 2, 4)
    first = run(tracker, clips, [0, 1, 2])
    with pytest.raises(RuntimeError, match=r'call reset\(\)'):
        tracker.update(*clips[0])
    assert tracker.finish() == []
    torch.testing.assert_close(tracker.scores(), first[0])
    torch.testing.assert_close(run(tracker, clips, [0, 1, 2]), first)


@pytest.mark.parametrize(
    ('starts', 'message'),
    [([1], 'only frames up to -1'), ([0, 0], 'temporal order'), ([0, 4], 'only frames up to 2')],
)
def test_wrong_start(starts: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(QueryTracker(), make_clips(len(starts), 3, 4), starts)


def test_stride_beyond_clip_is_a_gap() -> None:
    with pytest.raises(ValueError, match='smaller stride'):
        tracker = QueryTracker(stride=4)
        for clip in make_clips(2, 3, 4):
            tracker.update(*clip)


def test_wrong_shapes() -> None:
    cls_logits, mask_logits, embeds = make_clips(1, 3, 4)[0]
    tracker = QueryTracker()
    with pytest.raises(ValueError, match='clip 0: expected cls_logits'):
        tracker.update(cls_logits, mask_logits[:, 0], embeds)
    with pytest.raises(ValueError, match='numbers of queries differ'):
        tracker.update(cls_logits[:3], mask_logits, embeds)
    with pytest.raises(ValueError, match='no frame'):
        tracker.update(cls_logits, mask_logits[:, :0], embeds)
    tracker.update(cls_logits, mask_logits, embeds)
    with pytest.raises(ValueError, match='changed from'):
        tracker.update(cls_logits, mask_logits[..., :-1], embeds)


@pytest.mark.parametrize('index', [0, 1])
def test_broken_embeddings_are_named(index: int) -> None:
    clips = make_clips(2, 3, 4)
    clips[index][2][1, 2] = torch.nan
    with pytest.raises(ValueError, match=f'clip {index}: embeds has values that are not finite'):
        run(QueryTracker(), clips, [0, 1])


@pytest.mark.parametrize('index', [0, 1])
def test_broken_class_logits_are_named(index: int) -> None:
    clips = make_clips(2, 3, 4)
    clips[index][0][1, 2] = torch.nan
    with pytest.raises(ValueError, match=f'clip {index}: cls_logits or embeds has values that'):
        run(QueryTracker(), clips, [0, 1])


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match='memory_clips'):
        QueryTracker(memory_clips=0)
    with pytest.raises(ValueError, match='stride'):
        QueryTracker(stride=0)


def test_built_by_name_and_unpacked() -> None:
    tracker = TASK_UTILS.build(dict(type='QueryTracker', memory_clips=3))
    assert isinstance(tracker, QueryTracker) and isinstance(tracker, BaseTracker)
    [frame, *_] = tracker.update(*make_clips(1, 3, 4)[0])
    mask_logits, track_ids = tracker.unpack(frame)
    assert mask_logits is frame
    assert track_ids.tolist() == [0, 1, 2, 3]


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
def test_equal_on_the_gpu() -> None:
    clips, starts = make_clips(5, 3, 6), list(range(5))
    expected = run(QueryTracker(), clips, starts)
    scores, masks = run(QueryTracker(), [tuple(x.cuda() for x in clip) for clip in clips], starts)
    assert scores.is_cuda and masks.is_cuda
    torch.testing.assert_close((scores.cpu(), masks.cpu()), expected)


def test_selection_follows_the_arguments() -> None:
    scores = torch.tensor([[0.5, 0.2], [0.3, 0.01]])
    found = QueryTracker(score_thr=0.25, min_candidates=1).select(scores)
    assert found.query_inds.tolist() == [0, 1]
    assert len(QueryTracker().select(scores).scores) == 4
