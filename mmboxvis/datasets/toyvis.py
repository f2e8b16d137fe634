"""ToyVIS: a small, seeded data set of drawn videos, made on the spot.

It needs no download and no licence, takes seconds to write, and has everything a real set has:
several objects at once, occlusion, objects that leave and return, changing light. Its training
file holds boxes only.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from pycocotools import mask as mask_utils

from mmboxvis.registry import DATASETS

from .box_video import BoxVideo
from .toyvis_scene import CLASSES, Difficulty, Scene

_VERSION = 2  # goes up whenever the drawn frames change
_JPEG_QUALITY = 95
_SPLITS = ('train', 'val')


def generate_toyvis(
    out_dir: str | os.PathLike[str],
    *,
    num_train: int = 40,
    num_val: int = 10,
    seed: int = 0,
    size: tuple[int, int] = (128, 192),
    difficulty: Difficulty = 'easy',
    num_workers: int = 0,
    overwrite: bool = False,
) -> Path:
    """Writes ToyVIS to ``out_dir``; does nothing where the same settings are already there.

    Layout of each of ``train`` and ``val``::

        JPEGImages/<video>/00000.jpg ...
        boxes.json       YouTube-VIS layout with ``bboxes`` and no masks: what training reads
        instances.json   the same with ``segmentations``, ``areas`` and ``occlusion``

    Boxes and masks are of the visible part. Each video has its own random stream, drawn from
    ``(seed, split, index)``: the frames do not depend on ``num_workers`` nor on how many videos
    there are. The set is written aside and moved into place, so it is there whole or not at all,
    also when several processes write it at once.

    Args:
        out_dir: folder to write; must be absent, empty, or hold ToyVIS.
        num_train: training videos.
        num_val: validation videos.
        seed: any non-negative integer.
        size: (height, width) of the frames in pixels, each at least 32.
        difficulty: ``'easy'`` or ``'hard'``, see :class:`~.toyvis_scene.Scene`.
        num_workers: processes that draw; 0 draws in this one.
        overwrite: replace a ToyVIS made with other settings instead of refusing.

    Returns:
        ``out_dir`` as a path.

    Raises:
        FileExistsError: if ``out_dir`` holds something else, or ToyVIS made with other settings
            and ``overwrite`` is off.
        ValueError: if a setting is out of range.
    """
    settings = dict(
        version=_VERSION,
        num_train=num_train,
        num_val=num_val,
        seed=seed,
        size=list(size),
        difficulty=difficulty,
    )
    if min(size) < 32 or min(num_train, num_val, seed) < 0:
        raise ValueError(f'ToyVIS settings out of range: {settings}')
    out = Path(out_dir)
    if _is_done(out, settings, overwrite=overwrite):
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.parent / f'.{out.name}.{uuid.uuid4().hex}'
    try:
        for split, count in zip(_SPLITS, (num_train, num_val), strict=True):
            _write_split(draft / split, split, count, settings, num_workers)
        (draft / 'manifest.json').write_text(json.dumps(settings, indent=1))
        _move_into_place(draft, out, settings, overwrite=overwrite)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return out


def _is_done(out: Path, settings: dict[str, Any], *, overwrite: bool) -> bool:
    """Whether ``out`` holds what is asked for; raises where it holds something else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    manifest = out / 'manifest.json'
    if not manifest.is_file():
        raise FileExistsError(f'{out} exists and is not ToyVIS; choose another folder')
    found = json.loads(manifest.read_text())
    if found == settings:
        return True
    if not overwrite:
        raise FileExistsError(
            f'{out} holds ToyVIS made with {found}, asked for {settings}; choose another folder '
            'or replace it: overwrite=True, --overwrite of make_toyvis.py'
        )
    return False


def _move_into_place(draft: Path, out: Path, settings: dict[str, Any], *, overwrite: bool) -> None:
    if out.exists():
        aside = draft / 'replaced'  # goes away together with the draft
        if any(out.iterdir()):
            if _is_done(out, settings, overwrite=overwrite):
                return
            new = draft.with_name(f'{draft.name}.new')
            draft.rename(new)
            draft.mkdir()
            out.rename(aside)
            new.rename(out)
            return
    try:
        draft.rename(out)
    except OSError:
        # another process was faster; fine if it wrote the same
        if not _is_done(out, settings, overwrite=False):
            raise


