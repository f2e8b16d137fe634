from __future__ import annotations

import contextlib
import copy
import importlib.util
import json
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmboxvis.datasets import BoxVideo
from mmboxvis.datasets.checking import (
    CheckReport,
    check_dataset,
    check_frames,
    fix_dataset,
)
from mmboxvis.datasets.checking.probing import bad_ones
from mmboxvis.datasets.video_json import AnnotationError, VideoJsonReader, read_json

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'misc' / 'check_dataset.py'


def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location('check_dataset', TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def reads(path: str) -> bool:
    """Whether training can read the file."""
    reader = VideoJsonReader(path=path, content=read_json(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            labels = dict.fromkeys(reader.categories(), 0)
            reader.instances(reader.videos(), labels)
    except AnnotationError:
        return False
    return True


def coco_json() -> dict[str, Any]:
    return dict(
        images=[dict(id=k, file_name=f'{k}.jpg', width=60, height=40) for k in (1, 2)],
        categories=[dict(id=3, name='dog')],
        annotations=[
            dict(id=10 + k, image_id=k, category_id=3, iscrowd=0, bbox=[1, 2, 30, 30])
            for k in (1, 2)
        ],
    )


# ------------------------------------------------------------------ nothing wrong


def test_clean(tiny_json, write_json):
    report = check_dataset(write_json(tiny_json), classes=['Person', 'dog'])
    assert report.problems == []
    assert report.counts == dict(videos=2, frames=6, categories=2, annotations=3, objects=9)


def test_clean_images(write_json):
    report = check_dataset(write_json(coco_json()))
    assert report.layout == 'image' and report.problems == []
    assert report.counts['objects'] == 2


def test_real_sets(real_data):
    for name in ('davis_mini/boxes.json', 'davis_mini/instances.json', 'coco_mini/instances.json'):
        folder = dict(davis_mini='JPEGImages', coco_mini='images')[name.split('/')[0]]
        report = check_dataset(real_data / name, uses_masks='instances' in name)
        assert report.errors == []
        # some listed categories are not used
        assert {problem.field for problem in report.warnings} <= {'categories'}
        assert check_frames(real_data / name, real_data / name.split('/')[0] / folder) == []


# ------------------------------------------------------------------ one fault at a time


def box(value: Any, frame: int = 2):
    return lambda c: c['annotations'][0]['bboxes'].__setitem__(frame, value)


def annotation(**values: Any):
    return lambda c: c['annotations'][0].update(values)


def video(**values: Any):
    return lambda c: c['videos'][0].update(values)


def category(**values: Any):
    return lambda c: c['categories'][0].update(values)


FAULTS: dict[str, tuple[Any, dict[str, Any]]] = {
    'box_short': (box([1, 2, 3]), dict(field='bboxes', frame=2, annotation=7, video=1)),
    'box_text': (box(['1', 2, 3, 4]), dict(field='bboxes', frame=2)),
    'box_word': (box('none'), dict(field='bboxes', frame=2)),
    'box_nan': (box([1, 2, float('nan'), 4]), dict(field='bboxes', frame=2)),
    'box_inf': (box([1, 2, float('inf'), 4]), dict(field='bboxes', frame=2)),
    'box_negative': (box([9, 9, -3, 4]), dict(field='bboxes', frame=2)),
    'box_flat': (box([9, 9, 3, 0]), dict(field='bboxes', frame=2, fixable=True)),
    'box_list': (box([]), dict(field='bboxes', frame=2, fixable=True)),
    'boxes_few': (annotation(bboxes=[[1, 2, 3, 4]]), dict(field='bboxes', frame=None)),
    'boxes_null': (annotation(bboxes=None), dict(field='bboxes', annotation=7)),
    'boxes_dict': (annotation(bboxes={'0': [1, 2, 3, 4]}), dict(field='bboxes')),
    'id_text': (annotation(id='7'), dict(field='id', fixable=True)),
    'id_null': (annotation(id=None), dict(field='id', entry='annotations[0]')),
    'id_word': (annotation(id='x'), dict(field='id', fixable=False)),
    'id_twice': (annotation(id=0), dict(field='id', annotation=0, fixable=True)),
    'video_unknown': (annotation(video_id=77), dict(field='video_id', annotation=7)),
    'video_text': (annotation(video_id='1'), dict(field='video_id', fixable=True)),
    'video_list': (annotation(video_id=[1]), dict(field='video_id')),
    'category_unknown': (annotation(category_id=77), dict(field='category_id')),
    'category_float': (annotation(category_id=1.0), dict(field='category_id', fixable=True)),
    'no_object': (lambda c: c['annotations'].insert(1, 5), dict(entry='annotations[1]')),
    'frames_empty': (video(file_names=[]), dict(field='file_names', video=1)),
    'frames_twice': (video(file_names=['a'] * 5), dict(field='file_names', video=1)),
    'frames_null': (video(file_names=None), dict(field='file_names')),
    'length': (video(length=4), dict(field='length', video=1, name='walk', fixable=True)),
    'height': (video(height=-4), dict(field='height')),
    'width': (video(width='wide'), dict(field='width', fixable=False)),
    'width_text': (video(width='60'), dict(field='width', video=1, fixable=True)),
    'video_id_text': (video(id='1'), dict(field='id', fixable=True)),
    'video_id_twice': (video(id=2), dict(video=2)),
    'video_null': (lambda c: c['videos'].append(None), dict(entry='videos[2]')),
    'category_twice': (category(id=1), dict(entry='categories[1]', field='id')),
    'name_twice': (category(name='person'), dict(entry='categories[1]', field='name')),
    'name_null': (category(name=None), dict(entry='categories[0]')),
    'no_videos': (lambda c: c.pop('videos'), dict(field='videos')),
    'no_categories': (lambda c: c.update(categories={}), dict(field='categories')),
    'null_annotations': (lambda c: c.update(annotations=None), dict(field='annotations')),
}


@pytest.mark.parametrize('name', FAULTS)
def test_each_fault(tiny_json, write_json, name):
    change, expected = FAULTS[name]
    change(tiny_json)
    path = write_json(tiny_json)
    assert not reads(path)
    errors = check_dataset(path).errors
    assert errors
    matching = [e for e in errors if all(getattr(e, k) == v for k, v in expected.items())]
    assert matching, errors
    assert all(problem.what for problem in errors)


@pytest.mark.parametrize('name', [n for n in FAULTS if n.startswith(('box_', 'id_'))])
def test_one_fault_is_one_error(tiny_json, write_json, name):
    FAULTS[name][0](tiny_json)
    assert len(check_dataset(write_json(tiny_json)).errors) == 1


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    names=st.lists(st.sampled_from(sorted(FAULTS)), max_size=3),
    harmless=st.lists(
        st.sampled_from(
            [box([-5, 3, 20, 20]), box([100, 3, 5, 5]), box(None), video(height=None),
             annotation(iscrowd=1), annotation(bboxes=[None] * 5), annotation(length=3)]
        ),
        max_size=3,
    ),
)  # fmt: skip
def test_errors_are_what_training_refuses(tiny_json, write_json, names, harmless):
    content = copy.deepcopy(tiny_json)
    for change in [*harmless, *(FAULTS[name][0] for name in names)]:
        # what it would change, another one may have taken away
        with contextlib.suppress(KeyError, TypeError, IndexError, AttributeError):
            change(content)
    path = write_json(content)
    if content.get('videos') and any(
        isinstance(v, dict) and v.get('height') is None for v in content['videos']
    ):
        content['videos'][0]['height'] = 40  # training takes it from the image before it reads on
        written = Path(path)
        as_checked = written.read_text()
        written.write_text(json.dumps(content))
        readable = reads(path)
        written.write_text(as_checked)
    else:
        readable = reads(path)
    assert readable == (not check_dataset(path).errors)


def test_all_faults_at_once(tiny_json, write_json):
    """Not only the first: two boxes of a track, another annotation, a video, a category."""
    tiny_json['annotations'][0]['bboxes'][1:3] = [[1, 2], [1, 2, -3, 4]]
    tiny_json['annotations'][0]['category_id'] = 55
    tiny_json['annotations'][2]['video_id'] = 66
    tiny_json['videos'].append(dict(id=9, file_names='x', height='h', width=0))
    tiny_json['categories'].append(dict(id=8))
    found = {(p.field, p.frame, p.annotation, p.video) for p in
             check_dataset(write_json(tiny_json)).errors}  # fmt: skip
    assert found == {
        (None, None, None, None),
        ('file_names', None, None, 9), ('height', None, None, 9), ('width', None, None, 9),
        ('bboxes', 1, 7, 1), ('bboxes', 2, 7, 1), ('category_id', None, 7, 1),
        ('video_id', None, 3, 66),
    }  # fmt: skip


def test_what_is_right_of_a_broken_annotation_is_looked_at_too(tiny_json, write_json):
    tiny_json['annotations'][1]['bboxes'][1] = [3, 4, -1, 9]
    tiny_json['annotations'][1]['bboxes'][3] = [50, 3, 60, 20]
    del tiny_json['annotations'][2]['bboxes']
    report = check_dataset(write_json(tiny_json))
    assert [(p.level, p.field, p.frame, p.annotation) for p in report.problems] == [
        ('error', 'bboxes', 1, 0), ('error', 'bboxes', None, 3), ('warning', 'bboxes', 3, 0),
    ]  # fmt: skip


@pytest.mark.parametrize('category', [None, [5], {}, 'x', 5.5])
def test_a_broken_category_beside_good_boxes(tiny_json, write_json, category):
    tiny_json['annotations'][1]['category_id'] = category
    if category is None:
        del tiny_json['annotations'][1]['category_id']
    (error,) = check_dataset(write_json(tiny_json)).errors
    assert (error.field, error.annotation) == ('category_id', 0)


def test_annotations_of_broken_videos_are_no_further_errors(tiny_json, write_json):
    tiny_json['videos'][0]['file_names'] = []
    errors = check_dataset(write_json(tiny_json)).errors
    assert [error.field for error in errors] == ['file_names', 'length'][: len(errors)]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.booleans(), max_size=40))
