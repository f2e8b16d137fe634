from __future__ import annotations

import pytest

from mmboxvis.datasets.categories import (
    BVISD_CLASSES,
    COCO_CLASSES,
    OVIS_CLASSES,
    YTVIS19_CLASSES,
    YTVIS21_CLASSES,
    bvisd_category_map,
    category_names,
    class_palette,
    match_categories,
    to_bvisd,
)


def test_class_lists():
    lists = (YTVIS19_CLASSES, YTVIS21_CLASSES, OVIS_CLASSES, COCO_CLASSES, BVISD_CLASSES)
    assert [len(names) for names in lists] == [40, 40, 25, 80, 40]
    assert all(len(set(names)) == len(names) for names in lists)
    assert BVISD_CLASSES[-1] == 'sheep' and BVISD_CLASSES[4] == 'vehicle'


def test_youtube_forward():
    forward = to_bvisd('ytvis21')
    assert sorted(forward) == list(range(1, 41))
    assert {k: v for k, v in forward.items() if k != v} == {37: 5, 38: 37, 39: 38, 40: 39}


def test_ovis_and_coco_forward():
    ovis = to_bvisd('ovis')
    assert sorted(ovis) == list(range(1, 26))
    assert (ovis[25], ovis[21], ovis[22], ovis[6]) == (5, 23, 23, 40)
    coco = to_bvisd('coco')
    assert len(set(coco.values())) == 21 and len(coco) == 25
    assert coco[8] == coco[3] == coco[6] == 5
    assert to_bvisd('coco', released_mapping=True)[8] == 37
    assert to_bvisd('ovis', released_mapping=True) == ovis


@pytest.mark.parametrize('source', ['ytvis19', 'ytvis21', 'ovis', 'coco'])
def test_names_agree_with_ids(source):
    """Where a class keeps its name, the ids of both sides carry it."""
    names = category_names(source)
    other = {'car', 'truck', 'bus', 'duck', 'frisbee', 'skis', 'bicycle', 'motorcycle', 'vehical'}
    other |= {'sedan', 'ape', 'owl', 'eagle'}
    for key, goal in to_bvisd(source).items():
        name = names[key].lower().replace(' ', '_')
        assert name in other or name == BVISD_CLASSES[goal - 1]


def test_classes_merged_by_hand():
    old = to_bvisd('ytvis19')
    merged = {goal: {key for key in old if old[key] == goal} for goal in (3, 5, 22, 26)}
    assert merged == {3: {26, 38}, 5: {6, 29}, 22: {7, 10}, 26: {1}}
    assert set(category_names('ytvis19')) - set(old) == {11}  # hands
    assert len(set(to_bvisd('ovis').values())) == 24


def test_category_map_by_name():
    coco = bvisd_category_map('coco')
    assert coco['truck'] == 'vehicle' and coco['frisbee'] == 'flying_disc'
    assert coco['banana'] is None and coco['mouse'] is None  # a computer mouse
    assert bvisd_category_map('coco', released_mapping=True)['truck'] == 'turtle'
    assert bvisd_category_map('ovis')['Vehical'] == 'vehicle'


def test_match_without_categories():
    assert match_categories({}, ('a',), category_map={}, unknown='error', where='f') == {}


def test_match_names():
    labels = match_categories(
        {3: 'Giant Panda', 9: 'vehical'},
        ('vehicle', 'giant_panda'),
        category_map={},
        unknown='error',
        where='f',
    )
    assert labels == {3: 1, 9: 0}


def test_match_errors():
    def match(names, classes, **arguments):
        arguments = dict(dict(category_map={}, unknown='error', where='file.json'), **arguments)
        return match_categories(dict(enumerate(names)), classes, **arguments)

    with pytest.raises(ValueError, match=r"file.json: .*did you mean 'person' for 'persn'"):
        match(['persn'], ('person',))
    with pytest.raises(ValueError, match='must be unique'):
        match(['a'], ('a', 'A'))
    assert match(['a', 'b'], ('a',), unknown='drop') == {0: 0, 1: None}
    assert match(['a', 'b'], ('a',), category_map={'B': None}) == {0: 0, 1: None}


def test_palette():
    assert class_palette(0) == []
    assert len(set(class_palette(40))) == 40
    assert class_palette(3) == class_palette(40)[:3]