def _write_split(
    folder: Path, split: str, count: int, settings: dict[str, Any], num_workers: int
) -> None:
    jobs = [(str(folder), split, index, settings) for index in range(count)]
    if num_workers > 0:
        with ProcessPoolExecutor(num_workers) as pool:
            videos = list(pool.map(_write_video, *zip(*jobs, strict=True)))
    else:
        videos = [_write_video(*job) for job in jobs]
    annotations = [dict(annotation) for _, found in videos for annotation in found]
    for number, annotation in enumerate(annotations, start=1):
        annotation['id'] = number
    content = dict(
        info=dict(description=f'ToyVIS {split}', settings=settings),
        videos=[video for video, _ in videos],
        categories=[dict(id=label + 1, name=name) for label, name in enumerate(CLASSES)],
    )
    only_boxes = [
        {key: value for key, value in annotation.items() if key not in _MASK_KEYS}
        for annotation in annotations
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for name, entries in (('boxes', only_boxes), ('instances', annotations)):
        (folder / f'{name}.json').write_text(json.dumps(dict(content, annotations=entries)))


_MASK_KEYS = ('segmentations', 'areas', 'occlusion')


def _write_video(
    folder: str, split: str, index: int, settings: dict[str, Any]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Draws one video, writes its frames, and returns its json entry and its annotations'."""
    height, width = settings['size']
    scene = Scene(
        np.random.default_rng([settings['seed'], _SPLITS.index(split), index]),
        size=(height, width),
        first_label=index % len(CLASSES),
        difficulty=settings['difficulty'],
    )
    name = f'{split}_{index:04d}'
    images = Path(folder, 'JPEGImages', name)
    images.mkdir(parents=True)
    frames = []
    for number, frame in enumerate(scene.frames()):
        path = str(images / f'{number:05d}.jpg')
        if not cv2.imwrite(path, frame.image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]):
            raise OSError(f'could not write {path}')
        frames.append((frame.masks, frame.visible_share))
    size = dict(width=width, height=height, length=scene.num_frames)
    names = [f'{name}/{number:05d}.jpg' for number in range(scene.num_frames)]
    video = dict(id=index + 1, name=name, **size, file_names=names)
    annotations = []
    for number, item in enumerate(scene.objects):
        columns = _annotate([masks[number] for masks, _ in frames], [s[number] for _, s in frames])
        if any(box is not None for box in columns['bboxes']):
            head = dict(id=0, video_id=index + 1, category_id=item.label + 1, iscrowd=0)
            annotations.append(dict(head, **size, **columns))
    return video, annotations


def _annotate(masks: list[np.ndarray], shares: list[float]) -> dict[str, list[Any]]:
    """One object's per-frame lists, ``None`` where it is not seen."""
    columns: dict[str, list[Any]] = dict(bboxes=[], segmentations=[], areas=[], occlusion=[])
    for mask, share in zip(masks, shares, strict=True):
        if not mask.any():
            for column in columns.values():
                column.append(None)
            continue
        rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        x, y = int(cols[0]), int(rows[0])
        columns['bboxes'].append([x, y, int(cols[-1]) + 1 - x, int(rows[-1]) + 1 - y])
        rle = mask_utils.encode(np.asfortranarray(mask.astype(np.uint8)))
        columns['segmentations'].append(dict(size=list(rle['size']), counts=rle['counts'].decode()))
        columns['areas'].append(int(mask.sum()))
        level = 'no' if share > 0.95 else 'slight' if share > 0.5 else 'severe'
        columns['occlusion'].append(f'{level}_occlusion')
    return columns


@DATASETS.register_module()
class ToyVIS(BoxVideo):
    """One split of ToyVIS, drawn first where it is not there yet.

    Args:
        data_root: folder of the set.
        split: ``'train'`` or ``'val'``.
        ann_file: ``boxes.json`` by default; ``instances.json`` where masks are wanted.
        generate: settings of :func:`generate_toyvis`; ``None`` expects the set to be there.
        **kwargs: see :class:`~.box_video.BoxVideo`.
    """

    METAINFO: dict = dict(classes=CLASSES)

    def __init__(
        self,
        data_root: str = 'data/toyvis',
        *,
        split: Literal['train', 'val'] = 'train',
        ann_file: str = 'boxes.json',
        generate: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if split not in _SPLITS:
            raise ValueError(f'split must be one of {_SPLITS}, got {split!r}')
        if generate is not None:
            generate_toyvis(data_root, **generate)
        super().__init__(
            os.path.join(split, ann_file),
            img_root=os.path.join(split, 'JPEGImages'),
            data_root=data_root,
            **kwargs,
        )
