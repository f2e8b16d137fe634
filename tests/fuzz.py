"""Broken files without end: json of all layouts, mended and mutated, run-lengths, text formats.

``python -m tests.fuzz --minutes 10 --save tests/data/fuzz`` goes on for so long and keeps what
ends in anything but a clean error. A short round of it runs with the tests (``test_fuzz.py``).
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mmboxvis.datasets.checking import check_dataset
from mmboxvis.datasets.importers import READERS, ReadOptions, to_ytvis
from mmboxvis.datasets.json_stream import read_annotation_file
from mmboxvis.datasets.video_json import VideoJsonReader, read_json
from mmboxvis.evaluation import check_submission
from mmboxvis.evaluation.functional import evaluate_vis, read_ground_truth
from mmboxvis.run_lengths import decode, run_totals

SECONDS = 20
"""Time after which a reader counts as hanging; far more than any of them needs here."""

ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2, 0.5, -0.0, 1e308, float('nan'), float('inf'), 10**30, -(10**9),
    '', ' ', '1', 'a/b', '../x', '/x', 'x\0y', 'é', 'walk', [], [[]], {}, [None], [1, 2, 3, 4],
    [0, 0, 5, 5], [0, 0, -5, 5], dict(size=[8, 10], counts='P2'), dict(size=[8, 10], counts=[80]),
    [[1, 1, 5, 1, 5, 5]], [[1e9, 1, 5, 1, 5, 5]], dict(size=[8, 10], counts='5M3;0'), 'n' * 300,
]  # fmt: skip

RLE = dict(size=[8, 10], counts='b05K00N2')
YTVIS: dict[str, Any] = dict(
    videos=[
        dict(id=1, name='walk', width=10, height=8, length=2,
             file_names=['walk/0.jpg', 'walk/1.jpg']),
        dict(id=2, name='run', width=10, height=8, file_names=['run/0.jpg']),
    ],
    categories=[dict(id=1, name='cat'), dict(id=5, name='dog')],
    annotations=[
        dict(id=1, video_id=1, category_id=1, iscrowd=0, bboxes=[[1, 1, 4, 4], None],
             segmentations=[dict(size=[8, 10], counts=[20, 60]), None], areas=[60, None],
             occlusion=['no_occlusion', None]),
        dict(id=2, video_id=2, category_id=5, bboxes=[[0, 0, 10, 8]],
             segmentations=[[[1, 1, 5, 1, 5, 5]]]),
    ],
)  # fmt: skip
RESULTS: list[Any] = [
    dict(video_id=1, category_id=1, score=0.5, bboxes=[[1, 1, 4, 4], None],
         segmentations=[dict(size=[8, 10], counts='d0L2'), None]),
]  # fmt: skip
COCO_VID: dict[str, Any] = dict(
    categories=[dict(id=1, name='cat')],
    videos=[dict(id=1, name='v')],
    images=[dict(id=1, video_id=1, frame_id=0, file_name='v/a.jpg', width=9, height=9)],
    annotations=[dict(id=1, image_id=1, video_id=1, category_id=1, instance_id=1,
                      bbox=[0, 0, 4, 4])],
)  # fmt: skip
COCO: dict[str, Any] = dict(
    categories=[dict(id=1, name='cat')],
    images=[dict(id=1, file_name='v/0.jpg', width=9, height=9),
            dict(id=2, file_name='v_1.jpg', video_id=None, frame_id=None)],
    annotations=[dict(id=1, image_id=1, category_id=1, bbox=[0, 0, 4, 4],
                      attributes=dict(track_id=1), segmentation=[[0, 0, 4, 0, 4, 4]])],
)  # fmt: skip
BDD: list[Any] = [
    dict(name='a.jpg', videoName='v', frameIndex=0,
         labels=[dict(id='1', category='car', box2d=dict(x1=1, y1=1, x2=4, y2=4),
                      attributes=dict(occluded=True), poly2d=[dict(vertices=[[1, 1], [4, 1]])])]),
]  # fmt: skip
LABELME: dict[str, Any] = dict(
    imagePath='a.jpg', imageHeight=9, imageWidth=9,
    shapes=[dict(label='cat', group_id=1, shape_type='rectangle', points=[[1, 1], [4, 4]])],
)  # fmt: skip
STUDIO: list[Any] = [
    dict(id=1, data=dict(video='/data/v.mp4'), annotations=[dict(result=[dict(
        id='a', type='videorectangle', original_width=9, original_height=9,
        value=dict(framesCount=2, labels=['cat'], sequence=[
            dict(frame=1, x=1, y=1, width=5, height=5, enabled=True, rotation=0, time=0)]))])]),
]  # fmt: skip
CVAT = """<annotations><meta><task><name>v</name><size>3</size><original_size><width>10</width>
<height>8</height></original_size></task></meta><track id="0" label="cat"><box frame="0" xtl="1"
ytl="1" xbr="4" ybr="4" outside="0" occluded="0" keyframe="1"/></track></annotations>"""
CVAT_IMAGES = """<annotations><image id="0" name="v/a.jpg" width="9" height="9"><box label="cat"
xtl="1" ytl="1" xbr="4" ybr="4" occluded="0"/></image></annotations>"""
TEXTS = dict(
    mot='1,1,0,0,4,4,1,1,1\n2,1,1,1,4,4,1,1,0.5\n',
    kitti='0 1 Car 0 0 0 1 1 4 4 1 1 1 1 1 1 1\n',
    masks='0 1001 1 8 10 d0L2\n',
)
JSONS: dict[str, Any] = {
    'coco-vid': COCO_VID, 'coco': COCO, 'bdd-mot': BDD, 'label-studio': STUDIO, 'labelme': LABELME,
    'ytvis': YTVIS,
}  # fmt: skip
XMLS = {'cvat-video': CVAT, 'cvat-images': CVAT_IMAGES}
CLEAN = (ValueError, OSError)
"""What a reader may raise; AnnotationError is a ValueError."""


def mutate(rng: random.Random, content: Any) -> Any:
    """A copy with one to three places changed, removed, doubled or given to another."""
    content = copy.deepcopy(content)
    for _ in range(rng.randint(1, 3)):
        places = list(_places(content))
        if not places:
            return rng.choice(ODD)
        owner, key = rng.choice(places)
        change = rng.random()
        if change < 0.55:
            owner[key] = copy.deepcopy(rng.choice(ODD))
        elif change < 0.7:
            del owner[key]
        elif change < 0.8 and isinstance(owner, list):
            owner.append(copy.deepcopy(owner[key]))
        elif change < 0.9:
            other, place = rng.choice(places)
            if place in other if isinstance(other, dict) else place < len(other):
                owner[key] = copy.deepcopy(other[place])
        elif isinstance(owner[key], str) and owner[key]:
            owner[key] = mutate_text(rng, owner[key])
    return content


def _places(content: Any) -> Any:
    if isinstance(content, dict | list):
        for key in list(content) if isinstance(content, dict) else range(len(content)):
            yield content, key
            yield from _places(content[key])


def mutate_text(rng: random.Random, text: str) -> str:
    """A text with some characters changed, doubled or cut off."""
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(text) + 1)
        kind = rng.random()
        if kind < 0.4:
            text = (
                text[:place] + chr(rng.choice([*range(32, 127), 0, 9, 10, 233])) + text[place + 1 :]
            )
        elif kind < 0.6:
            text = (
                text[:place]
                + rng.choice(['-1', '9' * 30, 'nan', '1e999', '', '\n', '"'])
                + text[place:]
            )
        elif kind < 0.8:
            end = min(len(text), place + rng.randint(1, 20))
            text = text[:place] + text[end:]
        else:
            text = text[:place]
    return text


# ------------------------------------------------------------------ what is tried


def read_everything(path: Path) -> None:
    """An annotation file, by all readers of its layout."""
    report = check_dataset(path, mask_totals=lambda s: (run_totals(s).intact, run_totals(s).pixels))
    read_annotation_file(path)
    problems: list[Exception] = []
    for source in ('box', 'mask'):
        try:
            reader = VideoJsonReader(str(path), read_json(path), box_source=source)  # type: ignore
            labels = {key: index for index, key in enumerate(reader.categories())}
            videos = [
                dict(v, width=v['width'] or 9, height=v['height'] or 9) for v in reader.videos()
            ]
            for instances in reader.instances(videos, labels).values():
                assert np.isfinite(instances.boxes).all()
        except CLEAN as error:
            problems.append(error)
            if source == 'box':
                assert report.errors, f'refused in training, but the checker is content: {error}'
    try:
        truth = read_ground_truth(path)
        evaluate_vis(path, [])
        check_submission([], truth)
    except CLEAN as error:
        problems.append(error)
    for problem in problems:
        raise problem


def import_file(name: str, path: Path) -> None:
    """A file of another format."""
    if name in XMLS:  # their masks are optional in each shape
        to_ytvis(READERS[name].read(path, ReadOptions(size=(10, 8), keep_masks=True)))
    to_ytvis(READERS[name].read(path, ReadOptions(size=(10, 8))), keep_masks=True)


def score(path: Path) -> None:
    """A result file."""
    check_submission(path, YTVIS)
    for kind in ('segm', 'box'):
        evaluate_vis(YTVIS, str(path), iou_type=kind)  # type: ignore[arg-type]


def decode_one(path: Path) -> None:
    """One mask."""
    decode(json.loads(path.read_text()), (8, 10))


READ: dict[str, tuple[Callable[[Path], None], Any]] = {
    'annotations': (read_everything, YTVIS),
    'results': (score, RESULTS),
    'mask': (decode_one, RLE),
    **{name: ((lambda p, n=name: import_file(n, p)), seed) for name, seed in JSONS.items()},
    **{name: ((lambda p, n=name: import_file(n, p)), text)
       for name, text in {**XMLS, **TEXTS}.items()},
}  # fmt: skip


def suffix(kind: str) -> str:
    """The end of a file's name, by which some readers choose."""
    return '.xml' if kind in XMLS else '.txt' if kind in TEXTS else '.json'