def test_halving_finds_the_same_as_asking_one_by_one(bad):
    items = list(range(len(bad)))
    found = list(bad_ones(items, lambda chosen: not any(bad[i] for i in chosen)))
    assert found == [i for i in items if bad[i]]


def test_many_annotations_in_several_batches(tiny_json, write_json, monkeypatch):
    monkeypatch.setattr('mmboxvis.datasets.checking.check._BATCH', 7)
    tiny_json['annotations'] = [
        dict(tiny_json['annotations'][2], id=k, bboxes=[[0, 0, 5 + k, 5 + k % 3]])
        for k in range(50)
    ]
    for k in (0, 6, 7, 33, 49):
        tiny_json['annotations'][k]['bboxes'] = [[1, 2, 3]]
    tiny_json['annotations'][20]['id'] = 3
    report = check_dataset(write_json(tiny_json))
    assert [e.annotation for e in report.errors if e.field == 'bboxes'] == [0, 6, 7, 33, 49]
    assert [e.entry for e in report.errors if e.field == 'id'] == ['annotations[20]']
    assert report.counts['objects'] == 45


@pytest.mark.parametrize(
    'text',
    ['', '{"videos": [', '[]', 'no json', '{"videos": [1,]}', '{"videos": [' + '9' * 5000 + ']}'],
    ids=range(6),
)
def test_no_json(write_json, text):
    report = check_dataset(write_json(text))
    assert len(report.errors) == 1 and 'not valid json' in str(report.errors[0])


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        check_dataset(tmp_path / 'none.json')


