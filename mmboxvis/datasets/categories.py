"""Class names and ids of all data sets, and the ways between them. No other file has any.

Ids are those of the annotation files and start at 1, except in COCO, where they have gaps.
"""

from __future__ import annotations

import colorsys
import difflib
from collections.abc import Container, Mapping, Sequence
from typing import Literal

from mmboxvis.class_names import class_key

Source = Literal['ytvis21', 'ovis', 'coco', 'ytvis19']

YTVIS19_CLASSES: tuple[str, ...] = (
    'person', 'giant_panda', 'lizard', 'parrot', 'skateboard', 'sedan', 'ape', 'dog', 'snake',
    'monkey', 'hand', 'rabbit', 'duck', 'cat', 'cow', 'fish', 'train', 'horse', 'turtle', 'bear',
    'motorbike', 'giraffe', 'leopard', 'fox', 'deer', 'owl', 'surfboard', 'airplane', 'truck',
    'zebra', 'tiger', 'elephant', 'snowboard', 'boat', 'shark', 'mouse', 'frog', 'eagle',
    'earless_seal', 'tennis_racket',
)  # fmt: skip

YTVIS21_CLASSES: tuple[str, ...] = (
    'airplane', 'bear', 'bird', 'boat', 'car', 'cat', 'cow', 'deer', 'dog', 'duck',
    'earless_seal', 'elephant', 'fish', 'flying_disc', 'fox', 'frog', 'giant_panda', 'giraffe',
    'horse', 'leopard', 'lizard', 'monkey', 'motorbike', 'mouse', 'parrot', 'person', 'rabbit',
    'shark', 'skateboard', 'snake', 'snowboard', 'squirrel', 'surfboard', 'tennis_racket',
    'tiger', 'train', 'truck', 'turtle', 'whale', 'zebra',
)  # fmt: skip

#: The long videos of 2022 share the classes of 2021.
YTVIS22_CLASSES = YTVIS21_CLASSES

OVIS_CLASSES: tuple[str, ...] = (
    'Person', 'Bird', 'Cat', 'Dog', 'Horse', 'Sheep', 'Cow', 'Elephant', 'Bear', 'Zebra',
    'Giraffe', 'Poultry', 'Giant_panda', 'Lizard', 'Parrot', 'Monkey', 'Rabbit', 'Tiger', 'Fish',
    'Turtle', 'Bicycle', 'Motorcycle', 'Airplane', 'Boat', 'Vehical',
)  # fmt: skip

COCO_CATEGORIES: dict[int, str] = {
    1: 'person', 2: 'bicycle', 3: 'car', 4: 'motorcycle', 5: 'airplane', 6: 'bus', 7: 'train',
    8: 'truck', 9: 'boat', 10: 'traffic light', 11: 'fire hydrant', 13: 'stop sign',
    14: 'parking meter', 15: 'bench', 16: 'bird', 17: 'cat', 18: 'dog', 19: 'horse', 20: 'sheep',
    21: 'cow', 22: 'elephant', 23: 'bear', 24: 'zebra', 25: 'giraffe', 27: 'backpack',
    28: 'umbrella', 31: 'handbag', 32: 'tie', 33: 'suitcase', 34: 'frisbee', 35: 'skis',
    36: 'snowboard', 37: 'sports ball', 38: 'kite', 39: 'baseball bat', 40: 'baseball glove',
    41: 'skateboard', 42: 'surfboard', 43: 'tennis racket', 44: 'bottle', 46: 'wine glass',
    47: 'cup', 48: 'fork', 49: 'knife', 50: 'spoon', 51: 'bowl', 52: 'banana', 53: 'apple',
    54: 'sandwich', 55: 'orange', 56: 'broccoli', 57: 'carrot', 58: 'hot dog', 59: 'pizza',
    60: 'donut', 61: 'cake', 62: 'chair', 63: 'couch', 64: 'potted plant', 65: 'bed',
    67: 'dining table', 70: 'toilet', 72: 'tv', 73: 'laptop', 74: 'mouse', 75: 'remote',
    76: 'keyboard', 77: 'cell phone', 78: 'microwave', 79: 'oven', 80: 'toaster', 81: 'sink',
    82: 'refrigerator', 84: 'book', 85: 'clock', 86: 'vase', 87: 'scissors', 88: 'teddy bear',
    89: 'hair drier', 90: 'toothbrush',
}  # fmt: skip

