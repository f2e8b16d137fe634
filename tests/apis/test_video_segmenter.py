from __future__ import annotations

import gc
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmboxvis.apis import FrameResult, VideoSegmenter, open_source, video_segmenter
from mmboxvis.apis.official import save_whole
from mmboxvis.apis.spool import MaskSpool, SpooledTrack, pack, unpack
from mmboxvis.apis.video_run import FinalTracks
from mmboxvis.datasets import FrameError, ToyVIS, VideoFrames
from mmboxvis.evaluation.submission import check_submission
from mmboxvis.models.vis import BoxVIS, VideoPredictor
from mmboxvis.models.vis.track_masks import encode_masks
from mmboxvis.visualization import write_video
from tests.models.tiny import NUM_CLASSES, criterion_cfg, make_boxvis, make_video, network_cfg

ROOT = Path(__file__).resolve().parents[2]
ORIGINAL = (60, 90)
PIPELINE = [dict(type='Resize', scale=(64, 48), keep_ratio=True)]
TRACKERS = [None, dict(type='OverlapTracker', window=4, cls_thr=0.3)]


@pytest.fixture(scope='module')
def model() -> BoxVIS:
    torch.manual_seed(0)
    return make_boxvis(pseudo_masks=None).eval()


@pytest.fixture
def segmenter(model: BoxVIS) -> VideoSegmenter:
    return make_segmenter(model)


def make_segmenter(model: BoxVIS, **test_cfg: Any) -> VideoSegmenter:
    segmenter = VideoSegmenter.from_model(model, pipeline=PIPELINE, read_ahead=2)
    model.test_cfg = test_cfg
    return segmenter


def video(num_frames: int) -> list[np.ndarray]:
    return make_video(num_frames, ORIGINAL)


def config(**changes: Any) -> Config:
    model = dict(type='BoxVIS', network=network_cfg(), criterion=criterion_cfg(), pseudo_masks=None)
    loader = dict(dataset=dict(type='ToyVIS', pipeline=PIPELINE))
    return Config({**dict(model=model, test_dataloader=loader), **changes})


def same(one: FrameResult, other: FrameResult) -> bool:
    return (
        one.index == other.index
        and one.size == other.size
        and one.segmentations == other.segmentations
        and all(
            np.array_equal(getattr(one, name), getattr(other, name))
            for name in ('track_ids', 'labels', 'scores')
        )
    )


def read_ahead_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == 'read-ahead']


