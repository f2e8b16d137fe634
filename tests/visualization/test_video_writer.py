from __future__ import annotations

import errno
import os
import weakref
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from mmboxvis.visualization import video_writer, write_video
from mmboxvis.visualization.files import whole_file, write_image

COLORS = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (180, 180, 30)]


def frames(number: int = 4, size: tuple[int, int] = (48, 64)) -> Iterator[np.ndarray]:
    for t in range(number):
        yield np.full((*size, 3), COLORS[t % len(COLORS)], np.uint8)


def decode(path: Path) -> list[np.ndarray]:
    capture, found = cv2.VideoCapture(str(path)), []
    while True:
        ok, frame = capture.read()
        if not ok:
            return found
        found.append(frame)


@pytest.mark.parametrize('number', [1, 4])
def test_frames_come_back_in_order(tmp_path: Path, number: int) -> None:
    path = write_video(tmp_path / 'new' / 'video.mp4', frames(number), fps=5)
    found = decode(path)
    assert len(found) == number
    for t, frame in enumerate(found):
        np.testing.assert_allclose(frame.mean((0, 1)), COLORS[t], atol=12)
    assert [p.name for p in path.parent.iterdir()] == ['video.mp4']


def test_h264_that_browsers_play(tmp_path: Path) -> None:
    path = write_video(tmp_path / 'video.mp4', frames(4, (47, 63)), fps=12.5)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == 'h264'
        assert stream.pix_fmt == 'yuv420p'
        assert (stream.height, stream.width) == (48, 64), 'odd sides are made even'
        assert stream.average_rate == 12.5
    content = path.read_bytes()
    assert content.index(b'moov') < content.index(b'mdat'), 'playable before it is all loaded'


def test_without_pyav_it_warns_and_writes(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(video_writer, 'av', None)
    with pytest.warns(UserWarning, match='pip install av'):
        path = write_video(tmp_path / 'video.mp4', frames(3))
    assert len(decode(path)) == 3


def test_gif(tmp_path: Path) -> None:
    path = write_video(tmp_path / 'video.gif', frames(3), fps=10)
    with Image.open(path) as image:
        assert image.n_frames == 3
        assert image.info['duration'] == 100
        assert image.size == (64, 48)


@pytest.mark.parametrize('name', ['video.mp4', 'video.gif'])
@pytest.mark.parametrize('use_av', [True, False])
def test_nothing_is_left_when_a_frame_fails(
    tmp_path: Path, monkeypatch, name: str, use_av: bool
) -> None:
    if not use_av:
        monkeypatch.setattr(video_writer, 'av', None)

    def failing() -> Iterator[np.ndarray]:
        yield from frames(2)
        raise RuntimeError('frame 2 is broken')

    path = tmp_path / name
    path.write_bytes(b'earlier')
    warned = pytest.warns(UserWarning) if not use_av and path.suffix == '.mp4' else nullcontext()
    with warned, pytest.raises(RuntimeError, match='frame 2 is broken'):
        write_video(path, failing())
    assert path.read_bytes() == b'earlier'
    assert list(tmp_path.iterdir()) == [path]


def test_bad_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='no frame'):
        write_video(tmp_path / 'a.mp4', [])
    with pytest.raises(ValueError, match='avi'):
        write_video(tmp_path / 'a.avi', frames())
    for fps in (0, 0.0004, 1e12, float('nan')):
        with pytest.raises(ValueError, match='fps'):
            write_video(tmp_path / 'a.mp4', frames(), fps=fps)
    with pytest.raises(ValueError, match='frame 1 is'):
        write_video(tmp_path / 'a.mp4', [*frames(1), *frames(1, (32, 32))])
    with pytest.raises(ValueError, match='frame 0 is'):
        write_video(tmp_path / 'a.mp4', [np.zeros((8, 8))])
    assert list(tmp_path.iterdir()) == []


def test_size_that_the_encoder_refuses(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r'a\.mp4: lib.*264 cannot encode frames of 20000x8 pixels'):
        write_video(tmp_path / 'a.mp4', frames(2, (8, 20000)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('fps', [0.002, 1e5])
def test_speeds_at_the_limits(tmp_path: Path, fps: float) -> None:
    with av.open(str(write_video(tmp_path / 'a.mp4', frames(3), fps=fps))) as container:
        assert container.streams.video[0].average_rate == pytest.approx(fps)
    assert len(decode(write_video(tmp_path / 'a.gif', frames(3), fps=fps))) == 3


@pytest.mark.parametrize('number', [errno.EACCES, errno.EROFS, errno.ENOENT])
def test_a_file_that_cannot_be_made_is_not_laid_to_the_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise av.FFmpegError(number, os.strerror(number))

    monkeypatch.setattr(video_writer.av, 'open', refused)
    with pytest.raises(OSError, match=rf'a\.mp4 cannot be written: {os.strerror(number)}'):
        write_video(tmp_path / 'a.mp4', frames(2))


def test_frames_are_taken_one_at_a_time(tmp_path: Path) -> None:
    made: list[weakref.ref] = []
    most = 0

    def counted() -> Iterator[np.ndarray]:
        nonlocal most
        for frame in frames(30):
            made.append(weakref.ref(frame))
            most = max(most, sum(ref() is not None for ref in made))
            yield frame

    write_video(tmp_path / 'video.mp4', counted())
    assert len(made) == 30
    assert most <= 4


def test_picture_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    picture = next(frames(1))
    path = write_image(tmp_path / 'folder' / 'a.png', picture)
    np.testing.assert_array_equal(cv2.imread(str(path)), picture)
    with pytest.raises(ValueError, match='xyz'):
        write_image(tmp_path / 'a.xyz', picture)
    with pytest.raises(RuntimeError), whole_file(path) as temporary:
        temporary.write_bytes(b'half')
        raise RuntimeError
    np.testing.assert_array_equal(cv2.imread(str(path)), picture)
    assert [p.name for p in path.parent.iterdir()] == ['a.png']