def test_without_annotations(tiny_json, write_json):
    tiny_json['annotations'] = None
    path = write_json(tiny_json)
    assert [p.field for p in check_dataset(path).problems] == ['annotations']
    assert check_dataset(path, need_annotations=False).problems == []


def test_names_that_lead_out_of_the_images(tiny_json, write_json, tiny_images, tmp_path):
    tiny_json['videos'][0]['file_names'][0] = 'away/0.png'
    (tmp_path / 'away').symlink_to(tiny_images / 'walk')
    path = write_json(tiny_json)
    assert not check_dataset(path).errors
    (error,) = [p for p in check_frames(path, tmp_path) if 'link' in p.what]
    assert (error.video, error.frame) == (1, 0)
    for name in ('../x.png', '/x.png'):
        tiny_json['videos'][0]['file_names'][0] = name
        error = check_dataset(write_json(tiny_json)).errors[0]
        assert (error.video, error.field) == (1, 'file_names')
        assert f"'file_names'[0]: '{name}' leads out" in error.what


def test_categories_without_annotations_need_no_class(tiny_json, write_json):
    tiny_json['categories'].append(dict(id=77, name='tree'))
    report = check_dataset(write_json(tiny_json), classes=['person', 'dog'])
    assert report.errors == []
    assert any('no annotation has category 77 (tree)' in str(note) for note in report.problems)
    tiny_json['annotations'] = []
    path = write_json(tiny_json)
    errors = check_dataset(path, classes=['person', 'dog'], need_annotations=False).errors
    assert len(errors) == 1 and "categories ['tree'] are not among" in str(errors[0])


