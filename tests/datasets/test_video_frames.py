from __future__ import annotations

import pickle
from collections.abc import Sequence

import mmcv
import numpy as np
import pytest

from mmboxvis.datasets import FrameError, VideoFrames

RESIZE = dict(type='Resize', scale=(1333, 20), keep_ratio=True, backend='pillow')


@pytest.fixture
def arrays() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (40, 60, 3), np.uint8) for _ in range(4)]


def test_no_frames():
    with pytest.raises(ValueError, match="video 'v' has no frames"):
        VideoFrames([], name='v')


def test_one_black_frame():
    frames = VideoFrames([np.zeros((8, 8, 3), np.uint8)], [RESIZE])
    assert len(frames) == 1 and frames[0].shape == (20, 20, 3) and not frames[0].any()


def test_arrays_and_paths_agree(arrays, tmp_path):
    paths = []
    for index, array in enumerate(arrays):
        paths.append(tmp_path / f'{index}.png')
        mmcv.imwrite(array, str(paths[-1]))
    loader = dict(type='LoadImageFromFile')
    from_paths = VideoFrames(paths, [loader, RESIZE], name='v')
    from_arrays = VideoFrames(arrays, [RESIZE], name='v')
    assert from_paths.ori_shape == from_arrays.ori_shape == (40, 60)
    for one, other in zip(from_paths, from_arrays, strict=True):
        assert one.shape == (20, 30, 3) and one.dtype == np.uint8
        assert (one == other).all()
    assert (from_paths[-1] == from_arrays[3]).all()
    with pytest.raises(IndexError, match='has 4 frames, asked for 4'):
        from_paths[4]


def test_frames_are_decoded_when_asked_for_and_not_kept(arrays, tmp_path, monkeypatch):
    paths = []
    for index, array in enumerate(arrays):
        paths.append(str(tmp_path / f'{index}.png'))
        mmcv.imwrite(array, paths[-1])
    read = []
    original = mmcv.imread
    monkeypatch.setattr(mmcv, 'imread', lambda p, **k: (read.append(str(p)), original(p, **k))[1])
    frames = VideoFrames(paths, ori_shape=(40, 60))
    assert not read
    frames[2], frames[2]
    assert read == [paths[2]] * 2
    assert len(pickle.dumps(frames)) < 5000


def test_is_not_walked_through_by_collate(arrays):
    assert not isinstance(VideoFrames(arrays), Sequence)


def test_pickle(arrays):
    frames = VideoFrames(arrays, [RESIZE], name='v')
    again = pickle.loads(pickle.dumps(frames))
    assert (again[1] == frames[1]).all() and again.name == 'v'


def test_bad_frames(arrays, tmp_path):
    with pytest.raises(FrameError, match=r"video 'v', frame 0: .*gone.png not found"):
        VideoFrames([tmp_path / 'gone.png'], name='v')[0]
    (tmp_path / 'text.png').write_text('text')
    with pytest.raises(FrameError, match=r"video 'v', frame 0: .*text.png is not an image"):
        VideoFrames([tmp_path / 'text.png'], name='v')[0]
    with pytest.raises(FrameError, match='frame 1: is 10x10, but the video is 40x60'):
        VideoFrames([arrays[0], np.zeros((10, 10, 3), np.uint8)])[1]
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)):
        with pytest.raises(FrameError, match=r'expected an .* uint8 BGR array'):
            VideoFrames([wrong])[0]