def draw(rng: random.Random, kind: str) -> bytes:
    """A file that is broken in some way, or not."""
    seed = READ[kind][1]
    if isinstance(seed, str):
        return mutate_text(rng, seed).encode()
    text = json.dumps(mutate(rng, seed))
    if rng.random() < 0.1:
        text = mutate_text(rng, text)
    data = text.encode('utf-8', 'surrogatepass')
    if rng.random() < 0.03:
        data = rng.choice([b'\xef\xbb\xbf' + data, b'\xff' + data, data[: len(data) // 2], b''])
    return data


def try_file(kind: str, path: Path) -> str | None:
    """What went wrong beyond a clean error, if anything: a traceback, or a hang."""

    def hang(*_: Any) -> None:
        raise TimeoutError('hangs')

    previous = signal.signal(signal.SIGALRM, hang)
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            READ[kind][0](path)
    except TimeoutError:
        return traceback.format_exc()
    except CLEAN as error:
        return None if str(error).strip() else traceback.format_exc()
    except Exception:
        return traceback.format_exc()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    return None


def fuzz(seconds: float, seed: int, save: Path | None = None) -> tuple[int, list[str]]:
    """Tries files for some time; returns how many, and what went wrong, once a place."""
    rng, count = random.Random(seed), 0
    found: dict[str, str] = {}
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end:
            kind = rng.choice(list(READ))
            path = Path(folder, f'broken{suffix(kind)}')
            path.write_bytes(draw(rng, kind))
            count += 1
            trouble = try_file(kind, path)
            if trouble is None:
                continue
            lines = [line for line in trouble.splitlines() if line.strip()]
            place = f'{kind} {lines[-3:-2]} {lines[-1][:30]}'
            if place not in found:
                found[place] = f'{kind}: {path.read_bytes()[:2000]!r}\n{trouble}'
                if save is not None:
                    save.mkdir(parents=True, exist_ok=True)
                    number = len(list(save.glob(f'{kind}_*')))
                    (save / f'{kind}_{number:02d}{suffix(kind)}').write_bytes(path.read_bytes())
    return count, list(found.values())


def main() -> None:
    """Fuzzes and prints what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--minutes', type=float, default=10)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--save', type=Path, help='folder that takes what is found')
    args = parser.parse_args()
    count, found = fuzz(args.minutes * 60, args.seed, args.save)
    print('\n\n'.join(found))
    print(f'{count} files, {len(found)} faults')


if __name__ == '__main__':
    main()