class TestResults:
    def test_no_frame(self, segmenter: VideoSegmenter) -> None:
        with pytest.raises(FrameError, match='no frame to use'):
            list(segmenter(iter(())))
        with pytest.raises(ValueError, match='no frame has been segmented'):
            segmenter.to_json()

    def test_before_the_first_video(self, segmenter: VideoSegmenter) -> None:
        with pytest.raises(ValueError, match='no video yet'):
            segmenter.to_json()

    def test_one_black_frame(self, segmenter: VideoSegmenter) -> None:
        (result,) = segmenter([np.zeros((*ORIGINAL, 3), np.uint8)])
        assert result.index == 0
        assert result.masks().shape == (len(result), *ORIGINAL)
        assert all(len(track['segmentations']) == 1 for track in segmenter.to_json())

    def test_nothing_seen(self) -> None:
        none = np.zeros(0, np.int64)
        result = FrameResult(0, ORIGINAL, none, none, np.zeros(0), ())
        assert result.masks().shape == (0, *ORIGINAL)

    @pytest.mark.parametrize('tracker', TRACKERS)
    def test_one_a_frame_in_order(self, model: BoxVIS, tracker: dict | None) -> None:
        segmenter = make_segmenter(model, tracker=tracker)
        results = list(segmenter(video(7)))
        assert [result.index for result in results] == list(range(7))
        for result in results:
            assert result.size == ORIGINAL
            masks = result.masks()
            assert masks.dtype == bool
            assert masks.shape == (len(result), *ORIGINAL)
            assert masks.any((1, 2)).all()
            assert len(result.track_ids) == len(result.labels) == len(result.scores) == len(result)
            assert len(set(result.track_ids.tolist())) == len(result)
            assert (np.diff(result.scores) <= 0).all()
            assert ((result.scores >= 0) & (result.scores <= 1)).all()
        assert any(len(result) for result in results)

    def test_running_scores_of_the_last_frame_are_final(self, segmenter: VideoSegmenter) -> None:
        last = list(segmenter(video(5)))[-1]
        tracks = segmenter.run.tracks()
        best = dict(zip(reversed(tracks.track_ids), reversed(tracks.scores)))
        for track_id, score in zip(last.track_ids.tolist(), last.scores.tolist()):
            assert score == pytest.approx(best[track_id], abs=1e-9)

    def test_masks_of_results_are_those_of_the_json(self, segmenter: VideoSegmenter) -> None:
        results = list(segmenter(video(4)))
        tracks = segmenter.run.tracks()
        for row, track_id in enumerate(tracks.track_ids):
            for result in results:
                mask = tracks.segmentations[row][result.index]
                found = result.track_ids.tolist()
                if track_id in found:
                    assert result.segmentations[found.index(track_id)] == mask

    def test_endless_iterator_is_read_as_far_as_needed(self, segmenter: VideoSegmenter) -> None:
        read = 0

        def camera() -> Iterator[np.ndarray]:
            nonlocal read
            for frame in itertools.cycle(video(3)):
                read += 1
                yield frame

        results = segmenter(camera())
        for result in itertools.islice(results, 6):
            # the rest of a clip, two waiting, one in the hand of the thread
            assert read <= result.index + 3 + 2 + 1
        results.close()  # type: ignore[attr-defined]
        assert all(len(track['segmentations']) == 6 for track in segmenter.to_json())

    def test_two_videos_at_once(self, segmenter: VideoSegmenter) -> None:
        alone = list(segmenter(video(4)))
        together = list(zip(segmenter(video(4)), segmenter(make_video(4, (48, 48), seed=3))))
        assert all(same(one, two[0]) for one, two in zip(alone, together, strict=True))


class TestAgreesWithThePredictor:
    """What a test run reports is what the stream reports."""

    def expected(self, model: BoxVIS, frames: list[np.ndarray], **options: Any) -> list[dict]:
        lazy = VideoFrames(frames, PIPELINE)
        prediction = VideoPredictor(model, **options)(lazy, ori_shape=ORIGINAL)
        return prediction.to_json(range(1, NUM_CLASSES + 1))

    @pytest.mark.parametrize('tracker', TRACKERS)
    @pytest.mark.parametrize('num_frames', [1, 2, 9])
    @pytest.mark.parametrize(('length', 'stride'), [(1, 1), (3, 1), (3, 2)])
    def test_short(
        self, model: BoxVIS, tracker: dict | None, num_frames: int, length: int, stride: int
    ) -> None:
        options = dict(tracker=tracker, clip_length=length, clip_stride=stride)
        segmenter = make_segmenter(model, **options)
        list(segmenter(video(num_frames)))
        assert segmenter.to_json() == self.expected(model, video(num_frames), **options)

    @pytest.mark.parametrize('tracker', TRACKERS)
    def test_longer_than_the_buffer(self, model: BoxVIS, tracker: dict | None) -> None:
        options = dict(tracker=tracker, buffer_frames=3, prune_score=0)
        segmenter = make_segmenter(model, **options)
        list(segmenter(video(10)))
        assert segmenter.to_json() == self.expected(model, video(10), **options)

    def test_asking_in_between_changes_nothing(self, model: BoxVIS) -> None:
        segmenter = make_segmenter(model, buffer_frames=4)
        list(segmenter(video(10)))
        wanted = segmenter.to_json()
        for result in segmenter(video(10)):
            tracks = segmenter.to_json()
            assert {len(track['segmentations']) for track in tracks} == {result.index + 1}
        assert segmenter.to_json() == wanted