def test_classes(tiny_json, write_json):
    path = write_json(tiny_json)
    (error,) = check_dataset(path, classes=['person', 'dogs']).errors
    assert "did you mean 'dogs'" in error.what


def crowds(content: dict[str, Any]) -> None:
    for entry in content['annotations']:
        entry['iscrowd'] = 1


def outside(content: dict[str, Any]) -> None:
    for entry in content['annotations']:
        entry['bboxes'] = [box and [200, 3, 5, 5] for box in entry['bboxes']]


@pytest.mark.parametrize(
    ('change', 'what'),
    [
        (lambda c: c['categories'].append(dict(id=9, name='DOG')), 'must be unique (case aside)'),
        (lambda c: c.update(annotations=[]), 'no video is left to train on'),
        (crowds, 'no video is left to train on'),
        (outside, 'no video is left to train on'),
        (lambda c: c.update(videos=[], annotations=[]), 'there is no video'),
    ],
)
def test_files_that_leave_nothing_to_train(tiny_json, write_json, tiny_images, change, what):
    change(tiny_json)
    path = write_json(tiny_json)
    (error,) = check_dataset(path).errors
    assert what in error.what
    with pytest.raises(ValueError, match=r'no video is left|must be unique'):
        BoxVideo(path, img_root=str(tiny_images))
    # named classes may be those of several categories, and testing needs no boxes
    if 'unique' in what:
        assert check_dataset(path, classes=['dog', 'person']).errors == []
    elif tiny_json['videos']:
        assert check_dataset(path, need_annotations=False).errors == []


def test_names_that_cannot_be_printed(tiny_json, write_json, capsys):
    """Half characters (lone surrogates), and numbers without end."""
    tiny_json['videos'][0].update(name='wa\ud800lk')
    tiny_json['videos'][0]['file_names'][1] = 'walk/\ud800.png'
    tiny_json['annotations'][2]['category_id'] = 10**400
    assert tool().main([write_json(tiny_json)]) == 1
    told = capsys.readouterr().out
    assert r"video 1 (wa\ud800lk), field file_names: 'file_names'[1]: 'walk/\ud800.png'" in told
    assert 'holds half a character' in told
    assert max(map(len, told.splitlines())) < 400


# ------------------------------------------------------------------ warnings


def only(report: CheckReport) -> Any:
    assert not report.errors
    (warning,) = report.warnings
    return warning


