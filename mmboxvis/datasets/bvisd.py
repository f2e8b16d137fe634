"""BVISD: YouTube-VIS 2021, OVIS and COCO under one list of 40 classes."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmengine.dataset import ConcatDataset

from mmboxvis.registry import DATASETS

from .categories import BVISD_CLASSES, Source, bvisd_category_map, to_bvisd
from .coco_clip import CocoClips
from .ovis import OVIS
from .ytvis import YouTubeVIS

_MAX_VALID_FRAMES = 100


@DATASETS.register_module()
class BVISD(ConcatDataset):
    """The mixed training set of the paper (Sec. 3.3), in the order YouTube-VIS 2021, OVIS, COCO.

    Draw from it with ``MixedSampler(weights=[2, 1, 1])``, one weight for each part that is given.

    Args:
        ytvis: arguments of :class:`~.ytvis.YouTubeVIS` without classes; ``None`` leaves it out.
            ``version`` may be another than 2021, to test there.
        ovis: arguments of :class:`~.ovis.OVIS`.
        coco: arguments of :class:`~.coco_clip.CocoClips`.
        released_mapping: send COCO's trucks to turtle, as the released program does by mistake.
        lazy_init: do not load the files yet.

    Raises:
        ValueError: if no part is given.
    """

    METAINFO: dict = dict(classes=BVISD_CLASSES)

    def __init__(
        self,
        *,
        ytvis: Mapping[str, Any] | None = None,
        ovis: Mapping[str, Any] | None = None,
        coco: Mapping[str, Any] | None = None,
        released_mapping: bool = False,
        lazy_init: bool = False,
    ) -> None:
        is_old = ytvis is not None and ytvis.get('version') == '2019'
        makers: list[tuple[Callable[..., Any], Source, Mapping[str, Any] | None]] = [
            (YouTubeVIS, 'ytvis19' if is_old else 'ytvis21', ytvis),
            (OVIS, 'ovis', ovis),
            (CocoClips, 'coco', coco),
        ]
        parts = [
            make(
                **dict(arguments),
                classes=BVISD_CLASSES,
                category_map=bvisd_category_map(source, released_mapping=released_mapping),
                lazy_init=lazy_init,
            )
            for make, source, arguments in makers
            if arguments is not None
        ]
        if not parts:
            raise ValueError('BVISD needs at least one of ytvis, ovis and coco')
        super().__init__(parts, lazy_init=lazy_init)

    def full_init(self) -> None:
        """Loads the parts, and takes over what they learn from their files, such as category ids.

        Raises:
            ValueError: if the parts differ in it, as test sets do: test one at a time.
        """
        if self._fully_initialized:
            return
        for part in self.datasets:
            part.full_init()
        # the base class looks at what the parts know when it is made, which may be too early
        first, *others = (part.metainfo for part in self.datasets)
        if any(other != first for other in others):
            raise ValueError(f'the parts do not agree in their meta information: {first}, {others}')
        self._metainfo = first
        super().full_init()


def split_training_json(
    content: Mapping[str, Any], *, double_quota: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Cuts an annotated training file into ``train_sub`` and ``valid_sub`` (released program).

    Each of C categories may give floor(2 floor(0.1 V) / C) of the V videos to validation.
    Annotations are walked in file order; a video is assigned at its first one, to validation if
    the count of that category has not passed the quota and the video has at most 100 frames. Each
    annotation of a validation video then raises the count of its own category.

    Args:
        content: loaded json in YouTube-VIS layout; not changed.
        double_quota: doubled quota, for OVIS.

    Returns:
        The training and the validation part; videos without annotations are in neither.
    """
    videos = {video['id']: video for video in content['videos']}
    quota = 2 * (len(videos) // 10) // len(content['categories'])
    quota *= 2 if double_quota else 1
    count: Counter[int] = Counter()
    in_valid: dict[int, bool] = {}
    for annotation in content['annotations']:
        video, category = annotation['video_id'], annotation['category_id']
        if video not in in_valid:
            short = len(videos[video]['file_names']) <= _MAX_VALID_FRAMES
            in_valid[video] = short and count[category] <= quota
        if in_valid[video]:
            count[category] += 1
    train, valid = (
        dict(
            content,
            videos=[v for v in content['videos'] if in_valid.get(v['id']) is wanted],
            annotations=[a for a in content['annotations'] if in_valid[a['video_id']] is wanted],
        )
        for wanted in (False, True)
    )
    return train, valid


def bvisd_categories() -> list[dict[str, Any]]:
    """The 40 categories as annotation files list them."""
    return [dict(id=i, name=name) for i, name in enumerate(BVISD_CLASSES, start=1)]


def merge_into_bvisd(
    parts: Sequence[tuple[Source, Mapping[str, Any], str]],
    *,
    first_video_id: int = 1,
    first_annotation_id: int = 1,
) -> dict[str, Any]:
    """Joins annotation files into one with BVISD's categories.

    Videos and annotations are numbered anew, so ids of different parts cannot collide.
    Annotations without a BVISD class are left out.

    Args:
        parts: data set, loaded json in YouTube-VIS layout, and the folder that its
            ``file_names`` are to be prefixed with.
        first_video_id: where the numbers of the videos begin.
        first_annotation_id: where those of the annotations begin.

    Returns:
        A json in YouTube-VIS layout.
    """
    videos: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    numbers = itertools.count(first_annotation_id)
    for source, content, folder in parts:
        forward = to_bvisd(source)
        new_id: dict[int, int] = {}
        for video in content['videos']:
            new_id[video['id']] = len(videos) + first_video_id
            names = [f'{folder}/{name}' if folder else name for name in video['file_names']]
            videos.append(dict(video, id=new_id[video['id']], file_names=names))
        annotations += [
            dict(
                annotation,
                id=next(numbers),
                video_id=new_id[annotation['video_id']],
                category_id=forward[annotation['category_id']],
            )
            for annotation in content.get('annotations') or []
            if annotation['category_id'] in forward
        ]
    return dict(videos=videos, categories=bvisd_categories(), annotations=annotations)
