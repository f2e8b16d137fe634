from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree as ET

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from PIL import Image
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO

from mmboxvis.apis import BoxesToMasks, VideoSegmenter
from mmboxvis.apis.boxes_to_masks import _scaled, doubtful_frames, score_masks, true_masks
from mmboxvis.apis.mask_exports import (
    mask_polygons,
    to_coco,
    write_cvat_images,
    write_cvat_videos,
)
from mmboxvis.apis.official import save_whole
from mmboxvis.datasets import AnnotationError, VideoFrames
from mmboxvis.files import ImageRoot, StrPath
from mmboxvis.models.task_modules import AffinityRefinement, ColorModelRefinement
from mmboxvis.models.task_modules.refinement import Refinement
from mmboxvis.models.vis import BoxVIS
from tests.models.tiny import NUM_QUERIES, SIZE, criterion_cfg, make_boxvis, make_clip, network_cfg
from tests.reference.boxes_to_masks import masks_in_boxes

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ('person', 'bird', 'camel', 'car')
Boxes = list[list[list[float] | None]]


@pytest.fixture(scope='module')
def model() -> BoxVIS:
    torch.manual_seed(0)
    return make_boxvis(pseudo_masks=None).eval()


@pytest.fixture(scope='module')
def segmenter(model: BoxVIS) -> VideoSegmenter:
    pipeline = [dict(type='Resize', scale=SIZE[::-1], keep_ratio=True)]
    return VideoSegmenter.from_model(model, pipeline=pipeline, classes=CLASSES)


def arrays(num_frames: int) -> list[np.ndarray]:
    """BGR frames of :func:`make_clip`, whose frames are RGB here."""
    rgb = make_clip(num_frames)
    return [np.ascontiguousarray(frame.permute(1, 2, 0).numpy()[..., ::-1]) for frame in rgb]


def run(
    annotator: BoxesToMasks, frames: list[np.ndarray], labels: list[int], boxes: Boxes
) -> tuple[list[list[Any]], np.ndarray]:
    filled = torch.zeros(len(labels), len(frames), 4)
    for i, track in enumerate(boxes):
        for t, box in enumerate(track):
            if box is not None:
                filled[i, t] = torch.tensor(box)
    return annotator.video(VideoFrames(frames), torch.tensor(labels).long(), filled)


def track(num_frames: int, x: int, y: int, missing: tuple[int, ...] = ()) -> list[Any]:
    return [None if t in missing else [x + t, y, x + 30 + t, y + 40] for t in range(num_frames)]


@pytest.fixture
def dataset(tmp_path: Path) -> tuple[Path, Path]:
    """Two videos of 4 and 2 frames: an annotation file and its images."""
    videos, annotations = [], []
    for video, length in ((1, 4), (5, 2)):
        names = [f'v{video}/{t:03d}.png' for t in range(length)]
        for name, frame in zip(names, arrays(length), strict=True):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / name), frame)
        videos.append(dict(id=video, name=f'v{video}', file_names=names))
        for number, (x, y) in enumerate([(4, 6), (50, 12)]):
            boxes = [[x + t, y, 30, 40] for t in range(length)]
            annotations.append(
                dict(
                    id=10 * video + number,
                    video_id=video,
                    category_id=2 + number,
                    bboxes=[None if number and t == 1 else box for t, box in enumerate(boxes)],
                )
            )
    categories = [dict(id=2, name='bird'), dict(id=3, name='person')]
    content = dict(info='x', videos=videos, categories=categories, annotations=annotations)
    path = tmp_path / 'boxes.json'
    path.write_text(json.dumps(content))
    return path, tmp_path


def annotated(segmenter: VideoSegmenter, dataset: tuple[Path, StrPath]) -> dict[str, Any]:
    annotator = BoxesToMasks(segmenter)
    boxes = annotator.read(*dataset)
    return boxes.with_masks(annotator.annotate(boxes))


REFINEMENTS: list[list[Refinement]] = [
    [],
    [AffinityRefinement(num_steps=5, theta=50)],
    [ColorModelRefinement(), AffinityRefinement(num_steps=5, theta=50)],
]


