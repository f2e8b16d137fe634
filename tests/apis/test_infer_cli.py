from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import cv2
import pytest
import torch
from mmengine.config import Config

from mmboxvis.apis import VideoSegmenter
from mmboxvis.apis.official import save_whole
from mmboxvis.evaluation.submission import check_submission
from mmboxvis.visualization import write_video
from tests.models.tiny import criterion_cfg, make_boxvis, make_video, network_cfg

ROOT = Path(__file__).resolve().parents[2]
NUM_FRAMES = 8


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location('infer', ROOT / 'tools/infer.py')
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that saves its state often, a video and its frames as a folder."""
    base = tmp_path_factory.mktemp('infer')
    torch.manual_seed(0)
    cfg = dict(
        model=dict(
            type='BoxVIS',
            network=network_cfg(),
            criterion=criterion_cfg(),
            pseudo_masks=None,
            test_cfg=dict(buffer_frames=2),
        ),
        test_dataloader=dict(
            dataset=dict(type='ToyVIS', pipeline=[dict(type='Resize', scale=(64, 48))])
        ),
    )
    Config(cfg).dump(base / 'c.py')
    model = make_boxvis(pseudo_masks=None)
    save_whole(dict(state_dict=model.state_dict()), base / 'c.pth')
    write_video(base / 'v.mp4', make_video(NUM_FRAMES, (60, 90)), fps=5)
    (base / 'frames').mkdir()
    for t, frame in enumerate(make_video(NUM_FRAMES, (60, 90))):
        cv2.imwrite(str(base / f'frames/{t}.png'), frame)
    return base


def arguments(files: Path, source: str, out: Path, *more: str) -> list[str]:
    weights = ['--config', str(files / 'c.py'), '--checkpoint', str(files / 'c.pth')]
    return [str(files / source), *weights, '--out', str(out), *more]


def test_video(tool: ModuleType, files: Path, tmp_path: Path, capsys: Any) -> None:
    tool.main(arguments(files, 'v.mp4', tmp_path / 'out', '--score-thr', '0.1'))
    names = {path.name for path in (tmp_path / 'out').iterdir()}
    assert names == {'results.json', 'video.json', 'overlay.mp4'}
    results = json.loads((tmp_path / 'out/results.json').read_text())
    about = json.loads((tmp_path / 'out/video.json').read_text())
    assert check_submission(results, about) == []
    assert about['videos'][0]['length'] == NUM_FRAMES
    assert about['run']['frames'] == NUM_FRAMES
    assert [category['id'] for category in about['categories']] == [1, 2, 3, 4]
    with av.open(str(tmp_path / 'out/overlay.mp4')) as container:
        assert container.streams.video[0].average_rate == 5
        assert sum(1 for _ in container.decode(video=0)) == NUM_FRAMES
    printed = capsys.readouterr().out
    assert f'{NUM_FRAMES} frames' in printed
    assert 'frames/s' in printed


def test_results_stand_beside_no_overlay_of_an_earlier_run(
    tool: ModuleType, files: Path, tmp_path: Path, capsys: Any
) -> None:
    tool.main(arguments(files, 'v.mp4', tmp_path))
    assert 'Removed' not in capsys.readouterr().out
    tool.main(arguments(files, 'frames', tmp_path, '--no-video'))
    assert {path.name for path in tmp_path.iterdir()} == {'results.json', 'video.json'}
    assert f'Removed {tmp_path / "overlay.mp4"}' in capsys.readouterr().out
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other/overlay.mp4').write_bytes(b'of somebody')
    tool.main(arguments(files, 'frames', tmp_path / 'other', '--no-video'))
    assert (tmp_path / 'other/overlay.mp4').read_bytes() == b'of somebody'


@pytest.fixture
def cut_movie(tmp_path: Path) -> Path:
    """A movie with less frames than its header says."""
    path, cut = tmp_path / 'whole.mp4', tmp_path / 'cut.mp4'
    with av.open(str(path), 'w', options={'movflags': 'faststart'}) as container:
        stream = container.add_stream('mpeg4', rate=5)
        stream.width, stream.height, stream.pix_fmt = 90, 60, 'yuv420p'
        for frame in make_video(NUM_FRAMES, (60, 90)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format='bgr24')))
        container.mux(stream.encode(None))
    content = path.read_bytes()
    cut.write_bytes(content[: len(content) * 6 // 10])
    return cut


def test_cut_off_movie(
    tool: ModuleType, files: Path, tmp_path: Path, cut_movie: Path, capsys: Any
) -> None:
    """Is processed as far as it goes, and it is said how far that is."""
    command = [str(cut_movie), *arguments(files, '', tmp_path / 'out', '--no-video')[1:]]
    with pytest.warns(UserWarning, match=rf'cut\.mp4: ends after \d+ .* tells of {NUM_FRAMES}'):
        tool.main(command)
    (video,) = json.loads((tmp_path / 'out/video.json').read_text())['videos']
    assert video['length'] == video['source_frames'] < NUM_FRAMES
    assert video['source_frames_in_header'] == NUM_FRAMES
    assert 'ends before its header says' in capsys.readouterr().out


@pytest.mark.filterwarnings('ignore:.*ends after')
def test_cut_off_movie_that_an_earlier_run_segmented(
    tool: ModuleType, files: Path, tmp_path: Path, cut_movie: Path, capsys: Any
) -> None:
    command = [str(cut_movie), *arguments(files, '', tmp_path / 'out', '--no-video')[1:]]
    with tool.load_segmenter(tool.parse_args(command)) as segmenter:
        tool.segment(segmenter, tool.parse_args(command))
    tool.main(command)
    about = json.loads((tmp_path / 'out/video.json').read_text())
    (video,) = about['videos']
    assert video['length'] == video['source_frames'] < NUM_FRAMES
    assert video['source_frames_in_header'] == NUM_FRAMES
    assert (about['run']['frames'], about['run']['frames_per_second']) == (0, None)
    printed = capsys.readouterr().out
    assert f'{video["length"]} of {NUM_FRAMES} frames' in printed
    assert 'all segmented in an earlier run' in printed


def test_without_a_config_it_says_what_is_assumed(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(
        'mmboxvis.apis.video_segmenter.load_official', lambda _: make_boxvis(pseudo_masks=None)
    )
    segmenter = tool.load_segmenter(tool.parse_args(['v', '--checkpoint', 'a.pkl', '--out', 'o']))
    (resize,) = segmenter.transforms
    assert resize.scale == (1333, 360)
    printed = capsys.readouterr().out
    for words in ('short edge 360', '1333', 'query tracker', "4 classes called 'class 0'"):
        assert words in printed


def test_folder_and_options(tool: ModuleType, files: Path, tmp_path: Path) -> None:
    options = ['--start', '1', '--end', '7', '--every', '2', '--max-side', '45', '--no-video']
    tool.main(arguments(files, 'frames', tmp_path, *options))
    assert {path.name for path in tmp_path.iterdir()} == {'results.json', 'video.json'}
    (video,) = json.loads((tmp_path / 'video.json').read_text())['videos']
    assert (video['name'], video['length']) == ('frames', 3)
    assert (video['height'], video['width']) == (30, 45)
    assert (video['start'], video['every']) == (1, 2)


def test_list_of_images_with_boxes_and_trails(
    tool: ModuleType, files: Path, tmp_path: Path
) -> None:
    images = [str(files / f'frames/{t}.png') for t in (4, 1, 0)]
    options = ['--boxes', '--trails', '2', '--score-thr', '0.1']
    tool.main([*images, *arguments(files, '', tmp_path, *options)[1:]])
    about = json.loads((tmp_path / 'video.json').read_text())
    assert about['videos'][0]['length'] == 3 and about['videos'][0]['source'] == ' '.join(images)
    assert (tmp_path / 'overlay.mp4').is_file()


class TestInterrupted:
    @pytest.fixture
    def interrupted(
        self, tool: ModuleType, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Path:
        """The folder of a run that was broken off at frame 5."""
        results = VideoSegmenter.__call__

        def broken_off(self: VideoSegmenter, *args: Any, **kwargs: Any) -> Iterator[Any]:
            for result in results(self, *args, **kwargs):
                if result.index == 5:
                    self.run.spool.close()
                    raise KeyboardInterrupt
                yield result

        out = tmp_path / 'out'
        with monkeypatch.context() as patch:
            patch.setattr(
                VideoSegmenter,
                '__call__',
                lambda *args, **kwargs: _started(broken_off, args, kwargs),
            )
            with pytest.raises(SystemExit, match='the same command goes on'):
                tool.main(arguments(files, 'frames', out, '--no-video', '--save-every', '0'))
        assert [path.name for path in out.iterdir()] == [tool.SPOOL]
        return out

    def test_before_anything_was_saved(
        self, tool: ModuleType, files: Path, interrupted: Path
    ) -> None:
        out = interrupted.parent / 'early'
        with (
            pytest.MonkeyPatch.context() as patch,
            pytest.raises(SystemExit, match='before anything was saved'),
        ):
            patch.setattr(tool, 'track', _interrupt)
            tool.main(arguments(files, 'frames', out, '--no-video'))
        assert list(out.iterdir()) == []

    def test_goes_on(
        self, tool: ModuleType, files: Path, interrupted: Path, tmp_path: Path, capsys: Any
    ) -> None:
        tool.main(arguments(files, 'frames', interrupted, '--no-video'))
        assert 'Going on at frame' in capsys.readouterr().out
        tool.main(arguments(files, 'frames', tmp_path / 'whole', '--no-video'))
        results = [folder / 'results.json' for folder in (interrupted, tmp_path / 'whole')]
        assert results[0].read_bytes() == results[1].read_bytes()
        about = json.loads((interrupted / 'video.json').read_text())
        assert 0 < about['run']['frames'] < NUM_FRAMES
        assert about['videos'][0]['length'] == NUM_FRAMES

    def test_other_options_are_refused_until_restart(
        self, tool: ModuleType, files: Path, interrupted: Path
    ) -> None:
        command = arguments(files, 'frames', interrupted, '--no-video', '--every', '2')
        with pytest.raises(SystemExit, match='beginning of another run'):
            tool.main(command)
        tool.main([*command, '--restart'])
        about = json.loads((interrupted / 'video.json').read_text())
        assert about['videos'][0]['length'] == NUM_FRAMES // 2


def _interrupt(items: Any, *_: Any) -> Any:
    next(items)
    raise KeyboardInterrupt


def _started(generator: Any, args: tuple, kwargs: dict) -> Iterator[Any]:
    """Runs a generator up to its first item, so that the segmenter's video has begun."""
    items = generator(*args, **kwargs)
    first = next(items)

    def again() -> Iterator[Any]:
        yield first
        yield from items

    return again()


