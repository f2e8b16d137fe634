from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmboxvis.datasets import sample_clip_frames


def test_one_frame_is_repeated():
    assert sample_clip_frames(1, 3).tolist() == [0, 0, 0]
    assert sample_clip_frames(1, 3, replacement=False).tolist() == [0, 0, 0]


def test_no_range_repeats_the_reference():
    frames = sample_clip_frames(9, 4, frame_range=0)
    assert len(set(frames.tolist())) == 1


@pytest.mark.parametrize('replacement', [True, False])
def test_replacement_repeats_frames(replacement):
    rng = np.random.RandomState(0)
    clips = [sample_clip_frames(6, 4, 10, rng, replacement=replacement) for _ in range(50)]
    assert any(len(set(clip.tolist())) < 4 for clip in clips) == replacement


@settings(deadline=None, max_examples=200)
@given(
    length=st.integers(1, 60),
    num_frames=st.integers(1, 6),
    frame_range=st.integers(0, 12),
    replacement=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_bounds(length, num_frames, frame_range, replacement, seed):
    rng = np.random.RandomState(seed)
    frames = sample_clip_frames(length, num_frames, frame_range, rng, replacement=replacement)
    assert frames.shape == (num_frames,)
    assert frames.dtype == np.int64
    assert (np.diff(frames) >= 0).all()
    assert frames[0] >= 0 and frames[-1] < length
    assert frames[-1] - frames[0] <= 2 * frame_range
    if not replacement:
        lowest = min(num_frames, min(length, frame_range + 1))
        assert len(set(frames.tolist())) >= lowest


def test_distribution_is_that_of_the_definition():
    """Each ordered draw has its probability; compared with a count over all of them."""
    length, frame_range = 7, 2
    expected: dict[tuple[int, ...], float] = {}
    for reference in range(length):
        near = [
            frame
            for frame in range(length)
            if frame != reference and abs(frame - reference) <= frame_range
        ]
        for first in near:
            for second in near:
                clip = tuple(sorted((reference, first, second)))
                expected[clip] = expected.get(clip, 0) + 1 / length / len(near) ** 2
    rng = np.random.RandomState(0)
    number = 20000
    counts: dict[tuple[int, ...], int] = {}
    for _ in range(number):
        clip = tuple(sample_clip_frames(length, 3, frame_range, rng).tolist())
        counts[clip] = counts.get(clip, 0) + 1
    assert set(counts) == set(expected)
    for clip, share in expected.items():
        spread = (share * (1 - share) / number) ** 0.5
        assert abs(counts[clip] / number - share) < 5 * spread


def test_numpy_global_state_is_the_default():
    np.random.seed(3)
    first = sample_clip_frames(50, 3)
    np.random.seed(3)
    assert (sample_clip_frames(50, 3) == first).all()


@pytest.mark.parametrize('bad', [(0, 3, 10), (5, 0, 10), (5, 3, -1)])
def test_out_of_range(bad):
    with pytest.raises(ValueError, match='expected length >= 1'):
        sample_clip_frames(*bad)
