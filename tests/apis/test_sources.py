from __future__ import annotations

import itertools
import struct
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from mmboxvis.apis import sources
from mmboxvis.apis.read_ahead import ReadAhead
from mmboxvis.apis.sources import FrameCache, FrameRange, open_source
from mmboxvis.datasets import FrameError
from mmboxvis.visualization import write_video

SIZE = (48, 64)
NUM_FRAMES = 12


def make_frames(count: int = NUM_FRAMES) -> list[np.ndarray]:
    """Grey levels tell the frames apart, a bright corner tells how they are turned."""
    frames = []
    for t in range(count):
        frame = np.full((*SIZE, 3), 20 + 15 * t, np.uint8)
        frame[:16, :16] = (0, 0, 255)
        frames.append(frame)
    return frames


def number(frame: np.ndarray) -> int:
    """Which of :func:`make_frames` a frame is, lossy coding allowed."""
    return round((float(frame[-16:, -16:].mean()) - 20) / 15)


def write_folder(folder: Path) -> Path:
    folder.mkdir()
    for t, frame in enumerate(make_frames()):
        cv2.imwrite(str(folder / f'{t}.png'), frame)  # 10.png must come behind 9.png
    (folder / 'notes.txt').write_text('not a frame')
    (folder / '._0.png').write_text('what macOS knows of the frame')
    return folder


def write_movie(path: Path, codec: str, frames: list[np.ndarray]) -> Path:
    options = {'movflags': 'faststart'} if path.suffix == '.mp4' else {}
    with av.open(str(path), 'w', options=options) as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = SIZE
        stream.pix_fmt = 'yuv420p'
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format='bgr24')))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp('sources')
    write_folder(base / 'frames')
    write_video(base / 'v.mp4', make_frames(), fps=10)
    write_video(base / 'v.gif', make_frames(), fps=10)
    write_movie(base / 'v.webm', 'libvpx', make_frames())
    return base


class TestFrameRange:
    @pytest.mark.parametrize(
        ('arguments', 'match'),
        [
            (dict(start=-1), 'start'),
            (dict(every=0), 'every'),
            (dict(start=5, end=5), 'end must lie behind'),
            (dict(max_side=0), 'max_side'),
        ],
    )
    def test_wrong_numbers(self, arguments: dict[str, int], match: str) -> None:
        with pytest.raises(ValueError, match=match):
            FrameRange(**arguments)

    @pytest.mark.parametrize('start', [0, 1, 7, 12, 20])
    @pytest.mark.parametrize('end', [None, 21, 25])
    @pytest.mark.parametrize('every', [1, 3])
    @pytest.mark.parametrize('available', [0, 12])
    def test_count(self, start: int, end: int | None, every: int, available: int) -> None:
        wanted = len(range(available)[start:end:every])
        assert FrameRange(start, end, every).count(available) == wanted

    def test_in_words(self) -> None:
        assert str(FrameRange()) == 'from frame 0'
        assert str(FrameRange(3, 10, 2)) == 'from frame 3 to 9, every 2 frames'

    def test_unknown_length(self) -> None:
        assert FrameRange().count(None) is None


@pytest.mark.parametrize('kind', ['frames', 'v.mp4', 'v.gif', 'v.webm', 'list', 'paths', 'array'])
class TestKinds:
    def open(self, folder: Path, kind: str, **options: int) -> sources.FrameSource:
        made = {
            'list': make_frames(),
            'array': np.stack(make_frames()),
            'paths': [str(folder / f'frames/{t}.png') for t in range(NUM_FRAMES)],
        }
        return open_source(made.get(kind, folder / kind), FrameRange(**options))

    def test_all_frames_in_order_twice(self, folder: Path, kind: str) -> None:
        source = self.open(folder, kind)
        for _ in range(2):
            frames = list(source.frames())
            assert [number(frame) for frame in frames] == list(range(NUM_FRAMES))
            assert {(frame.shape, frame.dtype.name) for frame in frames} == {((*SIZE, 3), 'uint8')}
            # red is the last channel
            assert frames[0][4, 4, 2] > 150
            assert frames[0][4, 4, 0] < 100

    @pytest.mark.parametrize('first', [0, 2])
    def test_range(self, folder: Path, kind: str, first: int) -> None:
        source = self.open(folder, kind, start=2, end=11, every=3)
        assert [number(f) for f in source.frames(first)] == [2, 5, 8][first:]
        assert source.num_frames == 3

    def test_start_behind_the_end(self, folder: Path, kind: str) -> None:
        assert list(self.open(folder, kind, start=50).frames()) == []

    def test_max_side(self, folder: Path, kind: str) -> None:
        assert next(self.open(folder, kind, max_side=32).frames()).shape == (24, 32, 3)
        assert next(self.open(folder, kind, max_side=64).frames()).shape == (48, 64, 3)