class TestErrors:
    def expect(self, tool: ModuleType, command: list[str], match: str) -> None:
        with pytest.raises(SystemExit, match=match):
            tool.main(command)

    def test_missing_files(self, tool: ModuleType, files: Path, tmp_path: Path) -> None:
        command = arguments(files, 'none.mp4', tmp_path)
        self.expect(tool, command, r'infer\.py: error: .*none\.mp4: no such file')
        command[2] = 'none.py'
        self.expect(tool, command, 'there is no config none.py')

    def test_own_weights_without_their_config(
        self, tool: ModuleType, files: Path, tmp_path: Path
    ) -> None:
        command = [str(files / 'v.mp4'), '--checkpoint', str(files / 'c.pth'), '--out']
        told = r'trained here or with mmdet need their config, .*tools/infer\.py \(--config\)'
        self.expect(tool, [*command, str(tmp_path)], told)

    def test_no_video(self, tool: ModuleType, files: Path, tmp_path: Path) -> None:
        self.expect(tool, arguments(files, 'c.py', tmp_path), 'cannot be opened as a video')

    def test_no_overlay_can_be_written(self, tool: ModuleType, files: Path, tmp_path: Path) -> None:
        """Of a strip beyond what H.264 knows; the results are there."""
        (tmp_path / 'strip').mkdir()
        for t, frame in enumerate(make_video(3, (3, 17000))):
            cv2.imwrite(str(tmp_path / f'strip/{t}.png'), frame)
        out = tmp_path / 'out'
        command = [str(tmp_path / 'strip'), *arguments(files, '', out)[1:]]
        self.expect(
            tool, command, r'no overlay: .*/overlay\.mp4: .*cannot encode frames of 17000x3 '
        )
        assert len(json.loads((out / 'video.json').read_text())['videos']) == 1
        assert (out / 'results.json').is_file()
        tool.main([*command, '--no-video'])
        assert {path.name for path in out.iterdir()} == {'results.json', 'video.json'}

    def test_no_frame_left(self, tool: ModuleType, files: Path, tmp_path: Path) -> None:
        command = arguments(files, 'v.mp4', tmp_path, '--start', '99')
        self.expect(tool, command, "video 'v' has no frame to use from frame 99;")
        assert list(tmp_path.iterdir()) == []

    def test_wrong_range(self, tool: ModuleType, files: Path, tmp_path: Path) -> None:
        command = arguments(files, 'v.mp4', tmp_path, '--start', '3', '--end', '2')
        self.expect(tool, command, 'end must lie behind start=3')


