from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from mmdet.structures import TrackDataSample
from pycocotools import mask as mask_utils

from mmboxvis.datasets.video_frames import VideoFrames
from mmboxvis.registry import HOOKS
from mmboxvis.structures import VideoPrediction
from mmboxvis.visualization.video_overlay_hook import VideoOverlayHook

ORIGINAL = (120, 160)


class LazyFrames:
    """A video as the preprocessor hands it on: resized frames, read when asked for."""

    ori_shape = ORIGINAL

    def __init__(self, number: int) -> None:
        self.number = number
        self.asked: list[int] = []

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, t: int) -> np.ndarray:
        self.asked.append(t)
        return np.full((60, 80, 3), 60, np.uint8)


def rle(x: int) -> dict:
    mask = np.zeros(ORIGINAL, np.uint8, order='F')
    mask[40:90, x : x + 40] = 1
    encoded = mask_utils.encode(mask)
    return {**encoded, 'counts': encoded['counts'].decode()}


def prediction(
    scores: list[float], num_frames: int = 3, video_id: int = 1, labels: list[int] | None = None
) -> VideoPrediction:
    num = len(scores)
    return VideoPrediction(
        video_id=video_id,
        size=ORIGINAL,
        num_frames=num_frames,
        labels=np.array(labels or [0] * num, np.int64),
        scores=np.array(scores),
        track_ids=np.arange(num),
        segmentations=[
            [None if t == 1 else rle(60 * m) for t in range(num_frames)] for m in range(num)
        ],
    )


def sample(video: VideoPrediction, name: str = 'clip') -> TrackDataSample:
    data_sample = TrackDataSample()
    data_sample.set_metainfo(dict(video_name=name, ori_shape=ORIGINAL, file_names=['a.jpg']))
    data_sample.set_field(video, 'pred_video')
    return data_sample


def runner(tmp_path: Path) -> SimpleNamespace:
    loader = SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=('cat', 'dog'))))
    return SimpleNamespace(
        work_dir=str(tmp_path / 'work'),
        timestamp='20260101_000000',
        test_dataloader=loader,
        val_dataloader=loader,
    )


def run_test(hook: VideoOverlayHook, tmp_path: Path, *samples: TrackDataSample) -> None:
    frames = [LazyFrames(s.pred_video.num_frames) for s in samples]
    hook.after_test_iter(runner(tmp_path), 0, dict(inputs=frames), list(samples))


def read_video(path: Path) -> list[np.ndarray]:
    capture, found = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        found.append(read[1])
    return found


def is_drawn(frame: np.ndarray) -> bool:
    return bool(np.ptp(frame.astype(int), axis=-1).max() > 40)


def test_is_registered() -> None:
    assert HOOKS.get('VideoOverlayHook') is VideoOverlayHook


def test_video_without_tracks_is_written_plain(tmp_path: Path) -> None:
    hook = VideoOverlayHook()
    run_test(hook, tmp_path, sample(prediction([])))
    found = read_video(tmp_path / 'work' / '20260101_000000' / 'overlays' / 'clip.mp4')
    assert len(found) == 3
    assert not any(is_drawn(frame) for frame in found)


def test_one_frame(tmp_path: Path) -> None:
    run_test(VideoOverlayHook(tmp_path), tmp_path, sample(prediction([0.9], num_frames=1)))
    assert [is_drawn(frame) for frame in read_video(tmp_path / 'clip.mp4')] == [True]


def test_tracks_are_drawn_where_they_are_seen(tmp_path: Path) -> None:
    video = prediction([0.9, 0.5], labels=[0, 1])
    run_test(VideoOverlayHook(tmp_path), tmp_path, sample(video))
    found = read_video(tmp_path / 'clip.mp4')
    assert found[0].shape[0] >= 256, 'small frames are enlarged'
    assert [is_drawn(frame) for frame in found] == [True, False, True]


def test_badly_scored_tracks_are_not_drawn(tmp_path: Path) -> None:
    hook = VideoOverlayHook(tmp_path, score_thr=0.95)
    run_test(hook, tmp_path, sample(prediction([0.9, 0.5])))
    assert not any(is_drawn(frame) for frame in read_video(tmp_path / 'clip.mp4'))


