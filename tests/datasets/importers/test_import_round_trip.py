"""What is written in another format is read back as it was."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmboxvis.datasets import AnnotationError
from mmboxvis.datasets.importers import (
    READERS,
    WRITERS,
    BoxSet,
    ReadOptions,
    Track,
    Video,
    to_ytvis,
)

SIZE = (320, 240)
CLASSES = ('cat', 'big dog', 'a <b> & "c"')
LEVELS = ('no_occlusion', 'slight_occlusion', 'severe_occlusion')


@st.composite
def box(draw):
    """A box inside the frame."""
    edges = []
    for side in SIZE:
        low = draw(st.integers(0, side * 100 - 1))
        edges.append((low / 100, draw(st.integers(low + 1, side * 100)) / 100 - low / 100))
    (x, w), (y, h) = edges
    return x, y, w, h


@st.composite
def box_sets(draw):
    videos = []
    for name in draw(st.lists(st.sampled_from(('a', 'b_2', '7')), min_size=1, unique=True)):
        length = draw(st.integers(1, 5))
        tracks = []
        for key in range(draw(st.integers(1, 3))):
            frames = draw(st.sets(st.integers(0, length - 1), min_size=1))
            tracks.append(
                Track(
                    key=str(key),
                    label=draw(st.sampled_from(CLASSES)),
                    boxes={frame: draw(box()) for frame in sorted(frames)},
                    occlusion={frame: draw(st.sampled_from(LEVELS)) for frame in sorted(frames)},
                )
            )
        names = tuple(f'{name}/{frame}.jpg' for frame in range(length))
        videos.append(Video(name, names, tuple(range(length)), tuple(tracks), *SIZE))
    return BoxSet(tuple(videos), CLASSES)


def written_and_read(boxes: BoxSet, name: str, **options) -> BoxSet:
    with TemporaryDirectory() as folder:
        for path, text in WRITERS[name](boxes):
            (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / path).write_text(text, encoding='utf-8')
        source = Path(folder) / 'annotations.json' if name == 'coco-vid' else Path(folder)
        return READERS[name].read(source, ReadOptions(**options))


def assert_same(first: BoxSet, second: BoxSet, levels: dict[str, str] | None) -> None:
    """Same up to the order of videos and the names of tracks."""
    theirs = {video.name: video for video in second.videos}
    assert sorted(theirs) == sorted(video.name for video in first.videos)
    assert second.classes == first.classes
    for video in first.videos:
        other = theirs[video.name]
        assert len(other.numbers) == len(video.numbers)
        assert (other.width, other.height) == SIZE
        unmatched = list(other.tracks)
        for track in video.tracks:
            match = next(t for t in unmatched if same_track(track, t, levels))
            unmatched.remove(match)
        assert not unmatched


def same_track(track: Track, other: Track, levels: dict[str, str] | None) -> bool:
    return (
        (other.label, sorted(other.boxes)) == (track.label, sorted(track.boxes))
        and all(np.allclose(other.boxes[t], track.boxes[t], atol=2e-4) for t in track.boxes)
        and (
            levels is None or other.occlusion == {t: levels[v] for t, v in track.occlusion.items()}
        )
    )


SAME = {level: level for level in LEVELS}
ONE_FLAG = dict(SAME, severe_occlusion='slight_occlusion')


@pytest.mark.parametrize(
    ('name', 'levels', 'options'),
    [
        ('mot', SAME, {}),
        ('coco-vid', SAME, {}),
        ('cvat-video', ONE_FLAG, {}),
        ('yolo-track', None, dict(size=SIZE, last_column='id')),
    ],
)
@settings(deadline=None, max_examples=20)
@given(boxes=box_sets())
def test_round_trip(name, levels, options, boxes):
    assert_same(boxes, written_and_read(boxes, name, **options), levels)


@settings(deadline=None, max_examples=20)
@given(boxes=box_sets())
def test_round_trip_of_our_own_layout(boxes):
    with TemporaryDirectory() as folder:
        path = Path(folder) / 'boxes.json'
        path.write_text(json.dumps(to_ytvis(boxes)))
        again = READERS['ytvis'].read(path, ReadOptions())
    assert_same(boxes, again, SAME)
    assert to_ytvis(again)['videos'] == to_ytvis(boxes)['videos']


def test_nothing_to_write():
    boxes = BoxSet((Video('a', ('a/0.jpg',), (0,), (), *SIZE),), ('cat',))
    assert dict(WRITERS['vis-results'](boxes)) == {'results.json': '[]'}
    for name in WRITERS.keys() & READERS:
        again = written_and_read(boxes, name, size=SIZE)
        assert [(v.name, len(v.numbers), v.tracks) for v in again.videos] == [('a', 1, ())]


def test_size_is_needed_where_the_format_has_it():
    boxes = BoxSet((Video('a', ('a/0.jpg',), (0,)),), ('cat',))
    for name in ('cvat-video', 'yolo-track'):
        with pytest.raises(AnnotationError, match=r"video 'a': .* needs its width and height"):
            dict(WRITERS[name](boxes))


def test_yolo_boxes_are_cut_off_at_the_edge():
    tracks = tuple(
        Track(str(i), 'cat', {0: found})
        for i, found in enumerate(((-10.0, 0.0, 20.0, 10.0), (400.0, 0.0, 5.0, 5.0)))
    )
    boxes = BoxSet((Video('a', ('a/0.jpg',), (0,), tracks, *SIZE),), ('cat',))
    again = written_and_read(boxes, 'yolo-track', size=SIZE, last_column='id')
    (track,) = again.videos[0].tracks
    assert track.boxes[0] == pytest.approx((0, 0, 10, 10), abs=1e-6)


def test_real_files_through_every_format(formats):
    source = formats / 'cocovid' / 'onedl-mmdetection' / 'vis_sample.json'
    boxes = READERS['coco-vid'].read(source, ReadOptions())
    for name in WRITERS.keys() & READERS:
        again = written_and_read(boxes, name, size=(1280, 720), last_column='id')
        (video,) = again.videos
        assert [(t.label, sorted(t.boxes)) for t in video.tracks] == [
            ('car', [0, 1]),
            ('train', [1]),
        ]
        np.testing.assert_allclose(video.tracks[1].boxes[1], (500, 500, 100, 100), atol=1e-4)