@pytest.mark.parametrize(
    ('change', 'expected', 'what'),
    [
        (box([-5, 3, 20, 20]), dict(frame=2, annotation=7, fixable=True), 'clipped'),
        (box([90, 3, 20, 20]), dict(frame=2, video=1, fixable=True), 'outside'),
        (annotation(bboxes=[None] * 5), dict(annotation=7, fixable=True), 'no box in any frame'),
        (annotation(length=9), dict(annotation=7, field='length'), 'of the video is 5'),
        (annotation(occlusion=['no_occlusion']), dict(field='occlusion'), '1 entries'),
        (video(height=None), dict(field='height', video=1), 'first frame'),
        (lambda c: c['annotations'].pop(), dict(video=2, name='run'), 'no annotation'),
        (lambda c: c['annotations'].pop(0), dict(field='categories'), 'category 1 (person)'),
        (lambda c: c['annotations'].append(dict(c['annotations'][1], id=88)),
         dict(annotation=88), 'same boxes'),
    ],
)  # fmt: skip
def test_each_warning(tiny_json, write_json, change, expected, what):
    change(tiny_json)
    path = write_json(tiny_json)
    found = only(check_dataset(path))
    assert what in found.what
    assert {key: getattr(found, key) for key in expected} == expected


def test_boxes_that_training_counts_are_those_located(tiny_json, write_json):
    rng = np.random.default_rng(0)
    boxes = np.concatenate([rng.uniform(-30, 60, (40, 2)), rng.uniform(0.2, 40, (40, 2))], 1)
    boxes[::7, 2] = 0
    tiny_json['annotations'] = [
        dict(id=k, video_id=2, category_id=1 + 4 * (k % 2), bboxes=[box.tolist()])
        for k, box in enumerate(boxes)
    ]
    tiny_json['videos'].pop(0)
    path = write_json(tiny_json)
    reader = VideoJsonReader(path=path, content=tiny_json, empty_boxes='absent')
    with pytest.warns(UserWarning) as caught:
        reader.instances(reader.videos(), {1: 0, 5: 1})
    located = [p.what for p in check_dataset(path, empty_boxes='absent').warnings]
    counts = [sum(word in what for what in located) for word in ('leaves', 'outside', 'no area')]
    message = str(caught[0].message)
    assert all(counts)
    assert f'{counts[0]} boxes leave' in message and f'{counts[1]} boxes lie outside' in message
    assert f'{counts[2]} boxes have no area' in message


def test_boxes_of_a_frame_whose_size_is_not_known(tiny_json, write_json):
    """Its left and upper edge are known, the others are not."""
    for video in tiny_json['videos']:
        video.pop('width'), video.pop('height')
    track = tiny_json['annotations'][0]
    boxes = [[-4, 3, 20, 20], [9000, 3, 5, 5], [-9, 3, 5, 5]]
    track['bboxes'] = boxes + [None] * (len(track['bboxes']) - len(boxes))
    found = [
        (p.frame, p.what)
        for p in check_dataset(write_json(tiny_json)).warnings
        if p.field == 'bboxes' and p.annotation == track['id']
    ]
    assert found == [
        (0, 'the box [-4, 3, 20, 20] leaves the frame and is clipped to it'),
        (2, 'the box [-9, 3, 5, 5] lies outside the frame: read as absent'),
    ]


def test_boxes_without_area(tiny_json, write_json):
    box([9, 9, 0, 4])(tiny_json)
    path = write_json(tiny_json)
    assert check_dataset(path).errors[0].frame == 2
    assert only(check_dataset(path, empty_boxes='absent')).frame == 2
    images = coco_json()
    images['annotations'][0]['bbox'] = [1, 1, 0, 3]
    assert only(check_dataset(write_json(images))).annotation == 11


# ------------------------------------------------------------------ masks


