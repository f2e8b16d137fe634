from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmboxvis.datasets.categories import BVISD_CLASSES, category_names, to_bvisd
from mmboxvis.datasets.dataset_stats import (
    BINS,
    BOX_SECONDS,
    MASK_SECONDS,
    ObjectTable,
    annotation_days,
    box_motion,
    box_overlap,
    category_table,
    dataset_statistics,
    find_origin,
    statistics_table,
    whole_annotation_days,
)
from mmboxvis.datasets.video_json import AnnotationError

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'analysis_tools' / 'dataset_stats.py'

#: Objects, days for pixels and days for boxes, as the paper prints them.
TABLE_2 = {
    'YTVIS21': (232_000, 213, 19),
    'OVIS': (296_000, 272, 24),
    'COCO': (450_000, 413, 37),
}


def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location('dataset_stats_tool', TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ------------------------------------------------------------------ the paper's Table 2


@pytest.mark.parametrize('name', TABLE_2)
def test_days_of_each_set(name):
    objects, pixel_days, box_days = TABLE_2[name]
    assert whole_annotation_days([objects], MASK_SECONDS) == pixel_days
    assert whole_annotation_days([objects], BOX_SECONDS) == box_days


def test_days_of_bvisd_are_the_sum():
    objects = [row[0] for row in TABLE_2.values()]
    assert sum(objects) == 978_000
    assert whole_annotation_days(objects, MASK_SECONDS) == 898
    assert whole_annotation_days(objects, BOX_SECONDS) == 80
    # the paper's Table 1: both video sets
    assert whole_annotation_days(objects[:2], MASK_SECONDS) == 485
    assert whole_annotation_days(objects[:2], BOX_SECONDS) == 43


def test_days():
    assert whole_annotation_days([], BOX_SECONDS) == 0
    assert annotation_days(86_400, BOX_SECONDS) == 7
    assert whole_annotation_days([86_400], BOX_SECONDS) == 7
    assert whole_annotation_days([86_401], BOX_SECONDS) == 8


def test_overlapping_categories():
    """The paper counts classes for YouTube-VIS (39) and categories for OVIS and COCO (25, 25)."""
    found = {}
    for source in ('ytvis21', 'ovis', 'coco'):
        forward = to_bvisd(source)  # type: ignore[arg-type]
        found[source] = (len(forward), len(set(forward.values())))
    assert found == dict(ytvis21=(40, 39), ovis=(25, 24), coco=(25, 21))


# ------------------------------------------------------------------ counting


def test_tiny(tiny_json, write_json):
    one = dataset_statistics(write_json(tiny_json), name='tiny')
    assert (one.num_videos, one.num_frames) == (2, 6)
    assert (one.num_instances, one.num_objects, one.num_categories) == (3, 9, 2)
    assert one.objects_per_class == dict(dog=6, person=3)
    assert (one.num_overlapping, one.num_bvisd_classes) == (2, 2)
    assert sorted(one.samples['video_length']) == [1, 5]
    assert sorted(one.samples['track_length']) == [1, 3, 5]
    np.testing.assert_allclose(np.sort(one.samples['box_side'])[:8], np.sqrt(600))
    # one pixel a frame, in boxes of 20 x 30
    np.testing.assert_allclose(one.samples['motion'], np.full(6, 1 / np.sqrt(600)))
    # person and dog have the same boxes in three frames
    assert sorted(one.samples['overlap']) == [0] * 3 + [1] * 6
    assert {name: counts.sum() for name, counts in one.histograms().items()} == dict(
        box_side=9, overlap=9, video_length=2, track_length=3, motion=6
    )


def test_empty(write_json):
    nothing: dict[str, Any] = dict(videos=[], categories=[], annotations=[])
    one = dataset_statistics(write_json(nothing))
    assert (one.num_videos, one.num_frames, one.num_objects, one.origin) == (0, 0, 0, None)
    rows = statistics_table([one])['annotations']
    assert rows['box annotation, days'] == rows['objects'] == 0
    nothing['annotations'] = None
    assert dataset_statistics(write_json(nothing)).num_objects == 0


def test_crowds_and_empty_boxes_do_not_count(tiny_json, write_json):
    tiny_json['annotations'][2]['iscrowd'] = 1
    tiny_json['annotations'][1]['bboxes'][0] = [3, 3, 0, 5]
    one = dataset_statistics(write_json(tiny_json))
    assert one.objects_per_class == dict(dog=4, person=3)


def test_occlusion_levels(tiny_json, write_json):
    levels = ['no_occlusion', 'no_occlusion', None, 'severe_occlusion', None]
    tiny_json['annotations'][0]['occlusion'] = levels
    one = dataset_statistics(write_json(tiny_json))
    assert one.occlusion == dict(no_occlusion=2, severe_occlusion=1)


def coco(names: list[str]) -> dict[str, Any]:
    """One image a category, one object in each."""
    ids = {name: key for key, name in category_names('coco').items()}
    return dict(
        images=[dict(id=k, file_name=f'{k}.jpg', width=90, height=90) for k in range(len(names))],
        categories=[dict(id=key, name=name) for name, key in ids.items()],
        annotations=[
            dict(id=k, image_id=k, category_id=ids[name], bbox=[0, 0, 9, 9], iscrowd=0)
            for k, name in enumerate(names)
        ],
    )


def test_as_bvisd(write_json):
    path = write_json(coco(['truck', 'car', 'fork', 'person', 'mouse']))
    plain = dataset_statistics(path)
    assert (plain.num_videos, plain.num_frames, plain.num_objects) == (0, 5, 5)
    taken = dataset_statistics(path, as_bvisd=True)
    # neither fork nor the mouse of a computer has a class in BVISD, so two images are left out
    assert (taken.num_frames, taken.num_instances, taken.num_objects) == (3, 3, 3)
    assert {n: c for n, c in taken.objects_per_class.items() if c} == dict(vehicle=2, person=1)
    assert tuple(taken.objects_per_class) == BVISD_CLASSES
    assert (taken.num_overlapping, taken.num_bvisd_classes) == (25, 21)
    assert 'motion' not in taken.samples and 'video_length' not in taken.samples


def test_as_bvisd_needs_a_known_set(tiny_json, write_json):
    tiny_json['categories'][0]['name'] = 'spaceship'
    with pytest.raises(ValueError, match='say with --origin whose classes'):
        dataset_statistics(write_json(tiny_json), as_bvisd=True)


def test_broken_file(tiny_json, write_json):
    tiny_json['annotations'][1]['bboxes'][2] = [1, 2]
    with pytest.raises(AnnotationError, match='annotation 0, frame 2'):
        dataset_statistics(write_json(tiny_json))
    tiny_json['annotations'][1] = 7
    with pytest.raises(AnnotationError, match='expected an object'):
        dataset_statistics(write_json(tiny_json))


@pytest.mark.parametrize('origin', ['ytvis21', 'ovis', 'coco'])
def test_origin(origin):
    names = list(category_names(origin).values())
    assert find_origin(names, 'image' if origin == 'coco' else 'video') == origin
    assert find_origin([*names, 'spaceship']) is None
    assert find_origin([name.upper() for name in names][::-1]) == origin
    assert find_origin(BVISD_CLASSES) == 'bvisd'


def test_sum_of_sets(tiny_json, write_json):
    path = write_json(tiny_json)
    sets = [dataset_statistics(path, name=name, as_bvisd=True) for name in 'ab']
    columns = statistics_table(sets, 'both')
    assert list(columns) == ['a', 'b', 'both']
    for row in ('videos', 'frames', 'instances', 'objects', 'box annotation, days'):
        assert columns['both'][row] == columns['a'][row] + columns['b'][row]
    assert columns['both']['categories'] == 40
    table = category_table(sets)
    assert list(table)[:2] == ['dog', 'person'] and table['dog'] == [6, 6]


def test_classes_of_sets_are_matched_as_in_training(tiny_json, write_json):
    sets = []
    for spelling in ('giant_panda', 'Giant-Panda'):
        tiny_json['categories'][0]['name'] = spelling
        sets.append(dataset_statistics(write_json(tiny_json), name=spelling))
    both = statistics_table(sets, 'both')['both']['categories']
    assert both == sets[0].num_categories == len(category_table(sets))


# ------------------------------------------------------------------ slow, obvious twins


def overlap_one_by_one(table: ObjectTable) -> np.ndarray:
    shares = np.zeros(len(table))
    for i, (left, top, right, bottom) in enumerate(table.boxes.astype(float)):
        for j, (x0, y0, x1, y1) in enumerate(table.boxes.astype(float)):
            same = (table.video[i], table.frame[i]) == (table.video[j], table.frame[j])
            if i == j or not same:
                continue
            width = max(min(right, x1) - max(left, x0), 0)
            height = max(min(bottom, y1) - max(top, y0), 0)
            share = width * height / ((right - left) * (bottom - top))
            shares[i] = max(shares[i], share)
    return shares


def motion_one_by_one(table: ObjectTable) -> list[float]:
    ways = []
    for i, box in enumerate(table.boxes.astype(float)):
        for j, later in enumerate(table.boxes.astype(float)):
            if table.instance[i] == table.instance[j] and table.frame[j] == table.frame[i] + 1:
                dx = (later[0] + later[2] - box[0] - box[2]) / 2
                dy = (later[1] + later[3] - box[1] - box[3]) / 2
                area = (box[2] - box[0]) * (box[3] - box[1])
                ways.append(float(np.hypot(dx, dy) / np.sqrt(area)))
    return ways


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(0, 25))
def test_twins(seed, size):
    rng = np.random.default_rng(seed)
    # an instance is in a frame once
    cells = rng.permutation(8 * 5)[:size]
    instance, frame = cells // 5, cells % 5
    low = rng.integers(0, 30, (size, 2))
    boxes = np.concatenate([low, low + rng.integers(1, 30, (size, 2))], 1).astype(np.float32)
    table = ObjectTable(
        video=instance % 3, instance=instance, frame=frame, label=instance * 0, boxes=boxes
    )
    np.testing.assert_allclose(box_overlap(table), overlap_one_by_one(table))
    np.testing.assert_allclose(np.sort(box_motion(table)), np.sort(motion_one_by_one(table)))