class TestSources:
    @pytest.mark.parametrize('kind', ['folder', 'v.mp4', 'v.gif', 'iterator', 'generator'])
    def test_are_all_alike(self, segmenter: VideoSegmenter, tmp_path: Path, kind: str) -> None:
        frames: Any = video(4)
        source: Any = iter(frames) if kind == 'iterator' else (frame for frame in frames)
        if kind == 'folder':
            for t, frame in enumerate(frames):
                cv2.imwrite(str(tmp_path / f'{t}.png'), frame)
            source = tmp_path
        elif kind.startswith('v.'):
            source = write_video(tmp_path / kind, frames, fps=5)
            frames = list(open_source(source).frames())  # not what was written, to a bit
        results = list(segmenter(source))
        wanted = list(segmenter(frames))
        assert all(same(one, other) for one, other in zip(results, wanted, strict=True))

    def test_range_and_size(self, segmenter: VideoSegmenter) -> None:
        results = list(segmenter(video(9), start=1, end=8, every=3, max_side=45))
        assert [result.index for result in results] == [0, 1, 2]
        assert {result.size for result in results} == {(30, 45)}
        assert segmenter.to_json()[0]['segmentations'][0]['size'] == [30, 45]

    def test_wrong_source_is_refused_at_once(self, segmenter: VideoSegmenter) -> None:
        with pytest.raises(FileNotFoundError, match='nowhere'):
            segmenter('nowhere.mp4')
        with pytest.raises(ValueError, match='every'):
            segmenter(video(1), every=0)

    def test_error_in_the_middle(self, segmenter: VideoSegmenter) -> None:
        def failing() -> Iterator[np.ndarray]:
            yield from video(5)
            raise RuntimeError('the camera is gone')

        results = segmenter(failing())
        with pytest.raises(RuntimeError, match='the camera is gone'):
            list(results)
        assert read_ahead_threads() == []
        assert {len(track['segmentations']) for track in segmenter.to_json()} == {3}

    def test_breaking_off_stops_the_thread(self, segmenter: VideoSegmenter) -> None:
        for _ in segmenter(itertools.cycle(video(2))):
            break
        gc.collect()
        assert read_ahead_threads() == []