def with_masks(content: dict[str, Any]) -> list[Any]:
    for entry in content['annotations']:
        entry['segmentations'] = [
            None if box is None else dict(size=[40, 60], counts=[60, 40, 2300])
            for box in entry['bboxes']
        ]
    return content['annotations'][1]['segmentations']


MASK_FAULTS: dict[str, tuple[Any, str]] = {
    'size': (dict(size=[60, 40], counts=[2400]), 'mask of size'),
    'sizes': (dict(size=60, counts=[2400]), "'size' must be"),
    'counts': (dict(size=[40, 60]), 'run-length'),
    'runs': (dict(size=[40, 60], counts=[7]), 'covers 7 of 2400'),
    'negative': (dict(size=[40, 60], counts=[2401, -1]), 'whole numbers'),
    'point': ([[1, 1, 2, 2]], 'three corners'),
    'odd': ([[1, 1, 2, 2, 3, 3, 4]], 'three corners'),
    'empty': ([], 'three corners'),
    'far': ([[0, 0, 5, 0, 2e6, 5]], 'coordinates of a polygon'),
    'long': ([[0, 0, 9e5, 0, 0, 5]], 'outline of a polygon'),
    'huge number': ([[0.5, 0, 5, 0, 10**400, 5]], 'coordinates of a polygon'),
    'text': ('abc', 'run-length'),
    'cut': (dict(size=[40, 60], counts='oo'), 'broken or cut off'),
    'short': (dict(size=[40, 60], counts='11'), 'covers 2 of 2400'),
}


@pytest.mark.parametrize('name', MASK_FAULTS)
def test_masks(tiny_json, write_json, name):
    totals = tool()._mask_totals
    masks = with_masks(tiny_json)
    assert check_dataset(write_json(tiny_json), uses_masks=True, mask_totals=totals).problems == []
    masks[3], what = MASK_FAULTS[name]
    path = write_json(tiny_json)
    # training from boxes never opens a mask
    found = only(check_dataset(path, mask_totals=totals))
    assert (found.annotation, found.frame, found.field) == (0, 3, 'segmentations')
    assert what in found.what
    errors = check_dataset(path, uses_masks=True, mask_totals=totals).errors
    assert [(e.annotation, e.frame) for e in errors] == [(0, 3)]


def test_masks_missing(tiny_json, write_json):
    path = write_json(tiny_json)
    assert len(check_dataset(path, uses_masks=True).errors) == 3
    with_masks(tiny_json)[0] = None
    found = only(check_dataset(write_json(tiny_json)))
    assert (found.frame, found.what) == (0, 'has a box but no mask')


# ------------------------------------------------------------------ frames