COCO_CLASSES: tuple[str, ...] = tuple(COCO_CATEGORIES.values())

_Ids = tuple[int, ...]

#: BVISD class and the ids that become it: (name, YouTube-VIS 2021, OVIS, COCO, YouTube-VIS 2019).
#: 2019, which the paper does not use, follows what became of its classes in 2021: owls and eagles
#: are birds, apes are monkeys, hands are nothing.
_BVISD: tuple[tuple[str, _Ids, _Ids, _Ids, _Ids], ...] = (
    ('airplane', (1,), (23,), (5,), (28,)),
    ('bear', (2,), (9,), (23,), (20,)),
    ('bird', (3,), (2,), (16,), (26, 38)),
    ('boat', (4,), (24,), (9,), (34,)),
    ('vehicle', (5, 37), (25,), (3, 6, 8), (6, 29)),
    ('cat', (6,), (3,), (17,), (14,)),
    ('cow', (7,), (7,), (21,), (15,)),
    ('deer', (8,), (), (), (25,)),
    ('dog', (9,), (4,), (18,), (8,)),
    ('poultry', (10,), (12,), (), (13,)),
    ('earless_seal', (11,), (), (), (39,)),
    ('elephant', (12,), (8,), (22,), (32,)),
    ('fish', (13,), (19,), (), (16,)),
    ('flying_disc', (14,), (), (34,), ()),
    ('fox', (15,), (), (), (24,)),
    ('frog', (16,), (), (), (37,)),
    ('giant_panda', (17,), (13,), (), (2,)),
    ('giraffe', (18,), (11,), (25,), (22,)),
    ('horse', (19,), (5,), (19,), (18,)),
    ('leopard', (20,), (), (), (23,)),
    ('lizard', (21,), (14,), (), (3,)),
    ('monkey', (22,), (16,), (), (7, 10)),
    ('motorbike', (23,), (21, 22), (2, 4), (21,)),
    ('mouse', (24,), (), (), (36,)),
    ('parrot', (25,), (15,), (), (4,)),
    ('person', (26,), (1,), (1,), (1,)),
    ('rabbit', (27,), (17,), (), (12,)),
    ('shark', (28,), (), (), (35,)),
    ('skateboard', (29,), (), (41,), (5,)),
    ('snake', (30,), (), (), (9,)),
    ('snowboard', (31,), (), (35, 36), (33,)),
    ('squirrel', (32,), (), (), ()),
    ('surfboard', (33,), (), (42,), (27,)),
    ('tennis_racket', (34,), (), (43,), (40,)),
    ('tiger', (35,), (18,), (), (31,)),
    ('train', (36,), (), (7,), (17,)),
    ('turtle', (38,), (20,), (), (19,)),
    ('whale', (39,), (), (), ()),
    ('zebra', (40,), (10,), (24,), (30,)),
    ('sheep', (), (6,), (20,), ()),
)  # fmt: skip

BVISD_CLASSES: tuple[str, ...] = tuple(row[0] for row in _BVISD)

_COLUMN = {'ytvis21': 0, 'ovis': 1, 'coco': 2, 'ytvis19': 3}
_COCO_TRUCK, _BVISD_TURTLE = 8, BVISD_CLASSES.index('turtle') + 1


def category_names(source: Source) -> dict[int, str]:
    """Official category id to name of a data set."""
    if source == 'coco':
        return dict(COCO_CATEGORIES)
    classes = dict(ytvis19=YTVIS19_CLASSES, ytvis21=YTVIS21_CLASSES, ovis=OVIS_CLASSES)[source]
    return dict(enumerate(classes, start=1))