# ------------------------------------------------------------------ the tool


def test_tool_is_told_the_origin(tmp_path, capsys):
    path = tmp_path / 'own.json'
    content = coco(['truck', 'fork'])
    for category in content['categories']:
        if category['name'] == 'fork':
            category['name'] = 'spaceship'
    path.write_text(json.dumps(content))
    arguments = [str(path), '--bvisd', '--out', str(tmp_path / 'out')]
    assert tool().main(arguments) == 1
    assert 'of ytvis21, ovis, coco, bvisd; those that it has not are left out' in ' '.join(
        capsys.readouterr().err.split()
    )
    assert tool().main([*arguments, '--origin', 'coco']) == 0
    content = json.loads((tmp_path / 'out' / 'statistics.json').read_text())
    counts = {name: n for name, n in content['objects_per_class']['own'].items() if n}
    assert counts == dict(vehicle=1)
    with pytest.raises(SystemExit):
        tool().parse_args([str(path), '--origin', 'coco', 'ovis'])


def test_tool(tiny_json, write_json, tmp_path, capsys):
    path = write_json(tiny_json)
    other = tmp_path / 'images.json'
    other.write_text(json.dumps(coco(['person', 'car', 'dog'])))
    out = tmp_path / 'out'
    arguments = [path, str(other), '--names', 'tiny', 'img', '--total', 'all', '--per-class']
    assert tool().main([*arguments, '--bvisd', '--out', str(out)]) == 0
    shown = capsys.readouterr().out
    assert 'all' in shown and 'vehicle' in shown
    content = json.loads((out / 'statistics.json').read_text())
    assert content['table']['all']['objects'] == 12
    assert content['exact_days']['tiny']['box'] == pytest.approx(9 * 7 / 86400)
    for name, counts in content['histograms']['tiny'].items():
        assert len(counts) == len(content['histogram_edges'][name]) == len(BINS[name]) - 1
    rows = list(csv.reader((out / 'categories.csv').open()))
    assert rows[0] == ['class', 'tiny', 'img'] and ['vehicle', '0', '1'] in rows
    for name in ('categories.png', 'histograms.png'):
        with Image.open(out / name) as image:
            pixels = np.asarray(image.convert('RGB'))
        # not an empty canvas: both colours of the sets are there
        for color in ((0x3B, 0x6F, 0xB6), (0xE0, 0x8A, 0x2E)):
            assert (pixels == color).all(-1).sum() > 100