@pytest.mark.parametrize(('old', 'new'), [(720, 384), (640, 384), (1080, 448), (480, 512)])
def test_edges_that_fall_between_pixels_stay_there(old: int, new: int) -> None:
    edges = torch.arange(old + 1)
    scaled = _scaled(edges.float()[:, None].expand(-1, 4), (old, old), (new, new))
    assert scaled.dtype == torch.float32
    assert torch.equal(scaled.floor(), (edges * new // old).float()[:, None].expand(-1, 4))
    assert torch.equal(scaled.ceil(), -(-edges * new // old).float()[:, None].expand(-1, 4))


class TestVideo:
    def test_no_object(self, segmenter: VideoSegmenter) -> None:
        segmentations, confidences = run(BoxesToMasks(segmenter), arrays(3), [], [])
        assert segmentations == []
        assert confidences.shape == (0, 3)

    def test_object_without_any_box(self, segmenter: VideoSegmenter) -> None:
        segmentations, confidences = run(BoxesToMasks(segmenter), arrays(3), [1], [[None] * 3])
        assert segmentations == [[None] * 3]
        assert np.isnan(confidences).all()

    @pytest.mark.parametrize('refinements', REFINEMENTS)
    @pytest.mark.parametrize('num_frames', [1, 2, 3, 6])
    def test_agrees_with_the_plain_way(
        self,
        model: BoxVIS,
        segmenter: VideoSegmenter,
        num_frames: int,
        refinements: list[Refinement],
    ) -> None:
        labels = [1, 0, 3]
        boxes = [
            track(num_frames, 4, 6),
            track(num_frames, 50, 12, missing=(1, 2)),
            track(num_frames, 20, 20, missing=(0,)),
        ]
        frames_rgb = make_clip(num_frames).float()
        masks, wanted = masks_in_boxes(model, frames_rgb, labels, boxes, refinements=refinements)
        annotator = BoxesToMasks(segmenter, refinements=refinements)
        segmentations, confidences = run(annotator, arrays(num_frames), labels, boxes)
        for i in range(3):
            for t in range(num_frames):
                rle = segmentations[i][t]
                if boxes[i][t] is None:
                    assert rle is None
                    assert np.isnan(confidences[i, t])
                elif rle is None:
                    assert not masks[i, t].any()
                    assert confidences[i, t] == 0
                else:
                    mask = torch.from_numpy(mask_utils.decode(rle)).bool()
                    # float32 sums in another order: a pixel on the very edge may differ
                    assert int((mask ^ masks[i, t]).sum()) <= 1
                    assert confidences[i, t] == pytest.approx(wanted[i, t], abs=1e-5)

    def test_masks_stay_in_their_boxes(self, segmenter: VideoSegmenter) -> None:
        boxes = [track(5, 10, 8)]
        segmentations, _ = run(BoxesToMasks(segmenter), arrays(5), [2], boxes)
        found = 0
        for box, rle in zip(boxes[0], segmentations[0], strict=True):
            if rle is not None:
                x, y, width, height = mask_utils.toBbox(rle)
                assert x >= box[0]
                assert y >= box[1]
                assert x + width <= box[2]
                assert y + height <= box[3]
                found += 1
        assert found

    def test_more_objects_than_queries(self, segmenter: VideoSegmenter) -> None:
        num = NUM_QUERIES + 2
        boxes = [track(3, 2 + 4 * i, 5) for i in range(num)]
        segmentations, confidences = run(BoxesToMasks(segmenter), arrays(3), [1] * num, boxes)
        assert len(segmentations) == num
        assert ((confidences >= 0) & (confidences <= 1)).all()
        assert sum(any(masks) for masks in segmentations) <= NUM_QUERIES

    def test_black_frames(self, segmenter: VideoSegmenter) -> None:
        frames = [np.zeros((*SIZE, 3), np.uint8)] * 3
        _, confidences = run(BoxesToMasks(segmenter), frames, [1], [track(3, 4, 6)])
        assert np.isfinite(confidences).all()

    def test_class_agnostic_needs_no_known_class(self, segmenter: VideoSegmenter) -> None:
        annotator = BoxesToMasks(segmenter, class_agnostic=True)
        _, confidences = run(annotator, arrays(3), [0], [track(3, 4, 6)])
        assert ((confidences > 0) & (confidences <= 1)).all()
        _, by_class = run(BoxesToMasks(segmenter), arrays(3), [2], [track(3, 4, 6)])
        # all classes together are likelier than any one
        assert confidences.mean() > by_class.mean()


class TestDataSet:
    def test_json_with_masks(self, segmenter: VideoSegmenter, dataset: tuple[Path, Path]) -> None:
        before = json.loads(dataset[0].read_text())
        content = annotated(segmenter, dataset)
        json.dumps(content)
        assert content['info'] == 'x'
        assert [video['length'] for video in content['videos']] == [4, 2]
        assert {(v['height'], v['width']) for v in content['videos']} == {SIZE}
        for entry, old in zip(content['annotations'], before['annotations'], strict=True):
            assert {key: entry[key] for key in old} == old
            for name in ('segmentations', 'areas', 'confidences'):
                assert len(entry[name]) == len(old['bboxes'])
            for box, rle, area, confidence in zip(
                entry['bboxes'], entry['segmentations'], entry['areas'], entry['confidences']
            ):
                assert (confidence is None) == (box is None)
                assert (rle is None) == (area is None)
                if rle is not None:
                    assert area == mask_utils.area(rle) > 0
        assert json.loads(dataset[0].read_text()) == before

    def test_crowds_are_left_alone(
        self, segmenter: VideoSegmenter, dataset: tuple[Path, Path]
    ) -> None:
        content = json.loads(dataset[0].read_text())
        content['annotations'][0]['iscrowd'] = 1
        dataset[0].write_text(json.dumps(content))
        entry = annotated(segmenter, dataset)['annotations'][0]
        assert entry['segmentations'] == [None] * 4
        assert entry['score'] == 0

    @pytest.mark.parametrize('name', ['../x.png', '/etc/x.png'])
    def test_paths_do_not_leave_the_folder(
        self, segmenter: VideoSegmenter, dataset: tuple[Path, Path], name: str
    ) -> None:
        content = json.loads(dataset[0].read_text())
        content['videos'][0]['file_names'][2] = name
        dataset[0].write_text(json.dumps(content))
        with pytest.raises(AnnotationError, match='leads out of the image folder'):
            BoxesToMasks(segmenter).read(*dataset)

    def test_only_links_that_are_named_are_followed(
        self, segmenter: VideoSegmenter, dataset: tuple[Path, Path]
    ) -> None:
        path, root = dataset
        (root / 'v5').rename(root / 'elsewhere')
        (root / 'images').mkdir()
        for name, target in (('v1', 'v1'), ('v5', 'elsewhere')):
            (root / 'images' / name).symlink_to(root / target)
        found = annotated(segmenter, (path, ImageRoot(root / 'images', ['v1', 'v5'])))
        assert len(found['annotations']) == 4
        with pytest.raises(AnnotationError, match=r'v5/000\.png goes through a link'):
            annotated(segmenter, (path, ImageRoot(root / 'images', ['v1'])))

    def test_turned_images(self, segmenter: VideoSegmenter, dataset: tuple[Path, Path]) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        for path in dataset[1].glob('v*/*.png'):
            Image.open(path).save(path, exif=exif)
        boxes = BoxesToMasks(segmenter).read(*dataset)
        assert {(v['width'], v['height']) for v in boxes.videos} == {SIZE}

    def test_missing_frame(self, segmenter: VideoSegmenter, dataset: tuple[Path, Path]) -> None:
        (dataset[1] / 'v5/001.png').unlink()
        with pytest.raises(AnnotationError, match=r'video 5 \(v5\): v5/001\.png: not found'):
            BoxesToMasks(segmenter).read(*dataset)

    def test_unknown_category(self, segmenter: VideoSegmenter, dataset: tuple[Path, Path]) -> None:
        content = json.loads(dataset[0].read_text())
        content['categories'][0]['name'] = 'dragon'
        dataset[0].write_text(json.dumps(content))
        with pytest.raises(ValueError, match=r"'dragon'.*; match by boxes alone with --class-a"):
            BoxesToMasks(segmenter).read(*dataset)
        BoxesToMasks(segmenter, class_agnostic=True).read(*dataset)
        BoxesToMasks(segmenter, category_map=dict(dragon='car')).read(*dataset)

    def test_category_without_annotations_need_not_be_known(
        self, segmenter: VideoSegmenter, dataset: tuple[Path, Path]
    ) -> None:
        content = json.loads(dataset[0].read_text())
        content['categories'].append(dict(id=9, name='dragon'))
        dataset[0].write_text(json.dumps(content))
        boxes = BoxesToMasks(segmenter).read(*dataset)
        assert boxes.instances[1].labels.tolist() == [1, 0]


def rle_of(mask: np.ndarray) -> dict[str, Any]:
    rle = mask_utils.encode(np.asfortranarray(mask.astype(np.uint8)))
    return dict(size=list(rle['size']), counts=rle['counts'].decode())


def rectangle(x: int, y: int, width: int, height: int) -> dict[str, Any]:
    mask = np.zeros((20, 30), bool)
    mask[y : y + height, x : x + width] = True
    return rle_of(mask)


@pytest.fixture
def content() -> dict[str, Any]:
    """One video of 4 frames with a track that goes, comes back, and has two parts at last."""
    parts = np.zeros((20, 30), bool)
    parts[2:6, 3:9] = True
    parts[10:12, 20:22] = True
    return dict(
        videos=[
            dict(
                id=4,
                name='a/b',
                width=30,
                height=20,
                length=4,
                file_names=[f'b/{t}.jpg' for t in range(4)],
            )
        ],
        categories=[dict(id=9, name='dog & cat')],
        annotations=[
            dict(
                id=77,
                video_id=4,
                category_id=9,
                bboxes=[[2, 3, 8, 6], None, [4, 4, 8, 4], [3, 2, 19, 10]],
                segmentations=[rectangle(2, 3, 8, 6), None, rectangle(4, 4, 4, 4), rle_of(parts)],
                confidences=[0.9, None, 0.2, 0.6],
                score=0.57,
            )
        ],
    )


class TestScores:
    def test_perfect(self, content: dict[str, Any]) -> None:
        scores = score_masks(content, content)
        assert scores.count == 3
        assert scores.mean_iou == scores.above_50 == scores.above_70 == 1
        assert scores.box_mean_iou == pytest.approx((1 + 0.5 + 28 / 190) / 3)
        assert scores.by_annotation == {77: 1}

    def test_by_hand(self, content: dict[str, Any]) -> None:
        truth = json.loads(json.dumps(content))
        truth['annotations'][0]['segmentations'] = [
            rectangle(2, 3, 4, 6),  # half of the prediction: 0.5, which is not above
            rectangle(0, 0, 5, 5),  # was not found: 0
            [[4, 4, 8, 4, 8, 8, 4, 8]],  # as a polygon: 1
            None,  # nothing there to be found
        ]
        scores = score_masks(content, truth)
        assert scores.count == 3
        assert scores.mean_iou == pytest.approx(0.5)
        assert scores.above_50 == scores.above_70 == pytest.approx(1 / 3)

    def test_errors(self, content: dict[str, Any]) -> None:
        truth = json.loads(json.dumps(content))
        truth['annotations'][0]['id'] = 78
        with pytest.raises(ValueError, match=r'video 4, annotation 77.*same ids'):
            score_masks(content, truth)
        truth = json.loads(json.dumps(content))
        truth['annotations'][0]['segmentations'] = [None] * 4
        with pytest.raises(ValueError, match='no mask at all'):
            score_masks(content, truth)
        truth['annotations'][0]['segmentations'][0] = rle_of(np.ones((5, 5), bool))
        with pytest.raises(ValueError, match=r'77.*frame 0.*\[5, 5\].* has frames of \[20, 30\]'):
            score_masks(content, truth)

    @pytest.mark.parametrize(
        ('change', 'message'),
        [
            (dict(annotations=None), "gt.json: expected a list 'annotations', got NoneType"),
            (dict(annotations=[5, dict(id=[7], video_id={})]), 'annotation 77.*same ids'),
            (dict(segmentations=None), 'annotation 77, field segmentations: expected a list of 4'),
            (dict(segmentations=[None]), 'annotation 77, field segmentations: 1 frames'),
            (dict(segmentations=[7, None, None, None]), 'frame 0: expected null, polygons'),
            (dict(segmentations=[None, dict(size=[20, 30], counts='oo'), None, None]), 'broken'),
            (dict(segmentations=[None, [[1, 1]], None, None]), 'frame 1: a polygon needs'),
        ],
    )
    def test_broken_truth(
        self, content: dict[str, Any], change: dict[str, Any], message: str
    ) -> None:
        truth = json.loads(json.dumps(content))
        (truth if 'annotations' in change else truth['annotations'][0]).update(change)
        with pytest.raises(AnnotationError, match=message):
            true_masks(content['annotations'], content['videos'], truth, 'gt.json')

    def test_doubtful_frames(self, content: dict[str, Any]) -> None:
        assert doubtful_frames(content, 0.0) == []
        rows = doubtful_frames(content, 0.7)
        assert [(row['frame'], row['confidence']) for row in rows] == [(2, 0.2), (3, 0.6)]
        share = [(row['confidence'], row['reason']) for row in doubtful_frames(content, 0.5, 0.6)]
        assert share == [(0.2, 'low confidence'), (0.6, 'least confident of the set')]
        assert len(doubtful_frames(content, 0.0, 1.0)) == 3
        assert rows[0]['file_name'] == 'b/2.jpg'
        assert rows[0]['category'] == 'dog & cat'
        content['annotations'][0]['segmentations'][0] = None
        assert [row['reason'] for row in doubtful_frames(content, 0)] == [
            'no mask found in the box'
        ]


class TestExports:
    @pytest.mark.parametrize('shape', ['mask', 'polygon'])
    def test_coco(self, content: dict[str, Any], tmp_path: Path, shape: Any) -> None:
        (tmp_path / 'coco.json').write_text(json.dumps(to_coco(content, shape)))
        coco = COCO(str(tmp_path / 'coco.json'))
        assert [coco.imgs[i]['file_name'] for i in (1, 2, 3, 4)] == [f'b/{t}.jpg' for t in range(4)]
        assert sorted(a['image_id'] for a in coco.anns.values()) == [1, 3, 4]
        for annotation in coco.anns.values():
            frame = annotation['image_id'] - 1
            wanted = mask_utils.decode(content['annotations'][0]['segmentations'][frame])
            assert np.array_equal(coco.annToMask(annotation), wanted)
            assert annotation['area'] == wanted.sum()
            assert annotation['track_id'] == 77
            assert annotation['category_id'] == 9

    @pytest.mark.parametrize('shape', ['mask', 'polygon'])
    def test_cvat_images(self, content: dict[str, Any], tmp_path: Path, shape: Any) -> None:
        root = ET.parse(write_cvat_images(tmp_path / 'x.xml', content, shape)).getroot()
        images = root.findall('image')
        assert [image.get('name') for image in images] == [f'b/{t}.jpg' for t in range(4)]
        assert [image.get('id') for image in images] == ['0', '1', '2', '3']
        for image, rle in zip(images, content['annotations'][0]['segmentations'], strict=True):
            wanted = np.zeros((20, 30), np.uint8) if rle is None else mask_utils.decode(rle)
            assert np.array_equal(read_cvat(list(image)), wanted)
            for node in image:
                assert node.get('label') == 'dog & cat'
                assert node.get('group_id') == '77'
                assert node.findtext('attribute') == '77'

    @pytest.mark.parametrize('shape', ['mask', 'polygon'])
    def test_cvat_video(self, content: dict[str, Any], tmp_path: Path, shape: Any) -> None:
        (path,) = write_cvat_videos(tmp_path, content, shape)
        assert path.name == 'a_b.xml'
        root = ET.parse(path).getroot()
        assert root.findtext('meta/task/size') == '4'
        assert root.findtext('meta/task/original_size/width') == '30'
        (node,) = root.findall('track')
        assert node.get('label') == 'dog & cat'
        shapes = [(s.get('frame'), s.get('outside'), s.get('keyframe')) for s in node]
        assert shapes == [('0', '0', '1'), ('1', '1', '1'), ('2', '0', '1'), ('3', '0', '1')]
        for index, frame in ((0, 0), (2, 2)):
            wanted = mask_utils.decode(content['annotations'][0]['segmentations'][frame])
            assert np.array_equal(read_cvat([node[index]]), wanted)
        # of two parts a polygon keeps the larger one
        assert read_cvat([node[3]]).sum() == (24 if shape == 'polygon' else 28)

    @pytest.mark.parametrize('shape', ['mask', 'polygon'])
    def test_frames_of_cvat_video_have_the_numbers_of_their_names(
        self, content: dict[str, Any], tmp_path: Path, shape: Any
    ) -> None:
        content['videos'][0]['file_names'] = [f'b/{10 + 5 * t:05d}.jpg' for t in range(4)]
        for count, task, frames in (
            (False, ['4', '10', '25', 'step=5'], ['10', '15', '20', '25']),
            (True, ['4', '0', '3', ''], ['0', '1', '2', '3']),
        ):
            (path,) = write_cvat_videos(tmp_path, content, shape, count=count)
            root = ET.parse(path).getroot()
            names = ('size', 'start_frame', 'stop_frame', 'frame_filter')
            assert [root.findtext(f'meta/task/{name}') for name in names] == task
            assert [node.get('frame') for node in root.find('track') or ()] == frames

    def test_cvat_video_of_names_that_begin_at_one(
        self, content: dict[str, Any], tmp_path: Path
    ) -> None:
        content['videos'][0]['file_names'] = [f'b/{t}.jpg' for t in (1, 2, 3, 4)]
        with pytest.raises(AnnotationError, match=r'from 1: say --first-frame 1 .*--count-frames'):
            write_cvat_videos(tmp_path, content)
        with pytest.raises(AnnotationError, match='has frame 1, but frames count from 2'):
            write_cvat_videos(tmp_path, content, first_frame=2)
        assert not list(tmp_path.iterdir())
        for first in (0, 1):
            (path,) = write_cvat_videos(tmp_path, content, first_frame=first)
            frames = [node.get('frame') for node in ET.parse(path).getroot().find('track') or ()]
            assert frames == [str(t - first) for t in (1, 2, 3, 4)]

    @pytest.mark.parametrize('shape', ['mask', 'polygon'])
    def test_boxes_without_a_mask(
        self, content: dict[str, Any], tmp_path: Path, shape: Any
    ) -> None:
        """Are exported as they were drawn, inside the frame; no box is lost."""
        entry = content['annotations'][0]
        entry['bboxes'][2] = [25.5, -4, 10, 9]
        entry['segmentations'][2] = None
        alone = dict(entry, id=78, segmentations=[None] * 4)
        content['annotations'] += [alone, dict(alone, id=79, iscrowd=1)]
        found = to_coco(content, shape)['annotations']
        assert [(a['track_id'], a['image_id']) for a in found] == [
            *((77, 1), (77, 3), (77, 4)),
            *((78, 1), (78, 3), (78, 4)),
        ]
        if shape == 'mask':
            areas = [mask_utils.area(a['segmentation']) > 0 for a in found]
        else:
            areas = [len(a['segmentation']) > 0 for a in found]
        assert areas == [True, False, True, False, False, False]
        assert found[1]['bbox'] == [25.5, 0, 4.5, 5]
        assert found[1]['area'] == 22.5
        images = ET.parse(write_cvat_images(tmp_path / 'x.xml', content, shape)).findall('image')
        assert [node.tag for node in images[2]] == ['box', 'box']
        box = images[2][0]
        corners = [float(box.attrib[name]) for name in ('xtl', 'ytl', 'xbr', 'ybr')]
        assert corners == [25.5, 0, 30, 5]
        assert (box.get('group_id'), box.get('label')) == ('77', 'dog & cat')
        (path,) = write_cvat_videos(tmp_path, content, shape)
        mixed, boxes = ET.parse(path).findall('track')
        # CVAT takes shapes of one kind in a track
        assert {node.tag for node in mixed} == {shape}
        assert {node.tag for node in boxes} == {'box'}
        assert [node.get('outside') for node in mixed] == ['0', '1', '0', '0']
        rows, columns = np.nonzero(read_cvat([mixed[2]]))
        assert (rows.min(), rows.max(), columns.max()) == (0, 4, 29)
        assert columns.min() in (25, 26)

    def test_crowds_stay_crowds(self, content: dict[str, Any]) -> None:
        content['annotations'].append(dict(content['annotations'][0], id=78, iscrowd=1))
        found = to_coco(content)['annotations']
        assert {(a['track_id'], a['iscrowd']) for a in found} == {(77, 0), (78, 1)}

    def test_polygons_of_coco_follow_round_masks(
        self, content: dict[str, Any], tmp_path: Path
    ) -> None:
        y, x = np.mgrid[:20, :30]
        disc = (y - 9.5) ** 2 + (x - 14) ** 2 < 8**2
        content['annotations'][0]['segmentations'] = [rle_of(disc), None, None, None]
        (tmp_path / 'coco.json').write_text(json.dumps(to_coco(content, 'polygon')))
        coco = COCO(str(tmp_path / 'coco.json'))
        found = coco.annToMask(coco.anns[1]) > 0
        assert (found & disc).sum() / (found | disc).sum() > 0.95

    def test_videos_of_one_name(self, content: dict[str, Any], tmp_path: Path) -> None:
        content['videos'].append(dict(content['videos'][0], id=5, name='a_b_6'))
        content['videos'].append(dict(content['videos'][0], id=6, name='a/b'))
        paths = write_cvat_videos(tmp_path, content)
        assert [path.stem for path in paths] == ['a_b', 'a_b_6', 'a_b_6_2']
        assert set(tmp_path.iterdir()) == set(paths)

    def test_names_that_xml_cannot_hold(self, content: dict[str, Any], tmp_path: Path) -> None:
        content['categories'][0]['name'] = 'b\x07d\ud800 <&> 猫\U0001f408'
        content['videos'][0]['name'] = 'a\x00'
        for path in (
            write_cvat_images(tmp_path / 'i.xml', content),
            *write_cvat_videos(tmp_path, content),
        ):
            root = ET.parse(path).getroot()
            labels = {node.get('label') for node in root.iter() if node.get('label')}
            assert labels == {'b\ufffdd\ufffd <&> 猫\U0001f408'}
            assert [node.text for node in root.findall('.//label/name')] == list(labels)

    def test_nothing(self, content: dict[str, Any], tmp_path: Path) -> None:
        content['annotations'] = []
        assert to_coco(content)['annotations'] == []
        (path,) = write_cvat_videos(tmp_path, content)
        assert ET.parse(path).getroot().findall('track') == []

    def test_outlines_of_nothing(self) -> None:
        assert mask_polygons(np.zeros((4, 5), bool)) == []

    @settings(deadline=None, max_examples=40)
    @given(
        pixels=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 11)), min_size=1, max_size=40)
    )
    def test_outlines_follow_the_edges_of_pixels(self, pixels: list[tuple[int, int]]) -> None:
        mask = np.zeros((10, 12), bool)
        mask[tuple(np.array(pixels).T)] = True
        filled = np.zeros_like(mask)
        for part in mask_polygons(mask, tolerance=0):
            filled |= inside(part, mask.shape)
        assert filled[mask].all()
        # a hole is what cannot be reached from outside, diagonals not counted as ways
        outside = cv2.connectedComponents((~np.pad(mask, 1)).astype(np.uint8), connectivity=4)[1]
        assert not filled[(outside == outside[0, 0])[1:-1, 1:-1]].any()


def inside(polygon: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Pixels whose middle a polygon encloses, by counting crossings to the right."""
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    crossings = np.zeros(size, int)
    for (x1, y1), (x2, y2) in zip(polygon, np.roll(polygon, -1, 0)):
        if y1 != y2:
            x = x1 + (rows - y1) * (x2 - x1) / (y2 - y1)
            crossings += ((rows < y1) != (rows < y2)) & (columns < x)
    return crossings % 2 == 1


def read_cvat(shapes: list[ET.Element]) -> np.ndarray:
    """(20, 30) mask of shapes, as CVAT's documents describe them."""
    mask = np.zeros((20, 30), np.uint8)
    for shape in shapes:
        if shape.tag == 'polygon':
            text = shape.attrib['points']
            points = np.array([[float(x) for x in p.split(',')] for p in text.split(';')])
            mask |= inside(points, mask.shape).astype(np.uint8)
        else:
            left, top, width, height = (
                int(shape.attrib[name]) for name in ('left', 'top', 'width', 'height')
            )
            runs = [int(run) for run in shape.attrib['rle'].split(',')]
            flat = np.repeat(np.arange(len(runs)) % 2, runs)
            mask[top : top + height, left : left + width] |= flat.reshape(height, width).astype(
                np.uint8
            )
    return mask


class TestTool:
    @pytest.fixture(scope='class')
    def tool(self) -> ModuleType:
        spec = importlib.util.spec_from_file_location('tool', ROOT / 'tools/boxes_to_masks.py')
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    @pytest.fixture
    def model_files(self, tmp_path: Path) -> list[str]:
        """Arguments that name a random network of davis_mini's ten classes."""
        torch.manual_seed(0)
        network = network_cfg(num_classes=10)
        folder = tmp_path / 'model'
        folder.mkdir()
        cfg = dict(
            model=dict(
                type='BoxVIS', network=network, criterion=criterion_cfg(), pseudo_masks=None
            ),
            test_dataloader=dict(
                dataset=dict(pipeline=[dict(type='Resize', scale=(96, 64), keep_ratio=True)])
            ),
        )
        Config(cfg).dump(folder / 'c.py')
        names = [
            'person',
            'bird',
            'camel',
            'car',
            'cow',
            'dog',
            'bicycle',
            'horse',
            'goat',
            'backpack',
        ]
        save_whole(
            dict(
                state_dict=make_boxvis(network, pseudo_masks=None).state_dict(),
                meta=dict(dataset_meta=dict(classes=names)),
            ),
            folder / 'c.pth',
        )
        return ['--config', str(folder / 'c.py'), '--checkpoint', str(folder / 'c.pth')]

    def test_davis_mini(
        self, tool: ModuleType, model_files: list[str], real_data: Path, tmp_path: Path
    ) -> None:
        source = real_data / 'davis_mini'
        boxes = json.loads((source / 'boxes.json').read_text())
        chosen = next(v for v in boxes['videos'] if v['name'] == 'dogs-jump')
        boxes['videos'] = [chosen]
        boxes['annotations'] = [a for a in boxes['annotations'] if a['video_id'] == chosen['id']]
        (tmp_path / 'boxes.json').write_text(json.dumps(boxes))
        out = tmp_path / 'out'
        tool.main(
            [
                *(str(tmp_path / 'boxes.json'), str(source / 'JPEGImages')),
                *(*model_files, '--out', str(out), '--gt', str(source / 'instances.json')),
                *('--coco', '--cvat-images', '--cvat-video'),
            ]
        )
        names = {str(path.relative_to(out)) for path in out.rglob('*') if path.is_file()}
        assert names == {
            *('masks.json', 'review.csv', 'summary.json', 'coco.json', 'cvat_images.xml'),
            'cvat_video/dogs-jump.xml',
        }
        summary = json.loads((out / 'summary.json').read_text())
        assert summary['frames'] == chosen['length']
        assert 0 < summary['scores']['mean_iou'] < summary['scores']['box_mean_iou'] < 1
        masks = json.loads((out / 'masks.json').read_text())
        assert len(masks['annotations']) == 3
        with open(out / 'review.csv', newline='') as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == summary['to_review'] > 0
        assert rows[0]['video'] == 'dogs-jump'

    def test_refined(
        self, tool: ModuleType, model_files: list[str], dataset: tuple[Path, Path], tmp_path: Path
    ) -> None:
        path, root = dataset
        content = json.loads(path.read_text())
        content['categories'][0]['name'] = 'dog'
        path.write_text(json.dumps(content))
        found = []
        for flags in ([], ['--refine']):
            out = tmp_path / f'out{len(flags)}'
            tool.main([str(path), str(root), *model_files, '--out', str(out), *flags])
            found.append(json.loads((out / 'masks.json').read_text())['annotations'])
        assert found[0] != found[1]

    def test_truth_that_does_not_fit(
        self,
        tool: ModuleType,
        model_files: list[str],
        dataset: tuple[Path, Path],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Is refused before the network runs; what comes up later costs no result."""
        path, root = dataset
        content = json.loads(path.read_text())
        content['categories'][0]['name'] = 'dog'
        path.write_text(json.dumps(content))
        for entry in content['annotations']:
            entry['id'] += 1000
            entry['segmentations'] = [None for _ in entry['bboxes']]
        gt, out = tmp_path / 'gt.json', tmp_path / 'out'
        gt.write_text(json.dumps(content))
        command = [str(path), str(root), *model_files, '--out', str(out), '--gt', str(gt), '--coco']
        with pytest.raises(SystemExit, match=r'gt\.json: video 1, annotation 10.*same ids'):
            tool.main(command)
        assert not out.exists()
        monkeypatch.setattr(tool, 'true_masks', lambda *_: {})
        with pytest.raises(SystemExit, match='same ids'):
            tool.main(command)
        assert {p.name for p in out.iterdir()} == {'masks.json', 'review.csv', 'coco.json'}

    def test_place_that_takes_no_file(
        self,
        tool: ModuleType,
        model_files: list[str],
        dataset: tuple[Path, Path],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Is told before the network runs."""
        path, root = dataset
        content = json.loads(path.read_text())
        content['categories'][0]['name'] = 'dog'
        path.write_text(json.dumps(content))
        monkeypatch.setattr(tool.BoxesToMasks, 'annotate', lambda *_: pytest.fail('work was done'))
        out = tmp_path / 'out'
        (out / 'coco.json').mkdir(parents=True)
        command = [str(path), str(root), *model_files, '--out', str(out), '--coco']
        with pytest.raises(SystemExit, match=r'coco\.json cannot be written: it is a folder'):
            tool.main(command)

    def test_errors_are_one_line(
        self, tool: ModuleType, model_files: list[str], tmp_path: Path
    ) -> None:
        arguments = [str(tmp_path / 'none.json'), str(tmp_path), *model_files, '--out', 'x']
        with pytest.raises(SystemExit, match=r'boxes_to_masks\.py: error: .*none\.json not found'):
            tool.main(arguments)
        with pytest.raises(SystemExit, match=r'gone\.json not found'):
            tool.main([*arguments, '--gt', str(tmp_path / 'gone.json')])
