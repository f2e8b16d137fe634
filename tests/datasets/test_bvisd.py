from __future__ import annotations

import copy
import json

import pytest

from mmboxvis.datasets import BVISD, MixedSampler
from mmboxvis.datasets.bvisd import merge_into_bvisd, split_training_json
from mmboxvis.datasets.categories import BVISD_CLASSES, category_names, to_bvisd


def test_mixed_set(tiny_json, tiny_images, write_json, tmp_path):
    tiny_json['categories'][0]['name'] = 'truck'
    path = write_json(tiny_json)
    part = dict(ann_file=path, img_root=str(tiny_images))
    mixed = BVISD(ytvis=part, lazy_init=True)
    mixed.full_init()
    assert mixed.metainfo['classes'] == BVISD_CLASSES
    labels = mixed.datasets[0].get_data_info(0)['instances'].labels
    assert [BVISD_CLASSES[label] for label in labels] == ['person', 'vehicle']
    tiny_json['categories'][0]['name'] = 'Bicycle'
    both = BVISD(ytvis=None, ovis=dict(part, ann_file=write_json(tiny_json)))
    labels = both.datasets[0].get_data_info(0)['instances'].labels
    assert [BVISD_CLASSES[label] for label in labels] == ['person', 'motorbike']
    assert MixedSampler(both, [1.0], seed=0).sizes == [2]
    with pytest.raises(ValueError, match='at least one'):
        BVISD()


@pytest.mark.parametrize(
    ('source', 'part', 'options'),
    [
        ('ytvis19', 'ytvis', dict(version='2019')),
        ('ytvis21', 'ytvis', {}),
        ('ytvis21', 'ytvis', dict(version='2022')),
        ('ovis', 'ovis', {}),
    ],
)
def test_official_sets_tell_their_own_category_ids(
    tiny_json, tiny_images, write_json, source, part, options
):
    names = category_names(source)
    tiny_json['categories'] = [dict(id=key, name=name) for key, name in names.items()]
    del tiny_json['annotations']
    arguments = dict(ann_file=write_json(tiny_json), img_root=str(tiny_images), test_mode=True)
    mixed = BVISD(**{part: {**arguments, **options}})
    assert len(mixed) == 2
    ids = mixed.metainfo['category_ids']
    assert len(ids) == 40
    assert {key: label + 1 for label, keys in enumerate(ids) for key in keys} == to_bvisd(source)


def test_lazy_set_knows_as_much_in_the_end(tiny_json, tiny_images, write_json, tmp_path):
    tiny_json['categories'][0]['name'] = 'Bicycle'
    part = dict(ann_file=write_json(tiny_json), img_root=str(tiny_images), test_mode=True)
    lazy = BVISD(ovis=part, lazy_init=True)
    assert set(lazy.metainfo) == {'classes'}
    lazy.full_init()
    assert lazy.metainfo == BVISD(ovis=part).metainfo
    assert {'palette', 'category_ids', 'category_names'} < set(lazy.metainfo)
    # the ids of the first part would be written for the second
    other = tmp_path / 'other.json'
    swapped = [dict(id=1, name='dog'), dict(id=5, name='person')]
    other.write_text(json.dumps(dict(tiny_json, categories=swapped)))
    parts = dict(ovis=part, ytvis=dict(part, ann_file=str(other)))
    for lazy_init in (False, True):
        with pytest.raises(ValueError, match='meta information'):
            BVISD(**parts, lazy_init=lazy_init).full_init()


@pytest.mark.parametrize(('released', 'name'), [(False, 'vehicle'), (True, 'turtle')])
def test_truck_of_coco(tiny_images, write_json, released, name):
    image = dict(id=1, file_name='run/0.png', width=60, height=40)
    content = dict(
        images=[image],
        categories=[dict(id=8, name='truck')],
        annotations=[dict(id=1, image_id=1, category_id=8, bbox=[5, 5, 20, 20], iscrowd=0)],
    )
    part = dict(ann_file=write_json(content), img_root=str(tiny_images))
    mixed = BVISD(coco=part, released_mapping=released)
    labels = mixed.datasets[0].get_data_info(0)['instances'].labels
    assert [BVISD_CLASSES[label] for label in labels] == [name]


def make_json(num_videos: int, categories: int, length: int = 10) -> dict:
    return dict(
        videos=[dict(id=v, file_names=['f'] * length) for v in range(num_videos)],
        categories=[dict(id=c, name=str(c)) for c in range(categories)],
        annotations=[dict(id=v, video_id=v, category_id=v % categories) for v in range(num_videos)],
    )


def test_split_quota():
    """50 videos, 2 categories: q = 2*5//2 = 5, and a category stops once its count passes q."""
    content = make_json(50, 2)
    before = copy.deepcopy(content)
    train, valid = split_training_json(content)
    assert content == before
    assert len(valid['videos']) == 2 * 6 and len(train['videos']) == 38
    assert [v['id'] for v in valid['videos']] == list(range(12))
    doubled = split_training_json(content, double_quota=True)[1]
    assert len(doubled['videos']) == 2 * 11


def test_split_counts_every_annotation_and_skips_long_videos():
    content = make_json(50, 2)
    content['videos'][0]['file_names'] = ['f'] * 101
    # all further annotations of video 1 count for category 1 at once
    content['annotations'] += [dict(id=100 + k, video_id=1, category_id=1) for k in range(3)]
    content['annotations'].sort(key=lambda a: a['video_id'])
    train, valid = split_training_json(content)
    ids = {v['id'] for v in valid['videos']}
    assert 0 not in ids and 1 in ids
    assert sum(i % 2 for i in ids) == 3 and sum(not i % 2 for i in ids) == 6
    assert {a['video_id'] for a in valid['annotations']} == ids
    assert not ids & {v['id'] for v in train['videos']}


def test_split_leaves_unannotated_videos_out():
    content = make_json(20, 1)
    content['annotations'] = content['annotations'][:10]
    train, valid = split_training_json(content)
    assert len(train['videos']) + len(valid['videos']) == 10


def test_merge_renumbers(tiny_json):
    other = copy.deepcopy(tiny_json)
    tiny_json['annotations'] += [dict(id=99, video_id=2, category_id=6, iscrowd=0, bboxes=[None])]
    other['annotations'][0]['category_id'] = 21
    merged = merge_into_bvisd([('coco', tiny_json, 'a'), ('ovis', other, '')])
    assert [v['id'] for v in merged['videos']] == [1, 2, 3, 4]
    assert merged['videos'][0]['file_names'][0] == 'a/walk/0.png'
    ids = [a['id'] for a in merged['annotations']]
    assert ids == list(range(1, len(ids) + 1))
    assert {a['video_id'] for a in merged['annotations']} == {1, 2, 3, 4}
    by_id = {c['id']: c['name'] for c in merged['categories']}
    names = [by_id[a['category_id']] for a in merged['annotations']]
    assert names == ['person', 'airplane', 'airplane', 'vehicle', 'motorbike', 'horse', 'horse']