def test_as_frames(tmp_path: Path) -> None:
    hook = VideoOverlayHook(tmp_path / 'out', as_video=False)
    run_test(hook, tmp_path, sample(prediction([0.9])))
    names = sorted(p.name for p in (tmp_path / 'out' / 'clip').iterdir())
    assert names == ['00000.jpg', '00001.jpg', '00002.jpg']


def test_max_videos_counts_from_each_test(tmp_path: Path) -> None:
    hook = VideoOverlayHook(tmp_path / 'out', max_videos=2)
    samples = [sample(prediction([], video_id=i), f'v{i}') for i in range(4)]
    run_test(hook, tmp_path, *samples)
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == ['v0.mp4', 'v1.mp4']
    hook.before_test(runner(tmp_path))
    run_test(hook, tmp_path, samples[3])
    assert (tmp_path / 'out' / 'v3.mp4').is_file()


def test_val_is_off_by_default(tmp_path: Path) -> None:
    batch = dict(inputs=[LazyFrames(3)]), [sample(prediction([0.9]))]
    VideoOverlayHook(tmp_path / 'out').after_val_iter(runner(tmp_path), 0, *batch)
    assert not (tmp_path / 'out').exists()
    VideoOverlayHook(tmp_path / 'out', during_val=True).after_val_iter(runner(tmp_path), 0, *batch)
    assert (tmp_path / 'out' / 'clip.mp4').is_file()


@pytest.mark.parametrize('name', ['../../up', '/root/up', '..', 'a/../../up', 'C:\\up', ''])
def test_names_do_not_lead_out(tmp_path: Path, name: str) -> None:
    out = tmp_path / 'one' / 'two' / 'out'
    run_test(VideoOverlayHook(out), tmp_path, sample(prediction([]), name))
    files = [p for p in tmp_path.rglob('*') if p.is_file()]
    assert len(files) == 1
    assert files[0].parent == out and files[0].suffix == '.mp4'


def test_names_that_fall_together_stay_apart(tmp_path: Path) -> None:
    hook = VideoOverlayHook(tmp_path / 'out')
    # the second would be called as the third is
    names = {1: 'a/b', 3: 'a_b_2', 2: 'a_b'}
    samples = [sample(prediction([], video_id=i), name) for i, name in names.items()]
    run_test(hook, tmp_path, *samples)
    run_test(hook, tmp_path, *samples)
    found = sorted(p.name for p in (tmp_path / 'out').iterdir())
    assert found == ['a_b.mp4', 'a_b_2.mp4', 'a_b_2_2.mp4']


def test_a_long_name_of_wide_letters_is_a_file(tmp_path: Path) -> None:
    run_test(VideoOverlayHook(tmp_path / 'out'), tmp_path, sample(prediction([]), '視' * 150))
    (found,) = (tmp_path / 'out').iterdir()
    assert found.stem == '視' * 66


def test_length_mismatch_is_named(tmp_path: Path) -> None:
    batch = dict(inputs=[LazyFrames(2)])
    with pytest.raises(ValueError, match='video clip: 2 input frames but pred_video is of 3'):
        VideoOverlayHook(tmp_path / 'out').after_test_iter(
            runner(tmp_path), 0, batch, [sample(prediction([0.9]))]
        )
    assert not (tmp_path / 'out').exists()


def test_frames_of_the_data_set_are_taken(tmp_path: Path) -> None:
    frames = [np.full((*ORIGINAL, 3), 60, np.uint8) for _ in range(3)]
    video = VideoFrames(frames, [dict(type='Resize', scale=(80, 60), keep_ratio=True)], name='clip')
    VideoOverlayHook(tmp_path / 'out').after_test_iter(
        runner(tmp_path), 0, dict(inputs=[video]), [sample(prediction([0.9]))]
    )
    found = read_video(tmp_path / 'out' / 'clip.mp4')
    assert [is_drawn(frame) for frame in found] == [True, False, True]