def test_tool_errors(tiny_json, write_json, tmp_path, capsys):
    path = write_json(tiny_json)
    assert tool().main([str(tmp_path / 'none.json')]) == 1
    assert 'none.json' in capsys.readouterr().err
    for arguments in ([path, path], [path, '--names', 'a', 'b'], [path, '--names', 'total']):
        with pytest.raises(SystemExit):
            tool().main(arguments)


def test_figures_of_an_empty_set(write_json, tmp_path):
    path = write_json(dict(videos=[], categories=[], annotations=[]))
    assert tool().main([path, '--out', str(tmp_path / 'out')]) == 0
    assert (tmp_path / 'out' / 'categories.png').stat().st_size > 0


def test_real_sets(real_data):
    davis = dataset_statistics(real_data / 'davis_mini' / 'boxes.json')
    assert (davis.num_videos, davis.num_frames, davis.num_instances) == (9, 216, 13)
    content = json.loads((real_data / 'davis_mini' / 'boxes.json').read_text())
    boxes = [box for a in content['annotations'] for box in a['bboxes'] if box is not None]
    assert davis.num_objects == len(boxes)
    np.testing.assert_allclose(
        np.sort(davis.samples['box_side']), np.sort([np.sqrt(b[2] * b[3]) for b in boxes])
    )
    images = dataset_statistics(real_data / 'coco_mini' / 'instances.json')
    content = json.loads((real_data / 'coco_mini' / 'instances.json').read_text())
    assert images.num_objects == sum(not a['iscrowd'] for a in content['annotations'])
    assert (images.num_frames, images.origin, images.num_overlapping) == (80, 'coco', 25)