# the tool, which is killed at the first mask behind the third time that it saves
KILLED = """
import os, runpy, signal, sys
from mmboxvis.apis.spool import MaskSpool

commit, add, times = MaskSpool.commit, MaskSpool.add, []

def saved(spool, state):
    commit(spool, state)
    times.append(1)

def added(spool, *mask):
    add(spool, *mask)
    if len(times) == 3:
        os.kill(os.getpid(), signal.SIGKILL)

MaskSpool.commit, MaskSpool.add = saved, added
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


@pytest.mark.slow
def test_killed_and_repeated(files: Path, tmp_path: Path) -> None:
    """A process that is killed loses what it did since it last saved, and nothing else."""
    write_video(tmp_path / 'long.mp4', make_video(40, (60, 90)), fps=5)
    (tmp_path / 'c.py').write_bytes((files / 'c.py').read_bytes())
    (tmp_path / 'c.pth').write_bytes((files / 'c.pth').read_bytes())

    def run(out: str, *program: str) -> subprocess.CompletedProcess[str]:
        options = ('--no-video', '--save-every', '0')
        command = arguments(tmp_path, 'long.mp4', tmp_path / out, *options)
        env = dict(os.environ, PYTHONPATH=str(ROOT))
        started = [sys.executable, *program, str(ROOT / 'tools/infer.py'), *command]
        return subprocess.run(started, capture_output=True, text=True, env=env, timeout=120)

    killed = run('killed', '-c', KILLED)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = run('killed')
    assert again.returncode == 0, again.stderr
    assert 'Going on at frame' in again.stdout
    assert run('whole').returncode == 0
    results = [tmp_path / name / 'results.json' for name in ('killed', 'whole')]
    assert results[0].read_bytes() == results[1].read_bytes()