def test_frames(tiny_json, write_json, tiny_images, tmp_path):
    path = write_json(tiny_json)
    assert check_frames(path, tiny_images) == check_frames(path, tiny_images, decode=True) == []
    for name in ('walk', 'run'):
        (tmp_path / name).mkdir()
        for image in (tiny_images / name).iterdir():
            (tmp_path / name / image.name).write_bytes(image.read_bytes())
    (tmp_path / 'walk' / '1.png').unlink()
    (tmp_path / 'walk' / '3.png').write_text('no image')
    cv2.imwrite(str(tmp_path / 'run' / '0.png'), np.zeros((60, 40, 3), np.uint8))
    whole = (tmp_path / 'walk' / '4.png').read_bytes()
    (tmp_path / 'walk' / '4.png').write_bytes(whole[: len(whole) // 3])
    seen: list[tuple[int, int]] = []
    found = check_frames(path, tmp_path, on_frame=lambda *done: seen.append(done))
    assert [(p.video, p.frame) for p in found] == [(1, 1), (1, 3), (2, 0)]
    assert [w in p.what for w, p in zip(('not found', 'cannot be read', '60x40'), found,
                                        strict=True)] == [True] * 3  # fmt: skip
    assert seen[-1] == (6, 6)
    decoded = check_frames(path, tmp_path, decode=True)
    assert {(p.video, p.frame) for p in decoded} >= {(1, 1), (1, 3), (2, 0)}


def test_a_wrong_folder_is_one_problem_a_video(tiny_json, write_json, tiny_images, tmp_path):
    path = write_json(tiny_json)
    lengths = {video['id']: len(video['file_names']) for video in tiny_json['videos']}
    (tmp_path / 'walk').mkdir()
    walk, *others = check_frames(path, tmp_path)
    assert [(p.video, p.frame, p.what.split(',')[0]) for p in (walk,)] == [
        (1, None, f'none of its {lengths[1]} images is there')
    ]
    assert {p.video for p in others} == set(lengths) - {1}
    # a single one that is there, though broken, tells that the folder is right
    (tmp_path / 'walk' / '3.png').write_text('no image')
    found = [p for p in check_frames(path, tmp_path) if p.video == 1]
    assert [p.frame for p in found] == list(range(lengths[1]))


def test_turned_by_exif(tmp_path):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (60, 40)).save(tmp_path / '1.jpg', exif=exif)
    content = coco_json()
    content['images'] = content['images'][:1]
    path = tmp_path / 'coco.json'
    path.write_text(json.dumps(content))
    for decode in (False, True):
        (found,) = check_frames(path, tmp_path, decode=decode)
        assert '60x40, but the file says 40x60' in found.what


# ------------------------------------------------------------------ repair


def test_fix(tiny_json, write_json, tmp_path):
    tracks = tiny_json['annotations']
    tracks[0]['bboxes'] = [[-5, 3, 20, 20], [90, 3, 5, 5], [9, 9, 0, 4], [], [10, 5, 20.2, 30]]
    tracks[1]['id'] = '3'
    tracks[1]['category_id'] = 5.0
    tracks.append(dict(tracks[2], id=50, bboxes=[[1, 1, 0, 0]]))
    tiny_json['videos'][0]['length'] = 77
    tiny_json['videos'][1]['id'] = '2'
    tiny_json['info'] = dict(note='stays')
    path, out = write_json(tiny_json), tmp_path / 'fixed.json'
    before = Path(path).read_bytes()
    assert check_dataset(path).errors
    counts = fix_dataset(path, out)
    assert Path(path).read_bytes() == before
    assert check_dataset(out).problems == [] and reads(str(out))
    fixed = json.loads(out.read_text())
    assert fixed['info'] == dict(note='stays')
    assert [a['id'] for a in fixed['annotations']] == [7, 3, 51]
    assert fixed['annotations'][0]['bboxes'] == [
        [0, 3, 15, 20], None, None, None, [10, 5, 20.2, 30],
    ]  # fmt: skip
    assert fixed['videos'][0]['length'] == 5
    assert counts['box clipped to the frame'] == 1
    assert counts['annotation without any box left out'] == 1
    assert sum(counts.values()) == 11


def test_fix_leaves_what_is_not_clear(tiny_json, write_json, tmp_path):
    for name in ('box_short', 'box_nan', 'video_unknown', 'boxes_few'):
        content = copy.deepcopy(tiny_json)
        FAULTS[name][0](content)
        path, out = write_json(content), tmp_path / 'fixed.json'
        assert fix_dataset(path, out) == {}
        same = [json.dumps(json.loads(p.read_text())) for p in (Path(path), out)]
        assert same[0] == same[1]
    with pytest.raises(ValueError, match='needs another name'):
        fix_dataset(path, path)


@pytest.mark.parametrize('value', [5, True, 'x', 10**401], ids=['number', 'true', 'text', 'huge'])
@pytest.mark.parametrize('place', ['segmentations', 'box', 'width', 'id'])
def test_fix_takes_whatever_there_is(tiny_json, write_json, tmp_path, place, value):
    if place == 'segmentations':
        annotation(bboxes=[None] * 5, segmentations=value)(tiny_json)
    elif place == 'box':
        box([1, 2, value, 4])(tiny_json)
    elif place == 'width':
        video(width=value)(tiny_json)
    else:
        annotation(id=value if value != 'x' else '9' * 5000)(tiny_json)
    path, out = write_json(tiny_json), tmp_path / 'fixed.json'
    errors = [str(error) for error in check_dataset(path).errors]
    fix_dataset(path, out)
    # what is no number stays, and no other box is cut to it
    assert [str(error) for error in check_dataset(out).errors] == errors
    fixed = json.loads(out.read_text())
    if (place, value) != ('width', 5):
        assert fixed['annotations'] == tiny_json['annotations']


def test_fix_sizes_written_as_text(tiny_json, write_json, tmp_path):
    video(width='60', height='0')(tiny_json)
    path, out = write_json(tiny_json), tmp_path / 'fixed.json'
    # what is written wrong is not said to be missing
    found = [(p.level, p.field, p.fixable) for p in check_dataset(path).problems]
    assert found == [('error', 'height', False), ('error', 'width', True)]
    video(width='60', height='40')(tiny_json)
    box([50, 3, 20, 20])(tiny_json)
    path = write_json(tiny_json)
    assert all(problem.fixable for problem in check_dataset(path).errors)
    assert fix_dataset(path, out)['size written as text made a whole number'] == 2
    assert check_dataset(out).problems == []
    fixed = json.loads(out.read_text())
    assert (fixed['videos'][0]['width'], fixed['videos'][0]['height']) == (60, 40)
    assert fixed['annotations'][0]['bboxes'][2] == [50, 3, 10, 20]


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=st.sampled_from(sorted(FAULTS)))
def test_what_is_called_fixable_is_fixed(tiny_json, write_json, tmp_path, name):
    content = copy.deepcopy(tiny_json)
    FAULTS[name][0](content)
    path, out = write_json(content), tmp_path / 'fixed.json'
    problems = check_dataset(path).errors
    fix_dataset(path, out)
    left = check_dataset(out).errors
    if all(problem.fixable for problem in problems):
        assert left == []
    else:
        assert left