class TestOutput:
    def test_json_is_a_submission(self, segmenter: VideoSegmenter, tmp_path: Path) -> None:
        list(segmenter(video(6)))
        tracks = segmenter.to_json()
        known = [dict(id=1, height=ORIGINAL[0], width=ORIGINAL[1], length=6)]
        assert check_submission(tracks, known) == []
        assert len(tracks) >= 6
        assert (np.diff([track['score'] for track in tracks]) <= 0).all()
        path = segmenter.write_json(tmp_path / 'deep/results.json')
        assert json.loads(path.read_text()) == tracks
        assert [file.name for file in path.parent.iterdir()] == ['results.json']

    def test_category_ids(self, model: BoxVIS) -> None:
        segmenter = VideoSegmenter.from_model(
            model, pipeline=PIPELINE, classes=list('abcd'), category_ids=[7, 8, 9, 10]
        )
        list(segmenter(video(2)))
        tracks = segmenter.run.tracks()
        found = [track['category_id'] for track in segmenter.to_json()]
        assert found == [label + 7 for label in tracks.labels]

    @pytest.mark.parametrize('kind', ['list', 'iterator', 'handed in'])
    def test_video(self, segmenter: VideoSegmenter, tmp_path: Path, kind: str) -> None:
        list(segmenter(video(4) if kind == 'list' else iter(video(4)), frame_cache=2**20))
        frames = iter(video(4)) if kind == 'handed in' else None
        path = segmenter.write_video(tmp_path / 'o.mp4', score_thr=0, frames=frames, trail_length=2)
        with av.open(str(path)) as container:
            drawn = [frame.to_ndarray(format='bgr24') for frame in container.decode(video=0)]
            assert container.streams.video[0].average_rate == 8
        assert len(drawn) == 4
        assert min(drawn[0].shape[:2]) >= 256

    def test_video_of_too_many_frames(self, segmenter: VideoSegmenter, tmp_path: Path) -> None:
        list(segmenter(iter(video(2)), frame_cache=10))
        with pytest.raises(FrameError, match='too many to keep'):
            segmenter.write_video(tmp_path / 'o.mp4')
        assert list(tmp_path.iterdir()) == []

    def test_video_of_too_few_frames(self, segmenter: VideoSegmenter, tmp_path: Path) -> None:
        list(segmenter(iter(video(4)), frame_cache=0))
        with pytest.raises(FrameError, match=r'4 frames were segmented.* only 3 to draw'):
            segmenter.write_video(tmp_path / 'o.mp4', frames=video(3))
        assert list(tmp_path.iterdir()) == []

    def test_each_object_is_drawn_once(self, segmenter: VideoSegmenter) -> None:
        list(segmenter(video(3)))
        shown = segmenter.run.shown_tracks(0.0)
        assert 0 < len(shown.labels) <= len(set(segmenter.run.tracks().track_ids))
        assert len(set(shown.track_ids)) == len(shown.track_ids)
        assert segmenter.run.shown_tracks(1.1).labels == []

    def test_objects_that_share_most_of_their_pixels_are_all_drawn(
        self, segmenter: VideoSegmenter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As a rider and a horse may; only what is nearly the same is one object."""
        list(segmenter(video(2)))
        masks = np.arange(20) < np.array([20, 14, 19])[:, None, None]  # IoU 0.7 and 0.95
        tracks = FinalTracks(
            labels=[0, 1, 2],
            scores=[0.9, 0.8, 0.7],
            track_ids=[5, 6, 7],
            segmentations=[[rle] * 2 for rle in encode_masks(torch.from_numpy(masks))],
        )
        monkeypatch.setattr(segmenter.run, 'tracks', lambda: tracks)
        assert segmenter.run.shown_tracks(0.3).track_ids == [5, 6]


class TestResume:
    @pytest.mark.parametrize('tracker', TRACKERS)
    @pytest.mark.parametrize(('stop', 'stride'), [(1, 1), (5, 1), (9, 2), (13, 1)])
    def test_equals_the_uninterrupted_run(
        self, model: BoxVIS, tmp_path: Path, tracker: dict | None, stop: int, stride: int
    ) -> None:
        for t, frame in enumerate(video(13)):
            cv2.imwrite(str(tmp_path / f'{t:02d}.png'), frame)
        segmenter = make_segmenter(model, tracker=tracker, clip_stride=stride, buffer_frames=2)
        wanted = list(segmenter(tmp_path))
        wanted_json = segmenter.to_json()

        spool = tmp_path / 'progress'
        first = segmenter(tmp_path, resume=spool, save_every=0)
        results = list(itertools.islice(first, stop))
        first.close()  # type: ignore[attr-defined]
        segmenter.run.spool.close()  # as if the process had ended here
        second = segmenter(tmp_path, resume=spool, save_every=0)
        done = segmenter.run.num_frames
        assert max(0, stop - 3 - 4) <= done <= stop
        results[done:] = second
        assert all(same(one, other) for one, other in zip(results, wanted, strict=True))
        assert segmenter.to_json() == wanted_json

    def test_many_times(self, model: BoxVIS, tmp_path: Path) -> None:
        source = write_video(tmp_path / 'v.mp4', video(12))
        segmenter = make_segmenter(model, buffer_frames=1)
        list(segmenter(source, every=2))
        wanted = segmenter.to_json()
        for _ in range(20):
            results = segmenter(source, every=2, resume=tmp_path / 'p', save_every=0)
            if segmenter.run.complete:
                break
            list(itertools.islice(results, 3))
            results.close()  # type: ignore[attr-defined]
            segmenter.run.spool.close()
        assert segmenter.run.complete
        assert list(results) == []
        assert segmenter.to_json() == wanted

    @pytest.mark.parametrize('change', ['every', 'video', 'weights', 'settings'])
    def test_another_run_is_refused(self, tmp_path: Path, change: str) -> None:
        torch.manual_seed(1)
        model = make_boxvis(pseudo_masks=None)
        segmenter = make_segmenter(model)
        source = write_video(tmp_path / 'v.gif', video(3))
        list(segmenter(source, resume=tmp_path / 'p'))
        segmenter.run.spool.close()
        if change == 'video':
            write_video(tmp_path / 'v.gif', video(4))
        elif change == 'weights':
            with torch.no_grad():
                next(model.student.parameters()).add_(1)
        elif change == 'settings':
            segmenter = make_segmenter(model, clip_length=2)
        with pytest.raises(ValueError, match='the beginning of another run'):
            segmenter(source, every=2 if change == 'every' else 1, resume=tmp_path / 'p')

        # the refused file is not held
        MaskSpool(tmp_path / 'p').close()

    def test_in_use(self, model: BoxVIS, tmp_path: Path) -> None:
        source = write_video(tmp_path / 'v.gif', video(3))
        with make_segmenter(model) as segmenter:
            next(segmenter(source, resume=tmp_path / 'p'))
            with pytest.raises(ValueError, match='another run may be using it'):
                make_segmenter(model)(source, resume=tmp_path / 'p')
        assert len(list(make_segmenter(model)(source, resume=tmp_path / 'p'))) == 3

    def test_again_in_the_same_process(
        self, model: BoxVIS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = write_video(tmp_path / 'v.gif', video(9))
        monkeypatch.chdir(tmp_path)
        segmenter = make_segmenter(model, buffer_frames=2)
        first = segmenter(source, resume='p', save_every=0)
        assert len(list(itertools.islice(first, 6))) == 6
        second = list(segmenter(source, resume=tmp_path / 'p', save_every=0))
        assert 0 < second[0].index < 6
        assert second[-1].index == 8
        with pytest.raises(ValueError, match='the run that keeps its masks in p is closed'):
            list(first)
        assert read_ahead_threads() == []
        tracks = segmenter.to_json()
        assert list(segmenter(source, resume='p')) == []  # it has ended
        assert segmenter.to_json() == tracks

    def test_closed(self, segmenter: VideoSegmenter, tmp_path: Path) -> None:
        segmenter.close()
        list(segmenter(video(3), every=2))
        folder = segmenter.run.spool._folder
        segmenter.close()
        assert folder is not None and not Path(folder.name).exists()
        with pytest.raises(ValueError, match='no video yet, or it is closed'):
            segmenter.to_json()
        assert len(list(segmenter(video(3)))) == 3

    def test_file_of_another_kind(self, segmenter: VideoSegmenter, tmp_path: Path) -> None:
        source = write_video(tmp_path / 'v.gif', video(3))
        with pytest.raises(ValueError, match='another kind of file'):
            segmenter(source, resume=source)

    def test_iterators_cannot_be_resumed(self, segmenter: VideoSegmenter, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match='file or a folder'):
            segmenter(iter(video(3)), resume=tmp_path / 'p')


class TestSpool:
    def test_tracks(self) -> None:
        spool = MaskSpool()
        assert list(SpooledTrack(spool, 3, 0, (4, 5))) == []
        for frame, track in [(2, 1), (0, 1), (2, 0), (7, 1)]:
            spool.add(frame, track, f'{frame}-{track}')
        track = SpooledTrack(spool, 1, 5, (4, 5))
        wanted = [
            dict(size=[4, 5], counts='0-1'),
            None,
            dict(size=[4, 5], counts='2-1'),
            None,
            None,
        ]
        assert list(track) == [track[t] for t in range(5)] == track[:] == wanted
        assert track[-3] == wanted[2]
        with pytest.raises(IndexError):
            track[5]

    def test_temporary_file_goes_away(self) -> None:
        spool = MaskSpool()
        assert spool._folder is not None
        folder = Path(spool._folder.name)
        assert folder.is_dir()
        spool.close()
        assert not folder.exists()

    @pytest.mark.parametrize('keep', [True, False])
    def test_full_disk(self, tmp_path: Path, small_files: None, keep: bool) -> None:
        spool = MaskSpool(tmp_path / 's' if keep else None)
        with pytest.raises(OSError, match=r'cannot be kept in .*full\?'):
            for frame in range(9):
                # larger than what the database holds in memory
                spool.add(frame, 0, 'a' * 2**20)
                spool.commit({})
        spool.close()

    def test_what_is_not_committed_is_lost(self, tmp_path: Path) -> None:
        spool = MaskSpool(tmp_path / 's')
        spool.add(0, 0, 'a')
        spool.commit(dict(x=torch.ones(2)))
        spool.add(1, 0, 'b')
        spool.close()
        again = MaskSpool(tmp_path / 's')
        assert list(again.track(0)) == [(0, 'a')]
        state = again.state()
        assert state is not None
        assert state['x'].tolist() == [1, 1]

    @pytest.mark.parametrize('tracker', TRACKERS)
    def test_state_is_small_and_plain(
        self, model: BoxVIS, tmp_path: Path, tracker: dict | None
    ) -> None:
        predictor = VideoPredictor(model, tracker=tracker)
        for _ in zip(predictor.stream(video(9)), range(6)):
            pass
        state = pack(vars(predictor.tracker))
        torch.save(state, tmp_path / 'state')
        loaded = unpack(torch.load(tmp_path / 'state', weights_only=True))
        assert loaded.keys() == vars(predictor.tracker).keys()
        # not more than the live frames of all queries, a window of them where there are windows
        assert (tmp_path / 'state').stat().st_size < (3 + 6) * 6 * 12 * 16 * 4 + 50_000

    def test_strange_objects_are_refused(self) -> None:
        with pytest.raises(TypeError, match='Path'):
            pack(dict(a=[Path()]))


class TestMemory:
    def test_only_a_buffer_of_low_resolution_frames_is_held(self, model: BoxVIS) -> None:
        segmenter = make_segmenter(model, buffer_frames=4)
        for _ in segmenter(itertools.islice(itertools.cycle(video(3)), 30)):
            run = segmenter.run
            assert len(run._buffer) <= 5
            assert run.predictor.tracker.num_live_frames <= 3  # type: ignore[attr-defined]
            assert run.masks.segmentations == {}

    @pytest.mark.slow
    def test_peak_does_not_grow_with_the_video(self) -> None:
        peaks = {count: self.peak(count) for count in (60, 1000)}
        assert peaks[1000] < 1.1 * peaks[60], peaks

    @staticmethod
    def peak(num_frames: int) -> int:
        """Peak resident memory in kB of a process that segments so many frames."""
        program = f"""
import itertools, resource, torch
from mmboxvis.apis import VideoSegmenter
from tests.models.tiny import make_boxvis, make_video
torch.manual_seed(0)
torch.set_num_threads(1)
segmenter = VideoSegmenter.from_model(
    make_boxvis(pseudo_masks=None), pipeline=[dict(type='Resize', scale=(96, 64), keep_ratio=True)]
)
frames = itertools.islice(itertools.cycle(make_video(8, (240, 320))), {num_frames})
assert sum(1 for _ in segmenter(frames)) == {num_frames}
segmenter.run.tracks()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
        done = subprocess.run(
            [sys.executable, '-c', program],
            cwd=ROOT,
            env=dict(os.environ, PYTHONPATH=str(ROOT)),
            capture_output=True,
            text=True,
            check=True,
        )
        return int(done.stdout.split()[-1])


class TestConstruction:
    def test_config_file_and_checkpoint(self, tmp_path: Path) -> None:
        config().dump(tmp_path / 'c.py')
        torch.manual_seed(5)
        trained = make_boxvis(pseudo_masks=None)
        meta = dict(dataset_meta=dict(classes=('a', 'b', 'c', 'd')))
        save_whole(dict(state_dict=trained.state_dict(), meta=meta), tmp_path / 'c.pth')
        segmenter = VideoSegmenter(str(tmp_path / 'c.py'), tmp_path / 'c.pth')
        assert segmenter.classes == ('a', 'b', 'c', 'd')
        wanted = VideoSegmenter.from_model(trained, pipeline=PIPELINE)
        assert all(
            same(one, other)
            for one, other in zip(segmenter(video(4)), wanted(video(4)), strict=True)
        )

    def test_random_weights_warn(self) -> None:
        with pytest.warns(UserWarning, match='weights are random'):
            segmenter = VideoSegmenter(config())
        assert segmenter.classes == ToyVIS.METAINFO['classes']
        assert not segmenter.model.training

    @pytest.mark.parametrize(
        ('dataset', 'classes'),
        [
            (dict(type='BoxVideo'), [f'class {i}' for i in range(4)]),
            (dict(type='BoxVideo', classes=list('wxyz')), list('wxyz')),
            (dict(type='Wrapper', dataset=dict(classes=list('wxyz'))), list('wxyz')),
            (dict(type='YouTubeVIS', version='2019'), [f'class {i}' for i in range(4)]),
        ],
    )
    @pytest.mark.filterwarnings('ignore:no checkpoint')
    def test_classes(self, dataset: dict, classes: list[str]) -> None:
        cfg = config(test_dataloader=dict(dataset=dataset))
        assert list(VideoSegmenter(cfg).classes) == classes

    @pytest.mark.filterwarnings('ignore:no checkpoint')
    def test_classes_of_youtube_vis(self) -> None:
        cfg = config(test_dataloader=dict(dataset=dict(type='YouTubeVIS')))
        cfg.model.network = network_cfg(num_classes=40)
        assert VideoSegmenter(cfg).classes[:2] == ('airplane', 'bear')

    def test_released_weights(self, golden: Path) -> None:
        segmenter = VideoSegmenter.from_official(golden / 'official_tiny_r50.pkl')
        results = list(segmenter(make_video(3, (64, 64))))
        assert [result.index for result in results] == [0, 1, 2]
        assert len(segmenter.classes) == segmenter.model.student.track_head.num_classes

    def test_errors(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match='no config'):
            VideoSegmenter(tmp_path / 'none.py')
        with pytest.raises(ValueError, match='defines no model'):
            VideoSegmenter(Config(dict(a=1)))
        with pytest.raises(FileNotFoundError, match=r'none\.pth'):
            VideoSegmenter(config(), tmp_path / 'none.pth')
        with pytest.raises(ValueError, match='3 classes, but the model has 4'):
            VideoSegmenter.from_model(make_boxvis(), classes=list('abc'))
        with pytest.raises(ValueError, match="device 'nowhere' cannot be used here"):
            VideoSegmenter.from_model(make_boxvis(), 'nowhere')
        (tmp_path / 'broken.py').write_text('a = 1 / 0')
        with pytest.raises(ValueError, match=r'broken\.py cannot be read as a config: ZeroDiv'):
            VideoSegmenter(tmp_path / 'broken.py')
        (tmp_path / 'text.pth').write_text('hi')
        with pytest.raises(ValueError, match=r'text\.pth is no readable checkpoint: it is no file'):
            VideoSegmenter(config(), tmp_path / 'text.pth')

    def test_checkpoint_of_another_model(self, tmp_path: Path) -> None:
        other = make_boxvis(network_cfg(num_classes=7), pseudo_masks=None)
        save_whole(dict(state_dict=other.state_dict()), tmp_path / 'c.pth')
        with pytest.raises(ValueError, match=r'c\.pth does not fit the config.*cls_embed'):
            VideoSegmenter(config(), tmp_path / 'c.pth')
        other = make_boxvis(network_cfg(num_queries=3), pseudo_masks=None)
        save_whole(dict(state_dict=other.state_dict()), tmp_path / 'c.pth')
        with pytest.raises(ValueError, match=r'(?s)c\.pth does not fit the config.*query'):
            VideoSegmenter(config(), tmp_path / 'c.pth')


@pytest.mark.parametrize(
    ('config', 'short_edge'),
    [
        ('boxvis_r50_query-t3_ovis-480p_official', 480),
        ('boxvis_swin-l_overlap-t3_ovis-480p_official', 480),
        ('boxvis_r50_query-t3_ytvis21-360p_official', 360),
        ('boxvis_r50_query-t3_ytvis21-360p', 360),
    ],
)
def test_frames_are_scaled_as_in_the_test_of_the_config(config: str, short_edge: int) -> None:
    """A set of BVISD keeps its pipeline in its part."""
    cfg = Config.fromfile(ROOT / 'configs/testing' / f'{config}.py')
    (resize,) = video_segmenter._test_pipeline(video_segmenter._test_dataset(cfg))
    assert resize == dict(
        type='Resize', scale=(1333, short_edge), keep_ratio=True, backend='pillow'
    )


def test_without_a_test_set_frames_are_scaled_as_for_youtube_vis() -> None:
    cfg = Config.fromfile(ROOT / 'configs/testing/boxvis_r50_query-t3_ytvis21-360p.py')
    expected = cfg.test_dataloader.dataset.pipeline
    assert [dict(step) for step in expected] == list(video_segmenter._DEFAULT_PIPELINE)