def to_bvisd(source: Source, *, released_mapping: bool = False) -> dict[int, int]:
    """Category id of a data set to BVISD id (1 to 40); what is not listed is dropped.

    Args:
        source: data set the ids are of.
        released_mapping: send COCO's trucks to turtle, as the released program does by mistake.
    """
    column = _COLUMN[source]
    forward = {
        key: number for number, (_, *ids) in enumerate(_BVISD, start=1) for key in ids[column]
    }
    if released_mapping and source == 'coco':
        forward[_COCO_TRUCK] = _BVISD_TURTLE
    return forward


def bvisd_category_map(source: Source, *, released_mapping: bool = False) -> dict[str, str | None]:
    """Category name of a data set to BVISD class, ``None`` where it has none.

    It is what :class:`~.box_video.BoxVideo` takes as ``category_map``.
    """
    forward = to_bvisd(source, released_mapping=released_mapping)
    return {
        name: BVISD_CLASSES[forward[key] - 1] if key in forward else None
        for key, name in category_names(source).items()
    }


def match_categories(
    categories: Mapping[int, str],
    classes: Sequence[str],
    *,
    category_map: Mapping[str, str | None],
    unknown: Literal['error', 'drop'],
    where: str,
    used: Container[int] | None = None,
    advice: str = "name them in category_map, or set unknown_categories='drop'",
) -> dict[int, int | None]:
    """Label of each category id, by name.

    Args:
        categories: id to name, of an annotation file.
        classes: names of the labels 0 to K-1.
        category_map: name in the file to a name in ``classes``, or ``None`` to drop it.
        unknown: what to do with a name that is neither mapped nor among ``classes``.
        where: the file, for messages.
        used: ids that annotations have; an unknown category without annotations is no error.
            ``None`` where that is not known.
        advice: what to do about unknown categories, for messages.

    Returns:
        Id to label, ``None`` where its annotations are dropped.

    Raises:
        ValueError: if classes repeat, the map leads nowhere, a category is unknown and that is
            an error, or no category at all is among the classes.
    """
    label_of_name = {class_key(name): label for label, name in enumerate(classes)}
    if len(label_of_name) != len(classes):
        raise ValueError(f'{where}: classes must be unique (case aside), got {tuple(classes)}')
    lost = {v for v in category_map.values() if v is not None and class_key(v) not in label_of_name}
    if lost:
        raise ValueError(
            f'{where}: category_map leads to {sorted(lost)}, which are not among the classes '
            f'{tuple(classes)}'
        )
    mapped = {class_key(name): goal for name, goal in category_map.items()}
    labels: dict[int, int | None] = {}
    strange = []
    for key, name in categories.items():
        goal = mapped.get(class_key(name), name)
        labels[key] = None if goal is None else label_of_name.get(class_key(goal))
        is_used = used is None or key in used
        if goal is not None and labels[key] is None and is_used:
            strange.append(name)
    if strange and unknown == 'error':
        near = difflib.get_close_matches(class_key(strange[0]), list(label_of_name), 1)
        hint = f' (did you mean {near[0]!r} for {strange[0]!r}?)' if near else ''
        raise ValueError(
            f'{where}: categories {strange} are not among the classes {tuple(classes)}{hint}; '
            f'{advice}'
        )
    if categories and all(label is None for label in labels.values()):
        raise ValueError(
            f'{where}: none of its categories {list(categories.values())} is among the classes '
            f'{tuple(classes)}'
        )
    return labels


def class_palette(num_classes: int) -> list[tuple[int, int, int]]:
    """One distinct RGB colour a class, the same for the same index in every data set."""
    golden = 0.618033988749895
    colours = []
    for index in range(num_classes):
        hue, value = index * golden % 1, (1.0, 0.8)[index % 2]
        red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, value)
        colours.append((round(255 * red), round(255 * green), round(255 * blue)))
    return colours
