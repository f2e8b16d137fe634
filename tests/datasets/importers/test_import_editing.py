from __future__ import annotations

import dataclasses

import pytest

from mmboxvis.datasets import AnnotationError
from mmboxvis.datasets.importers import (
    BoxSet,
    ReadOptions,
    Track,
    Video,
    join,
    map_classes,
    read_class_map,
    read_names,
    thin,
    thin_to_rate,
    to_ytvis,
)

BOX = (1.0, 2.0, 3.0, 4.0)


def video(name: str = 'v', length: int = 6, **tracks: tuple[int, ...]) -> Video:
    return Video(
        name=name,
        file_names=tuple(f'{name}/{i}.jpg' for i in range(length)),
        numbers=tuple(range(length)),
        tracks=tuple(
            Track(
                key=str(i),
                label=label,
                boxes=dict.fromkeys(frames, BOX),
                occlusion=dict.fromkeys(frames[:1], 'no_occlusion'),
            )
            for i, (label, frames) in enumerate(tracks.items())
        ),
    )


def labels(boxes: BoxSet) -> list[str]:
    return [track.label for part in boxes.videos for track in part.tracks]


def test_nothing_to_map():
    empty = BoxSet((video(),), ())
    assert map_classes(empty, {}) == empty


def test_classes_are_renamed_joined_and_dropped():
    boxes = BoxSet((video(Car=(0,), Van=(1,), Tree=(2,), Cat=(3,)),), ('Car', 'Van', 'Tree', 'Cat'))
    mapped = map_classes(boxes, {'Van': 'vehicle', 'Car': 'vehicle', 'Tree': None, 'Lion': 'cat'})
    assert labels(mapped) == ['vehicle', 'vehicle', 'Cat']
    assert mapped.classes == ('vehicle', 'Cat')
    assert mapped.notes == {
        "class 'Lion' of the class map is not in the source": 1,
        "objects of class 'Tree' dropped by the class map": 1,
    }
    assert labels(map_classes(boxes, {'Cat': 'cat', '*': None})) == ['cat']
    assert labels(map_classes(boxes, {'Cat': 'cat', '*': 'thing'})) == ['thing'] * 3 + ['cat']
    with pytest.raises(AnnotationError, match='drops all classes of the source'):
        map_classes(boxes, {'*': None})


def test_class_map_files(tmp_path):
    for name, text in (('m.json', '{"a": "b", "c": null}'), ('m.yaml', 'a: " b "\nc: null\n')):
        (tmp_path / name).write_text(text)
        assert read_class_map(tmp_path / name) == {'a': 'b', 'c': None}
    for text in ('{"a": 1}', '{"a": ""}', '[]', '{"a": {"b": "c"}}', '{"a": "b\\nc"}'):
        (tmp_path / 'm.json').write_text(text)
        with pytest.raises(AnnotationError, match=r'm\.json: '):
            read_class_map(tmp_path / 'm.json')


def test_names_file(tmp_path):
    path = tmp_path / 'names.txt'
    path.write_text('cat\nbig dog\n \n\n')
    assert read_names(path) == ('cat', 'big dog')
    # otherwise the numbers of all classes after it would be others
    path.write_text('cat\n\nbig dog')
    with pytest.raises(AnnotationError, match=r'names\.txt: line 2: is blank'):
        read_names(path)
    path.write_text('cat\x0cdog')
    with pytest.raises(AnnotationError, match=r'line 1: name .* control characters'):
        read_names(path)
    for text in ('', 'cat\ncat\n'):
        path.write_text(text)
        with pytest.raises(AnnotationError, match='at least one class name, each once'):
            read_names(path)


def test_every_nth_frame():
    (thinned,) = thin(BoxSet((video(cat=(0, 1, 2), dog=(1, 3)),), ('cat', 'dog')), 2).videos
    assert thinned.numbers == (0, 2, 4)
    assert thinned.file_names == ('v/0.jpg', 'v/2.jpg', 'v/4.jpg')
    assert [(t.label, sorted(t.boxes)) for t in thinned.tracks] == [('cat', [0, 1])]
    assert thinned.tracks[0].occlusion == {0: 'no_occlusion'}


@pytest.mark.parametrize(
    ('fps', 'rate', 'length', 'kept'),
    [
        (10, 30, 7, (0, 3, 6)),
        (30, 30, 3, (0, 1, 2)),
        (60, 30, 3, (0, 1, 2)),
        (12, 30, 11, (0, 2, 5, 7, 10)),
        (1, 30, 1, (0,)),
        (24, 29.97, 6, (0, 1, 2, 4, 5)),
    ],
)
def test_rate(fps, rate, length, kept):
    (thinned,) = thin_to_rate(BoxSet((video(length=length),), ()), fps, [rate]).videos
    assert thinned.numbers == kept


def test_join():
    first = BoxSet((video('a', cat=(0,)),), ('cat',), {'x': 1})
    second = BoxSet((video('b', dog=(0,)),), ('dog', 'cat'), {'x': 2})
    joined = join([first, second])
    assert (labels(joined), joined.classes, joined.notes) == (
        ['cat', 'dog'],
        ('cat', 'dog'),
        {'x': 3},
    )
    with pytest.raises(AnnotationError, match="a video called 'a'"):
        join([first, first])
    other = dataclasses.replace(second.videos[0], file_names=first.videos[0].file_names)
    with pytest.raises(AnnotationError, match=r"video 'b' is called 'a/0.jpg', and so .* 'a'"):
        join([first, BoxSet((other,), ('dog',))])


def test_layout():
    content = to_ytvis(BoxSet((video('a', 2, cat=(1,)), video('b', 1)), ('dog', 'cat')))
    assert content == dict(
        videos=[
            dict(id=1, name='a', length=2, file_names=['a/0.jpg', 'a/1.jpg']),
            dict(id=2, name='b', length=1, file_names=['b/0.jpg']),
        ],
        categories=[dict(id=1, name='dog'), dict(id=2, name='cat')],
        annotations=[
            dict(
                id=1, video_id=1, category_id=2, iscrowd=0, source_id='0',
                bboxes=[None, [1, 2, 3, 4]], occlusion=[None, 'no_occlusion'],
            )
        ],
    )  # fmt: skip


def test_classes_that_differ_by_case_only():
    with pytest.raises(ValueError, match='must be unique'):
        to_ytvis(BoxSet((video(Cat=(0,), cat=(1,)),), ('Cat', 'cat')))


def test_options_are_checked():
    for names in ('{frames}', '{video', '{frame.x}', '{frame[0]}', '{0}'):
        with pytest.raises(ValueError, match=r'may use {video}, {frame} and {stem}'):
            ReadOptions(name_template=names)
    with pytest.raises(ValueError, match='identity must be one of'):
        ReadOptions(identity='name')
    with pytest.raises(ValueError, match=r'--label: the class .* control characters'):
        ReadOptions(label='a\nb')
