"""OverlapTracker against a twin made of lists, dicts and loops."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from mmboxvis.models.trackers import BaseTracker, OverlapTracker, TrackFrame, WindowScores
from mmboxvis.models.trackers.overlap_matching import (
    associate,
    embedding_scores,
    hard_iou,
    keep_best,
    soft_hard_iou,
)
from mmboxvis.registry import TASK_UTILS
from tests.reference import overlap_tracker as twin
from tests.reference.overlap_tracker import Clip, Settings

NUM_CLASSES, SIZE, CHANNELS = 3, (8, 12), 8


class Scene:
    """Objects that move over black frames, seen clip by clip in shuffled queries.

    Args:
        num_objects: object g is of class ``g % 3``.
        absent: share of clips in which an object has no query.
        noise: standard deviation of what is added to logits; embeddings get a tenth.
        num_twins: queries that repeat an object with a lower score.
    """

    def __init__(
        self,
        num_objects: int,
        *,
        absent: float = 0.0,
        noise: float = 0.0,
        num_twins: int = 0,
        num_queries: int = 12,
        seed: int = 0,
    ) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.num_objects, self.num_twins = num_objects, num_twins
        self.absent, self.noise, self.num_queries = absent, noise, num_queries
        basis = torch.linalg.qr(self.randn(CHANNELS, CHANNELS))[0]
        self.embeds = 4 * basis[:num_objects]
        self.corners = torch.rand(num_objects, 2, generator=self.generator)

    def randn(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)

    def mask(self, index: int, frame: int) -> Tensor:
        """(h, w) logits: a 3x4 block that moves one pixel to the right every other frame."""
        logits = torch.full(SIZE, -4.0)
        y = int(self.corners[index, 0] * (SIZE[0] - 3))
        x = (int(self.corners[index, 1] * SIZE[1]) + frame // 2) % (SIZE[1] - 3)
        logits[y : y + 3, x : x + 4] = 4.0
        return logits

    def clip(self, start: int, length: int, hidden: tuple[int, ...] = ()) -> Clip:
        cls_logits = torch.zeros(self.num_queries, NUM_CLASSES + 1)
        cls_logits[:, -1] = 8
        mask_logits = torch.full((self.num_queries, length, *SIZE), -4.0)
        embeds = self.randn(self.num_queries, CHANNELS)
        order = torch.randperm(self.num_queries, generator=self.generator).tolist()
        shown = [
            g
            for g in range(self.num_objects)
            if float(torch.rand(1, generator=self.generator)) >= self.absent and g not in hidden
        ]
        for rank, g in enumerate(shown + shown[: self.num_twins]):
            query = order[rank]
            cls_logits[query] = 0
            cls_logits[query, g % NUM_CLASSES] = 4 - 2 * (rank >= len(shown))
            mask_logits[query] = torch.stack([self.mask(g, start + t) for t in range(length)])
            embeds[query] = self.embeds[g]
        return (
            cls_logits + self.noise * self.randn(*cls_logits.shape),
            mask_logits + self.noise * self.randn(*mask_logits.shape),
            embeds + self.noise / 10 * self.randn(*embeds.shape),
        )

    def clips(self, starts: list[int], length: int) -> list[Clip]:
        return [self.clip(start, length) for start in starts]


def run(tracker: OverlapTracker, clips: list[Clip], starts: list[int]) -> list[TrackFrame]:
    tracker.reset()
    frames = []
    for clip, start in zip(clips, starts, strict=True):
        frames += tracker.update(*clip, start=start)
    return frames + tracker.finish()


def assert_equals_twin(clips: list[Clip], starts: list[int], cfg: Settings, stride: int) -> int:
    tracker = OverlapTracker(stride=stride, **asdict(cfg))
    frames = run(tracker, clips, starts)
    expected = twin.track_overlap(clips, starts, cfg)
    assert len(frames) == len(expected.frames)
    for frame, masks, window in zip(frames, expected.frames, expected.window_of_frame):
        assert frame.track_ids.tolist() == list(masks)
        for track, mask, cls_probs in zip(masks, frame.mask_logits, frame.cls_probs):
            assert frame.window == window
            torch.testing.assert_close(mask, masks[track])
            torch.testing.assert_close(cls_probs, expected.windows[window][track])

    def enlarge(mask: Tensor) -> Tensor:
        return F.interpolate(mask[None, None], scale_factor=2, mode='bilinear')[0, 0]

    scorer = WindowScores()
    for frame in frames:
        enlarged = [enlarge(mask) for mask in frame.mask_logits]
        scorer.add(frame, torch.stack(enlarged) if enlarged else torch.zeros(0, 16, 24))
    large = [{key: enlarge(mask) for key, mask in masks.items()} for masks in expected.frames]
    scores = twin.window_scores(expected, large, NUM_CLASSES)
    torch.testing.assert_close(scorer.scores(), scores)
    torch.testing.assert_close(scorer.scores(), scores)  # asking changes nothing

    mean = torch.zeros_like(scores)
    for track in range(len(scores)):
        own = [classes[track] for classes in expected.windows if track in classes]
        mean[track] = sum(own) / len(own)
    torch.testing.assert_close(tracker.scores(), mean)
    return len(scores)


def test_nothing_seen() -> None:
    tracker = OverlapTracker()
    with pytest.raises(RuntimeError, match='before the first clip'):
        tracker.scores()
    assert tracker.finish() == []
    with pytest.raises(RuntimeError, match='before the first frame'):
        WindowScores().scores()


def test_no_queries() -> None:
    clip = torch.zeros(0, NUM_CLASSES + 1), torch.zeros(0, 3, *SIZE), torch.zeros(0, CHANNELS)
    tracker, scorer = OverlapTracker(window=2), WindowScores()
    frames = run(tracker, [clip] * 4, [0, 1, 2, 3])
    assert [len(frame.track_ids) for frame in frames] == [0] * 6
    assert all(frame.mask_logits.shape == (0, *SIZE) for frame in frames)
    assert tracker.scores().shape == (0, NUM_CLASSES)
    scorer.add(frames[0], torch.zeros(0, 16, 24))
    assert scorer.scores().shape == (0, NUM_CLASSES)


def test_black_video_keeps_the_best_query_without_score() -> None:
    [clip] = Scene(0).clips([0], 3)
    tracker = OverlapTracker()
    assert [len(frame.track_ids) for frame in run(tracker, [clip], [0])] == [1, 1, 1]
    assert tracker.scores().max() == 0


def test_one_clip_gives_all_its_frames() -> None:
    scene = Scene(2)
    frames = run(OverlapTracker(), scene.clips([0], 3), [0])
    assert [frame.track_ids.tolist() for frame in frames] == [[0, 1]] * 3
    for t, frame in enumerate(frames):
        expected = [scene.mask(0, t), scene.mask(1, t)]
        assert {tuple(x.flatten().tolist()) for x in frame.mask_logits} == {
            tuple(x.flatten().tolist()) for x in expected
        }


@pytest.mark.parametrize('window', [1, 2, 4, 30])
def test_objects_keep_their_ids_over_windows(window: int) -> None:
    scene, starts = Scene(3, noise=0.1, num_twins=1, seed=3), list(range(9))
    clips = scene.clips(starts, 3)
    tracker = OverlapTracker(window=window)
    frames = run(tracker, clips, starts)
    assert len(frames) == 11
    assert all(frame.track_ids.tolist() == [0, 1, 2] for frame in frames)
    labels = tracker.scores().argmax(1)
    assert sorted(labels.tolist()) == [0, 1, 2]
    for t, frame in enumerate(frames):
        for track, mask in enumerate(frame.mask_logits):
            # objects are of different classes, so the class says which one a track is
            assert torch.equal(mask > 0, scene.mask(int(labels[track]), t) > 0)


def test_windows_leave_when_the_next_begins() -> None:
    tracker, scene = OverlapTracker(window=4), Scene(2)
    counts = [len(tracker.update(*scene.clip(start, 3))) for start in range(10)]
    assert counts == [0, 0, 0, 0, 4, 0, 0, 0, 4, 0]
    assert len(tracker.finish()) == 4
    assert tracker.num_frames == 12


@settings(deadline=None, max_examples=60)
@given(
    num_frames=st.integers(1, 12),
    clip_length=st.integers(1, 4),
    stride=st.integers(1, 3),
    num_objects=st.integers(0, 4),
    num_twins=st.integers(0, 2),
    window=st.integers(1, 6),
    absent=st.sampled_from([0.0, 0.3, 0.7]),
    max_unmatched_clips=st.integers(1, 4),
    halve_from=st.sampled_from([1, 3, 20]),
    seed=st.integers(0, 10000),
)
def test_equals_twin(
    num_frames,
    clip_length,
    stride,
    num_objects,
    num_twins,
    window,
    absent,
    max_unmatched_clips,
    halve_from,
    seed,
) -> None:
    stride = min(stride, clip_length)
    last = max(num_frames - clip_length, 0)
    starts = sorted({*range(0, last + 1, stride), last})
    scene = Scene(num_objects, absent=absent, noise=1.0, num_twins=num_twins, seed=seed)
    cfg = Settings(window=window, max_unmatched_clips=max_unmatched_clips, halve_from=halve_from)
    assert_equals_twin(scene.clips(starts, clip_length), starts, cfg, stride)


@settings(deadline=None, max_examples=25)
@given(num_queries=st.integers(1, 8), window=st.integers(1, 5), seed=st.integers(0, 10000))
def test_equals_twin_on_noise(num_queries: int, window: int, seed: int) -> None:
    scene = Scene(0, noise=3.0, num_queries=num_queries, seed=seed)
    starts = list(range(6))
    clips = [(c - c.mean(), m + 3, e) for c, m, e in scene.clips(starts, 3)]
    cfg = Settings(window=window, max_unmatched_clips=2, match_thr=0.5, duplicate_mask_thr=0.1)
    assert_equals_twin(clips, starts, cfg, 1)


@pytest.mark.parametrize('seed', range(5))
def test_weak_track_is_dropped_without_a_trace(seed: int) -> None:
    scene, starts = Scene(3, noise=0.3, seed=seed), list(range(6))
    clips = [scene.clip(start, 3, hidden=(0, 1, 2) if start == 0 else ()) for start in starts]
    # the black first clip leaves a track without score, still in live frames at the window's end
    cfg = Settings(window=2, max_unmatched_clips=1)
    assert assert_equals_twin(clips, starts, cfg, 1) == 3


def test_lost_object_comes_back() -> None:
    starts = list(range(8))

    def tracks(max_unmatched_clips: int) -> list[list[int]]:
        scene = Scene(2)
        clips = [scene.clip(s, 3, hidden=(1,) if 2 <= s < 6 else ()) for s in starts]
        frames = run(OverlapTracker(max_unmatched_clips=max_unmatched_clips), clips, starts)
        return [frame.track_ids.tolist() for frame in frames]

    # unmatched in clips 2 to 5; seen in frames 0 to 3 and again from 6 on
    found = tracks(10)
    [other] = found[4]
    assert found == [[0, 1]] * 4 + [[other]] * 2 + [[0, 1]] * 4
    assert tracks(4) == [[0, 1]] * 4 + [[other]] * 2 + [[other, 2]] * 4


def test_lose_last_frame_is_the_released_fault() -> None:
    starts = list(range(6))
    clips = Scene(2, noise=0.3).clips(starts, 3)
    faulty = run(OverlapTracker(window=4, lose_last_frame=True), clips, starts)
    shorter = run(OverlapTracker(window=4), clips[:-1], starts[:-1])
    assert len(faulty) == len(shorter) + 1 == 8
    for frame, expected in zip(faulty, shorter):
        assert torch.equal(frame.mask_logits, expected.mask_logits)
        assert torch.equal(frame.track_ids, expected.track_ids)
    assert faulty[-1].mask_logits.shape == (0, *SIZE)


def test_lose_last_frame_of_a_single_clip_gives_nothing() -> None:
    tracker = OverlapTracker(lose_last_frame=True)
    frames = run(tracker, Scene(2).clips([0], 3), [0])
    assert [len(frame.track_ids) for frame in frames] == [0, 0, 0]
    assert tracker.scores().shape == (0, NUM_CLASSES)


def test_memory_is_bounded_by_window_and_clip() -> None:
    tracker, scene = OverlapTracker(window=5), Scene(3, absent=0.5, noise=0.5)
    for start in range(40):
        tracker.update(*scene.clip(start, 3))
        memory = tracker._memory
        assert memory is not None
        assert memory.num_live_frames <= 3
        assert len(memory._settled) < 5
        # only tracks matched within the last three clips hold masks
        assert memory.live_masks(3)[1].shape[0] <= int((memory.unmatched < 3).sum())


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    starts = list(range(6))
    clips = Scene(3, noise=0.2, num_twins=1).clips(starts, 3)
    tracker = OverlapTracker(window=3)
    expected = run(tracker, clips, starts)
    expected_scores = tracker.scores()
    frames = run(tracker, [tuple(x.to(dtype) for x in clip) for clip in clips], starts)
    for frame, wide in zip(frames, expected, strict=True):
        assert frame.mask_logits.dtype == dtype
        assert torch.equal(frame.track_ids, wide.track_ids)
        torch.testing.assert_close(frame.mask_logits.float(), wide.mask_logits, atol=0.1, rtol=0)
    assert tracker.scores().dtype == torch.float32
    assert tracker.scores().isfinite().all()
    torch.testing.assert_close(tracker.scores(), expected_scores, atol=0.02, rtol=0)


def test_autocast_changes_nothing() -> None:
    starts = list(range(5))
    clips = Scene(3, noise=0.5).clips(starts, 3)
    expected = run(OverlapTracker(window=3), clips, starts)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = run(OverlapTracker(window=3), clips, starts)
    for frame, other in zip(found, expected, strict=True):
        assert torch.equal(frame.mask_logits, other.mask_logits)
        assert torch.equal(frame.cls_probs, other.cls_probs)


def test_inputs_are_neither_edited_nor_kept() -> None:
    starts = list(range(5))
    clips = Scene(3, noise=0.5).clips(starts, 3)
    expected = run(OverlapTracker(window=3), clips, starts)
    tracker, frames = OverlapTracker(window=3), []
    for clip in clips:
        copy = tuple(x.clone() for x in clip)
        frames += tracker.update(*copy)
        for x, y in zip(copy, clip):
            assert torch.equal(x, y)
            x.fill_(7.0)
    for frame, other in zip(frames + tracker.finish(), expected, strict=True):
        assert torch.equal(frame.mask_logits, other.mask_logits)


def test_reset_begins_a_new_video() -> None:
    starts = list(range(4))
    clips = Scene(2, noise=0.5).clips(starts, 3)
    tracker = OverlapTracker(window=3)
    first = run(tracker, clips, starts)
    with pytest.raises(RuntimeError, match=r'call reset\(\)'):
        tracker.update(*clips[0])
    for frame, other in zip(run(tracker, clips, starts), first, strict=True):
        assert torch.equal(frame.track_ids, other.track_ids)
        assert torch.equal(frame.mask_logits, other.mask_logits)


def test_broken_embeddings_are_named() -> None:
    clips = Scene(2).clips([0, 1], 3)
    clips[1][2][0, 0] = torch.inf
    with pytest.raises(ValueError, match='clip 1: cls_logits or embeds has values'):
        run(OverlapTracker(), clips, [0, 1])


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match='window'):
        OverlapTracker(window=0)


def test_built_by_name() -> None:
    tracker = TASK_UTILS.build(dict(type='OverlapTracker', max_unmatched_clips=30))
    assert isinstance(tracker, OverlapTracker) and isinstance(tracker, BaseTracker)
    [frame, *_] = run(tracker, Scene(2).clips([0], 3), [0])
    mask_logits, track_ids = tracker.unpack(frame)
    assert mask_logits.shape == (2, *SIZE)
    assert track_ids.tolist() == [0, 1]


def test_class_filter() -> None:
    scores = torch.tensor([[0.5, 0.04, 0.0], [0.01, 0.06, 0.3]])
    every = OverlapTracker().select(scores)
    assert len(every.scores) == 6
    assert every.query_inds.tolist()[:3] == [0, 1, 1]
    good = OverlapTracker(class_filter_all=False).select(scores)
    torch.testing.assert_close(good.scores, torch.tensor([0.5, 0.3, 0.06]))
    assert good.labels.tolist() == [0, 2, 1]


def test_soft_hard_iou() -> None:
    logits = torch.randn(5, 2, 4, 6) * 3
    found = soft_hard_iou(logits)
    for i in range(5):
        for j in range(5):
            soft, hard = logits[j].sigmoid(), (logits[i] > 0).float()
            expected = (soft * hard).sum() / (soft + hard - soft * hard).sum()
            torch.testing.assert_close(found[i, j], expected)
    assert soft_hard_iou(torch.full((1, 1, 2, 2), -200.0)).tolist() == [[0.0]]


def test_dropped_detections_still_suppress() -> None:
    similarity = torch.tensor([[1.0, 0.9, 0.1], [0.9, 1.0, 0.9], [0.1, 0.9, 1.0]])
    assert keep_best(similarity, 0.75).tolist() == [True, False, False]
    assert keep_best(similarity, 0.95).tolist() == [True, True, True]


def test_embedding_scores_of_single_items() -> None:
    one, three = torch.tensor([[1.0, 2.0]]), torch.randn(3, 2)
    torch.testing.assert_close(embedding_scores(one, -3 * one), torch.tensor([[-1.0]]))
    torch.testing.assert_close(embedding_scores(one, three), (one @ three.T).softmax(1))
    torch.testing.assert_close(embedding_scores(three, one), (three @ one.T).softmax(0))
    assert embedding_scores(three[:0], three).shape == (0, 3)


def test_hard_iou_of_nothing_is_zero() -> None:
    masks = torch.full((2, 1, 4, 4), -1.0)
    assert hard_iou(masks, masks).tolist() == [[0, 0], [0, 0]]
    assert hard_iou(masks[:, :0], masks[:, :0]).tolist() == [[0, 0], [0, 0]]
    assert hard_iou(-masks[..., :1, :1], -masks[..., :1, :1], halve=True).tolist() == [[1, 1]] * 2


def test_halving() -> None:
    masks_a, masks_b = torch.randn(3, 2, 6, 8), torch.randn(4, 2, 6, 8)
    found = hard_iou(masks_a, masks_b, halve=True)
    small_a, small_b = (F.avg_pool2d(x, 2) for x in (masks_a, masks_b))
    torch.testing.assert_close(found, hard_iou(small_a, small_b))
    assert not torch.equal(found, hard_iou(masks_a, masks_b))


@pytest.mark.parametrize(('halve_from', 'num_tracks'), [(2, 4), (3, 2)])
def test_many_objects_are_compared_at_half_size(halve_from: int, num_tracks: int) -> None:
    board = (torch.arange(SIZE[0])[:, None] + torch.arange(SIZE[1])) % 2
    masks = torch.stack([board, 1 - board])[:, None].expand(-1, 3, -1, -1)
    clip = (
        torch.tensor([[4.0, 0, 0, 0], [0, 4.0, 0, 0]]),
        masks * 13.0 - 9,  # stripes of one pixel vanish when halved
        torch.eye(2, CHANNELS) / 10,  # embeddings alone decide nothing
    )
    tracker = OverlapTracker(halve_from=halve_from)
    run(tracker, [clip, clip], [0, 1])
    assert len(tracker.scores()) == num_tracks


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
def test_equal_on_the_gpu() -> None:
    starts = list(range(7))
    clips = Scene(3, absent=0.3, noise=0.5, num_twins=1).clips(starts, 3)
    tracker, scorer = OverlapTracker(window=3), WindowScores()
    expected, expected_scores = run(tracker, clips, starts), tracker.scores()
    frames = run(tracker, [tuple(x.cuda() for x in clip) for clip in clips], starts)
    for frame, other in zip(frames, expected, strict=True):
        assert frame.mask_logits.is_cuda and frame.track_ids.device.type == 'cpu'
        assert torch.equal(frame.track_ids, other.track_ids)
        torch.testing.assert_close(frame.mask_logits.cpu(), other.mask_logits)
        scorer.add(frame, frame.mask_logits)
    torch.testing.assert_close(tracker.scores().cpu(), expected_scores)
    assert scorer.scores().is_cuda


def test_duplicates_and_weak_detections_start_no_track() -> None:
    # detection 1 resembles the first track, which has a better match; detection 3 is weak;
    # detections 2 and 4 resemble a track in one score only
    found = associate(
        torch.tensor([[0.9, 0.8, 0.1, 0.1, 0.8], [0.0, 0.0, 0.1, 0.1, 0.0]]),
        torch.tensor([[0.9, 0.5, 0.6, 0.1, 0.3], [0.0, 0.0, 0.0, 0.0, 0.0]]),
        torch.tensor([0.9, 0.8, 0.7, 0.1, 0.6]),
        match_thr=0.8,
        birth_thr=0.1,
        duplicate_embed_thr=0.75,
        duplicate_mask_thr=0.4,
    )
    assert found.tracks.tolist() == [0]
    assert found.detections.tolist() == [0]
    assert found.births.tolist() == [2, 4]