def test_fix_images(write_json, tmp_path):
    content = coco_json()
    content['annotations'][0]['bbox'] = [50, 30, 20, 20]
    content['annotations'].append(dict(content['annotations'][1], id=40, bbox=[1, 1, 0, 2]))
    path, out = write_json(content), tmp_path / 'fixed.json'
    fix_dataset(path, out)
    fixed = json.loads(out.read_text())
    assert [a['bbox'] for a in fixed['annotations']] == [[50, 30, 10, 10], [1, 2, 30, 30]]
    assert check_dataset(out).problems == []


# ------------------------------------------------------------------ the tool


def test_tool(tiny_json, write_json, tiny_images, tmp_path, capsys):
    main = tool().main
    path = write_json(tiny_json)
    assert main([path, '--images', str(tiny_images), '--classes', 'ytvis21']) == 0
    assert '0 errors, 0 warnings' in capsys.readouterr().out
    box([-5, 3, 20, 20])(tiny_json)
    assert main([write_json(tiny_json)]) == 0
    shown = capsys.readouterr().out
    assert 'warning: video 1 (walk), frame 2, annotation 7, field bboxes: the box' in shown
    assert '--fix OUT repairs 1' in shown
    tiny_json['annotations'][1]['id'] = '0'
    path, out, report = write_json(tiny_json), tmp_path / 'f.json', tmp_path / 'r.json'
    assert main([path, '--report', str(report), '--max-problems', '1']) == 1
    shown = capsys.readouterr().out
    assert 'error: annotations[1]' in shown and '... and 1 more' in shown
    written = json.loads(report.read_text())
    assert sorted(p['level'] for p in written['problems']) == ['error', 'warning']
    assert main([path, '--fix', str(out)]) == 0
    assert 'repaired: box clipped to the frame: 1' in capsys.readouterr().out
    assert main([str(tmp_path / 'none.json')]) == 1
    assert 'not found' in capsys.readouterr().err
    assert main([path, '--fix', path]) == 1