class TestVideoFile:
    @pytest.mark.parametrize('name', ['v.mp4', 'v.gif', 'v.webm'])
    def test_speed_is_that_of_the_frames_used(self, folder: Path, name: str) -> None:
        assert open_source(folder / name).fps == pytest.approx(10, abs=0.1)
        assert open_source(folder / name, FrameRange(every=5)).fps == pytest.approx(2, abs=0.1)

    def test_without_pyav(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sources, 'av', None)
        source = open_source(folder / 'v.mp4', FrameRange(start=1, end=8, every=2))
        assert [number(frame) for frame in source.frames()] == [1, 3, 5, 7]
        assert source.num_frames == 4
        assert source.fps == pytest.approx(5)

    def test_phone_videos_are_turned(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        content = bytearray((folder / 'v.mp4').read_bytes())
        # matrix of the track header: a quarter turn
        matrix = content.index(b'tkhd') + 4 + 40
        content[matrix : matrix + 36] = struct.pack(
            '>9i', 0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30
        )
        turned = folder / 'turned.mp4'
        turned.write_bytes(content)
        ours = next(open_source(turned).frames())
        assert ours.shape == (64, 48, 3)
        monkeypatch.setattr(sources, 'av', None)
        other = next(open_source(turned).frames())
        assert other.shape == (64, 48, 3)
        assert np.abs(ours.astype(int) - other).mean() < 3

    @pytest.mark.parametrize(
        ('suffix', 'codec'), [('mp4', 'mpeg4'), ('mp4', 'libx264'), ('webm', 'libvpx')]
    )
    @pytest.mark.parametrize('with_av', [True, False])
    def test_cut_off(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        with_av: bool,
        suffix: str,
        codec: str,
    ) -> None:
        whole, cut = tmp_path / f'whole.{suffix}', tmp_path / f'cut.{suffix}'
        noise = list(np.random.default_rng(0).integers(0, 256, (40, *SIZE, 3), np.uint8))
        content = write_movie(whole, codec, noise).read_bytes()
        cut.write_bytes(content[: len(content) * 6 // 10])
        if not with_av:
            monkeypatch.setattr(sources, 'av', None)
        source = open_source(cut)
        with pytest.warns(UserWarning, match=rf'cut\.{suffix}: ends after \d+ .* tells of 40;'):
            came = len(list(source.frames()))
        assert 0 < came < 30
        assert source.cut_off == (came, 40)
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            for quiet in (open_source(whole), open_source(cut, FrameRange(end=came))):
                assert list(quiet.frames())
                assert quiet.cut_off is None

    @pytest.mark.parametrize('with_av', [True, False])
    def test_cut_off_between_frames(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_av: bool
    ) -> None:
        """A tenth of the video is more than headers may be wrong by."""
        path = write_movie(tmp_path / 'cut.mp4', 'libx264', make_frames(10) * 4)
        with av.open(str(path)) as container:
            last = [packet.pos for packet in container.demux(video=0)][36]
        path.write_bytes(path.read_bytes()[:last])
        if not with_av:
            monkeypatch.setattr(sources, 'av', None)
        with pytest.warns(UserWarning, match='ends after 36 frames, but its header tells of 40;'):
            assert len(list(open_source(path).frames())) == 36

    def test_cut_off_within_the_last_frame(self, tmp_path: Path) -> None:
        """One frame of 40 is less than headers may be wrong by, but here it is known to lack."""
        path = tmp_path / 'cut.mp4'
        noise = list(np.random.default_rng(0).integers(0, 256, (40, *SIZE, 3), np.uint8))
        path.write_bytes(write_movie(path, 'libx264', noise).read_bytes()[:-100])
        source = open_source(path)
        with pytest.warns(UserWarning, match='ends after 39 frames, but its header tells of 40'):
            assert len(list(source.frames())) == 39
        assert source.cut_off == (39, 40)

    def test_damage_inside_is_an_error_that_says_what_can_be_had(self, tmp_path: Path) -> None:
        path = tmp_path / 'damaged.mp4'
        noise = list(np.random.default_rng(0).integers(0, 256, (40, *SIZE, 3), np.uint8))
        content = bytearray(write_movie(path, 'libx264', noise).read_bytes())
        with av.open(str(path)) as container:
            packets = [(packet.pos, packet.size) for packet in container.demux(video=0)]
        begin, size = packets[25]
        assert begin is not None
        content[begin : begin + size] = b'\xff' * size
        path.write_bytes(content)
        frames, came = open_source(path).frames(), 0
        with pytest.raises(FrameError, match='decoding broke off behind frame') as caught:
            for _ in frames:
                came += 1
        assert 0 < came < 26
        assert f'take the first {came} (end={came}, or --end {came})' in str(caught.value)
        assert len(list(open_source(path, FrameRange(end=came)).frames())) == came

    def test_frames_that_a_list_of_cuts_hides_are_not_missed(
        self, folder: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / 'cuts.mp4'
        with av.open(str(folder / 'v.mp4')) as old, av.open(str(path), 'w') as new:
            stream = new.add_stream_from_template(old.streams.video[0])
            for packet in old.demux(video=0):
                if packet.dts is not None:
                    packet.pts -= round(0.5 / packet.time_base)
                    packet.dts -= round(0.5 / packet.time_base)
                    packet.stream = stream
                    new.mux(packet)
        source = open_source(path)
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            frames = list(source.frames())
        assert len(frames) < NUM_FRAMES == source.num_frames

    def test_identity(self, folder: Path, tmp_path: Path) -> None:
        path = tmp_path / 'v.gif'
        path.write_bytes((folder / 'v.gif').read_bytes())
        first = open_source(path).identity()
        assert first == open_source(path).identity()
        path.write_bytes((folder / 'v.gif').read_bytes() + b'x')
        assert first != open_source(path).identity()

    def test_identity_of_images(self, folder: Path) -> None:
        files = sorted((folder / 'frames').glob('*.png'))
        assert open_source(files).identity() == open_source(files).identity()
        assert open_source(files).identity() != open_source(files[1:]).identity()
        assert open_source(make_frames(2)).identity() is None


class TestIterator:
    def test_is_read_once_and_kept_on_disk(self) -> None:
        source = open_source(iter(make_frames()), FrameRange(start=1, every=4))
        assert source.num_frames is None
        assert [number(frame) for frame in source.frames()] == [1, 5, 9]
        assert [number(frame) for frame in source.frames()] == [1, 5, 9]
        assert [number(frame) for frame in source.frames(2)] == [9]

    def test_endless(self) -> None:
        source = open_source(itertools.cycle(make_frames(3)))
        assert [number(f) for f in itertools.islice(source.frames(), 5)] == [0, 1, 2, 0, 1]

    @pytest.mark.parametrize('room', [0, 1500])
    def test_no_room(self, room: int) -> None:
        source = open_source(iter(make_frames()), cache_bytes=room)
        assert len(list(source.frames())) == NUM_FRAMES
        with pytest.raises(FrameError, match='too many to keep'):
            source.frames()

    def test_cache_is_bounded(self) -> None:
        cache = FrameCache(3000)
        for frame in make_frames():
            cache.add(frame)
            cache._file.seek(0, 2)
            assert cache._file.tell() <= 3000
        assert cache.is_full
        assert cache._file.tell() == 0, 'what cannot be read again takes no room'

    def test_a_full_disk_costs_the_frames_kept_alone(self, small_files: None) -> None:
        source = open_source(iter(make_frames() * 9))
        with pytest.warns(UserWarning, match='kept no longer: (No space left|File too large)') as w:
            assert [number(frame) for frame in source.frames()] == [*range(NUM_FRAMES)] * 9
        assert len(w) == 1
        with pytest.raises(FrameError, match='too many to keep'):
            source.frames()

    def test_one_array_for_all_frames(self) -> None:
        def reused() -> Iterator[np.ndarray]:
            array = np.empty_like(make_frames(1)[0])
            for frame in make_frames():
                array[:] = frame
                yield array

        found = list(open_source(reused()).frames())
        assert [number(frame) for frame in found] == list(range(NUM_FRAMES))


@pytest.mark.parametrize('with_av', [True, False])
def test_names_with_a_colon_are_no_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_av: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    if not with_av:
        monkeypatch.setattr(sources, 'av', None)
    write_video('12:30.mp4', make_frames())
    assert len(list(open_source('12:30.mp4').frames())) == NUM_FRAMES


class TestErrors:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r'none\.mp4: no such file'):
            open_source(tmp_path / 'none.mp4')

    def test_folder_without_images(self, tmp_path: Path) -> None:
        with pytest.raises(FrameError, match='no images in this folder'):
            open_source(tmp_path)

    @pytest.mark.parametrize('with_av', [True, False])
    def test_no_video(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_av: bool) -> None:
        if not with_av:
            monkeypatch.setattr(sources, 'av', None)
        path = tmp_path / 'x.mp4'
        path.write_text('hello')
        with pytest.raises(FrameError, match=r'x\.mp4 cannot be opened as a video'):
            open_source(path)

    def test_cut_off_before_its_index(self, folder: Path, tmp_path: Path) -> None:
        path = tmp_path / 'cut.mp4'
        content = (folder / 'v.mp4').read_bytes()
        path.write_bytes(content[: len(content) // 4])
        with pytest.raises(FrameError, match=r'cut\.mp4'):
            list(open_source(path).frames())

    def test_only_sound(self, tmp_path: Path) -> None:
        path = tmp_path / 'sound.wav'
        with av.open(str(path), 'w') as container:
            stream = container.add_stream('pcm_s16le', rate=8000, layout='mono')
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout='mono')
            samples.sample_rate = 8000
            container.mux(stream.encode(samples))
            container.mux(stream.encode(None))
        with pytest.raises(FrameError, match='no video stream'):
            open_source(path)

    def test_broken_image(self, tmp_path: Path) -> None:
        (tmp_path / '0.png').write_bytes(b'nothing')
        with pytest.raises(FrameError, match=r'frame 0.*0\.png'):
            list(open_source(tmp_path).frames())

    @pytest.mark.parametrize(
        'image',
        [
            np.zeros((4, 4), np.uint8),
            np.zeros((4, 4, 4), np.uint8),
            np.zeros((4, 4, 3), np.float32),
            np.zeros((0, 4, 3), np.uint8),
            'text',
        ],
    )
    def test_no_image(self, image: object) -> None:
        frames = iter([make_frames(1)[0], image])
        with pytest.raises(FrameError, match="'frames', frame 1: expected an"):
            list(open_source(frames).frames())  # type: ignore[arg-type]

    def test_sizes_differ(self) -> None:
        frames = [make_frames(1)[0], np.zeros((4, 5, 3), np.uint8)]
        with pytest.raises(FrameError, match='frame 1: is 5x4, the frames before it 64x48'):
            list(open_source(frames).frames())

    def test_empty_list(self) -> None:
        with pytest.raises(FrameError, match='empty'):
            open_source([])

    @pytest.mark.parametrize('source', [3, None, np.zeros((4, 4, 3), np.uint8)])
    def test_no_source(self, source: object) -> None:
        with pytest.raises(TypeError):
            open_source(source)  # type: ignore[arg-type]


def read_ahead_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == 'read-ahead']


class TestReadAhead:
    def test_nothing(self) -> None:
        with ReadAhead(iter(())) as items:
            assert list(items) == []
            assert list(items) == []

    def test_order(self) -> None:
        with ReadAhead(iter(range(50)), depth=2) as items:
            assert list(items) == list(range(50))
        assert read_ahead_threads() == []

    def test_runs_ahead_but_not_away(self) -> None:
        made: list[int] = []

        def endless() -> Iterator[int]:
            for item in itertools.count():
                made.append(item)
                yield item

        with ReadAhead(endless(), depth=3) as items:
            assert next(items) == 0
            deadline = time.monotonic() + 10
            while len(made) < 5 and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(0.1)
            # one taken, three waiting, one in the hand of the thread
            assert len(made) == 5

    def test_error_comes_behind_the_items(self) -> None:
        def broken() -> Iterator[int]:
            yield 1
            raise FrameError('frame 1 is broken')

        items = ReadAhead(broken())
        assert next(items) == 1
        with pytest.raises(FrameError, match='frame 1 is broken'):
            next(items)
        assert list(items) == []
        assert read_ahead_threads() == []

    def test_closing_stops_the_thread_and_the_generator(self) -> None:
        closed = threading.Event()

        def endless() -> Iterator[int]:
            try:
                yield from itertools.count()
            finally:
                closed.set()

        items = ReadAhead(endless(), depth=1)
        next(items)
        items.close()
        assert closed.is_set()
        assert read_ahead_threads() == []
        assert list(items) == []

    def test_forgotten(self) -> None:
        items = ReadAhead(itertools.count(), depth=1)
        next(items)
        del items
        deadline = time.monotonic() + 10
        while read_ahead_threads() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert read_ahead_threads() == []

    def test_stuck(self) -> None:
        """Closing leaves a thread alone that does not come back."""
        waits, go_on = threading.Event(), threading.Event()

        def stuck() -> Iterator[int]:
            yield 0
            waits.set()
            go_on.wait(60)

        items = ReadAhead(stuck())
        try:
            assert next(items) == 0
            assert waits.wait(60)
            items.close(timeout=0.1)
            left = read_ahead_threads()
            assert len(left) == 1
        finally:
            go_on.set()
        left[0].join(60)
        assert read_ahead_threads() == []

    def test_depth(self) -> None:
        with pytest.raises(ValueError, match='depth'):
            ReadAhead(iter(()), depth=0)
