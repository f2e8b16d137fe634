"""Results that mmtrack and mmdet wrote: three layouts, one content."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.evaluator import DumpResults, Evaluator
from mmengine.structures import InstanceData
from pycocotools import mask as mask_utils

from mmboxvis.datasets import AnnotationError
from mmboxvis.evaluation import evaluate_vis

ROOT = Path(__file__).resolve().parents[3]
H, W = 40, 60
# track: (video, label, frame -> box x1 y1 x2 y2, score); videos and labels count in the order of
# the file, not of their ids
TRACKS = {
    3: (9, 1, {0: (5, 6, 25, 36), 1: (7, 6, 27, 36)}, 0.875),
    0: (9, 0, {1: (30, 2, 50, 20)}, 0.75),
    8: (0, 0, {0: (1, 1, 11, 31)}, 0.5),
}
IMAGES = {11: (9, 0), 12: (9, 1), 13: (0, 0)}
ANNOTATIONS = dict(
    categories=[dict(id=7, name='cat'), dict(id=2, name='dog')],
    videos=[dict(id=9, name='walk'), dict(id=0, name='run')],
    images=[
        dict(id=image, video_id=video, frame_id=frame, file_name=f'{image}.jpg', width=W, height=H)
        for image, (video, frame) in reversed(IMAGES.items())
    ],
    annotations=[],
)


def filled(box):
    mask = np.zeros((H, W), np.uint8, order='F')
    x1, y1, x2, y2 = box
    mask[y1:y2, x1:x2] = 1
    return mask


def rle(box):
    encoded = mask_utils.encode(filled(box))
    return dict(size=[H, W], counts=encoded['counts'].decode())


def of_frame(video, frame, label=None):
    return [
        (key, own, boxes[frame], score)
        for key, (where, own, boxes, score) in TRACKS.items()
        if where == video and frame in boxes and label in (None, own)
    ]


def as_lists():
    """mmtrack's own."""
    frames = [[of_frame(*where, label) for label in (0, 1)] for where in IMAGES.values()]
    rows = [[[[k, *box, score] for k, _, box, score in found] for found in f] for f in frames]
    masks = [[[rle(box) for _, _, box, _ in found] for found in f] for f in frames]
    return dict(track_bboxes=rows, track_masks=masks, det_bboxes=[])


def as_samples(in_videos):
    """As mmengine's own program dumps what mmdet's models predict."""
    frames = []
    for image, where in IMAGES.items():
        found = of_frame(*where)
        sample = DetDataSample(metainfo=dict(img_id=image, ori_shape=(H, W)))
        sample.pred_track_instances = InstanceData(
            instances_id=torch.tensor([key for key, *_ in found]),
            labels=torch.tensor([label for _, label, *_ in found]),
            scores=torch.tensor([score for *_, score in found]),
            bboxes=torch.tensor([box for _, _, box, _ in found]).float(),
            masks=torch.from_numpy(np.stack([filled(box) for _, _, box, _ in found])) > 0,
        )
        frames.append(sample)
    if not in_videos:
        return frames
    videos = []
    for part in (frames[:2], frames[2:]):
        video = TrackDataSample()
        video.video_data_samples = part
        videos.append(video)
    return videos


def as_entries():
    """The json of YouTubeVISMetric."""
    return [
        dict(
            video_id=video,
            category_id=[7, 2][label],
            score=score,
            segmentations=[
                rle(boxes[t]) if t in boxes else None for t in range(2 if video == 9 else 1)
            ],
        )
        for video, label, boxes, score in TRACKS.values()
    ]


def dump(samples, path):
    evaluator = Evaluator([DumpResults(out_file_path=str(path))])
    evaluator.process(samples)
    evaluator.evaluate(len(samples))
    return path


@pytest.fixture
def annotations(write):
    return write('ann.json', ANNOTATIONS)


@pytest.fixture
def source(write, tmp_path):
    """Writes the results in one of the layouts."""

    def run(layout):
        kind, _, suffix = layout.partition('.')
        if kind == 'samples':
            return dump(as_samples(suffix == 'videos'), tmp_path / f'{suffix}.pkl')
        content = as_lists() if kind == 'lists' else as_entries()
        if suffix == 'json':
            return write('results.json', content)
        for frame in content['track_bboxes']:
            frame[:] = [np.array(rows, np.float32).reshape(-1, 6) for rows in frame]
        for masks in (mask for frame in content['track_masks'] for mask in frame):
            masks[:] = [dict(mask, counts=mask['counts'].encode()) for mask in masks]
        return write('results.pkl', pickle.dumps(content))

    return run


@pytest.mark.parametrize('content', [dict(track_bboxes=[[], [], []]), []])
def test_nothing_found(read, write, annotations, content):
    boxes = read('mmtrack-results', write('r.json', content), annotations=annotations)
    assert [(video.name, video.tracks) for video in boxes.videos] == [('walk', ()), ('run', ())]


@pytest.mark.parametrize(
    'layout', ['lists.json', 'lists.pkl', 'samples.frames', 'samples.videos', 'entries.json']
)
def test_all_layouts_hold_the_same(read, source, annotations, layout):
    boxes = read('mmtrack-results', source(layout), annotations=annotations, keep_masks=True)
    assert boxes.classes == ('cat', 'dog') and not boxes.notes
    found = {
        (video.name, track.label, track.score): (dict(track.boxes), dict(track.masks))
        for video in boxes.videos
        for track in video.tracks
    }
    names = {9: 'walk', 0: 'run'}
    assert found == {
        (names[video], ['cat', 'dog'][label], score): (
            {t: (x1, y1, x2 - x1, y2 - y1) for t, (x1, y1, x2, y2) in places.items()},
            {t: rle(box) for t, box in places.items()},
        )
        for video, label, places, score in TRACKS.values()
    }
    boxes = read('mmtrack-results', source(layout), annotations=annotations)
    assert not any(track.masks for video in boxes.videos for track in video.tracks)


def test_a_track_scores_the_mean_of_its_frames(read, write, annotations):
    rows = [[[7, 1, 2, 3, 4, score]] for score in (0.25, 0.75)]
    results = write('r.json', dict(track_bboxes=[*([row] for row in rows), []]))
    walk, _ = read('mmtrack-results', results, annotations=annotations).videos
    assert [track.score for track in walk.tracks] == [0.5]


def test_results_are_scored_against_their_annotations(tool, write, source, tmp_path):
    """The way of somebody who comes from mmtrack: two conversions, one score."""
    truth = copy.deepcopy(ANNOTATIONS)
    for number, (image, where) in enumerate((i, w) for i, w in IMAGES.items() for _ in range(2)):
        for key, label, (x1, y1, x2, y2), _ in of_frame(*where)[number % 2 : number % 2 + 1]:
            corners = [x1, y1, x2, y1, x2, y2, x1, y2]
            truth['annotations'].append(
                dict(id=number, image_id=image, instance_id=key, category_id=[7, 2][label],
                     bbox=[x1, y1, x2 - x1, y2 - y1], segmentation=[corners])
            )  # fmt: skip
    ann = str(write('ann.json', truth))
    gt, out = str(tmp_path / 'gt.json'), str(tmp_path / 'results.json')
    assert tool.main(['--from', 'coco-vid', ann, '--keep-masks', '--out', gt]) == 0
    common = ['--from', 'mmtrack-results', '--annotations', ann, '--to', 'vis-results']
    results = str(source('lists.pkl'))
    assert tool.main([*common, results, '--keep-masks', '--out', out]) == 0
    assert evaluate_vis(gt, out)['AP'] == 1
    # without masks, boxes are compared
    boxes_only = str(tmp_path / 'gt_boxes.json')
    assert tool.main(['--from', 'coco-vid', ann, '--out', boxes_only]) == 0
    assert tool.main([*common, results, '--out', out]) == 0
    assert evaluate_vis(boxes_only, out)['AP'] == 1
    path = ROOT / 'tools/analysis_tools/eval_results.py'
    spec = importlib.util.spec_from_file_location('eval_results', path)
    scores = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(scores)
    assert scores.main([boxes_only, out]) == 0


@pytest.mark.parametrize('layout', ['lists', 'entries'])
def test_labels_in_another_order_keep_their_categories(
    read, tool, write, annotations, layout, tmp_path
):
    """A model may count its classes differently than the file does."""
    content = as_entries()
    if layout == 'lists':
        content = as_lists()
        for frame in (*content['track_bboxes'], *content['track_masks']):
            frame.reverse()
    plain = read('mmtrack-results', write('e.json', as_entries()), annotations=annotations)
    results = write('r.json', content)
    boxes = read('mmtrack-results', results, annotations=annotations, labels=('dog', 'cat'))
    assert boxes.classes == plain.classes == ('cat', 'dog')

    def classes(found):
        return {(v.name, t.score): t.label for v in found.videos for t in v.tracks}

    assert classes(boxes) == classes(plain)
    out = tmp_path / 'out.json'
    labels = write('labels.txt', 'dog\ncat\n')
    given = ['--annotations', annotations, '--labels', labels, '--to', 'vis-results', '--out', out]
    assert tool.main(['--from', 'mmtrack-results', str(results), *map(str, given)]) == 0
    numbers = {entry['score']: entry['category_id'] for entry in json.loads(out.read_text())}
    assert numbers == {0.875: 2, 0.75: 1, 0.5: 1}


def test_labels_that_the_annotations_lack_come_after_theirs(read, write, annotations):
    content = as_lists()
    boxes = read('mmtrack-results', write('r.json', content), annotations=annotations,
                 labels=('dog', 'bird'))  # fmt: skip
    assert boxes.classes == ('cat', 'dog', 'bird')


def test_real_results(read, formats):
    folder = formats / 'cocovid' / 'mmtracking_vis'
    boxes = read(
        'mmtrack-results',
        folder / 'results.json',
        annotations=folder / 'ann.json',
        keep_masks=True,
    )
    ((track,),) = (video.tracks for video in boxes.videos)
    assert (track.key, track.label) == ('3', 'sedan')
    assert track.score == pytest.approx(0.9985, abs=1e-4)
    assert track.boxes[0] == pytest.approx((1169.29, 313.97, 40.98, 76.9), abs=0.01)
    assert track.masks[0]['size'] == [720, 1280]
    annotation = read('coco-vid', folder / 'ann.json', keep_masks=True).videos[0].tracks[0]
    assert mask_utils.toBbox(annotation.masks[0]).tolist() == [1174, 335, 104, 79]


ROWS = dict(track_bboxes=[[[[1, 2, 3, 4, 5, 0.5]]], [], []])


def one_frame(**fields):
    """A data sample of a frame with one object."""
    instances = dict(instances_id=[1], labels=[0], scores=[0.5], bboxes=[[1, 2, 3, 4]])
    return dict(img_id=11, pred_track_instances={**instances, **fields})


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f'touch {self.path}',)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (dict(track_bboxes=[[], []]), "'track_bboxes' has 2 frames, the annotations have 3"),
        (dict(bbox=[]), "'track_results', which results of tracking have, must be a list"),
        (dict(track_bboxes=[[[], [], [[1, 2, 3, 4, 5, 0.5]]], [], []]), 'label 2, but .* 2 cat'),
        (dict(track_bboxes=[[[[1, 2, 3, 4, 5]]], [], []]), r'\[0\]: a row must be id, x1'),
        (dict(track_bboxes=[[[[1.5, 2, 3, 4, 5, 0.5]]], [], []]), 'id must be a whole number'),
        (dict(track_bboxes=[[[[1, 2, 3, 4, 'x', 0.5]]], [], []]), 'a number of a box must be'),
        ([dict(img_id=11)], 'sample 0: has no pred_track_instances'),
        ([dict(img_id=5, pred_track_instances={})], 'img_id 5 is not among the images'),
        ([dict(video_id=5, category_id=2, score=1, bboxes=[])], 'video 5 or category 2 is not'),
        ([dict(video_id=0, category_id=2, score=1, bboxes=[])], 'must be a list of 1'),
        (dict(track_bboxes=[[5], [], []]), r'\[0\]: rows must be a list, got 5'),
        (dict(track_bboxes=[[[5]], [], []]), r'\[0\]: a row must be id, x1, .* got 5'),
        (dict(ROWS, track_masks={}), 'track_masks must be a list, got {}'),
        (dict(ROWS, track_masks=5), 'track_masks must be a list, got 5'),
        (dict(ROWS, track_masks=[5]), r'\[0\]: track_masks of a frame must be a list, got 5'),
        (dict(ROWS, track_masks=[[5]]), r'\[0\]: track_masks of a class must be a list, got 5'),
        ([dict(video_data_samples=None)], 'sample 0: video_data_samples must be a list, got None'),
        ([one_frame(bboxes=[5])], 'sample 0: box must be a list of 4, got 5'),
        ([one_frame(bboxes=5)], 'sample 0: rows must be a list, got 5'),
        ([one_frame(masks=7)], 'sample 0: masks must be a list, got 7'),
        ([one_frame(scores=[])], 'sample 0: instances_id, labels and scores differ in length'),
        ('text', 'expected results of mmtrack or mmdet'),
    ],
)
def test_what_is_wrong_is_named(read, write, annotations, content, message):
    path = write('results.json', json.dumps(content))
    with pytest.raises(AnnotationError, match=message) as error:
        read('mmtrack-results', path, annotations=annotations)
    assert 'results.json' in str(error.value)


def test_masks_of_another_size_and_broken_masks(read, write, annotations):
    for mask, message in (
        (dict(size=[H, W + 1], counts='x'), 'in a frame of'),
        (dict(size=[H, W], counts='0'), 'do not fill'),
        ([[1, 2, 3, 4]], 'three corners'),
        (5, 'a mask must be an object'),
    ):
        content = as_lists()
        content['track_masks'][0][1][0] = mask
        path = write('results.json', content)
        with pytest.raises(AnnotationError, match=message):
            read('mmtrack-results', path, annotations=annotations, keep_masks=True)


def test_pickles_run_no_code(read, write, annotations, tmp_path):
    trace = tmp_path / 'trace'
    path = write('results.pkl', pickle.dumps(dict(track_bboxes=Hostile(trace))))
    with pytest.raises(AnnotationError, match=r'results.pkl.*refused to load (posix|nt).system'):
        read('mmtrack-results', path, annotations=annotations)
    assert not trace.exists()
    # what a tensor hides is read with the same care
    data = pickle.dumps(dict(track_bboxes=torch.zeros(1)))
    assert b'_load_from_bytes' in data
    path.write_bytes(b"ctorch.storage\n_load_from_bytes\n(S'x'\ntR.")
    with pytest.raises(AnnotationError, match='no readable pickle'):
        read('mmtrack-results', path, annotations=annotations)
    path.write_bytes(b'\x80')
    with pytest.raises(AnnotationError, match='no readable pickle'):
        read('mmtrack-results', path, annotations=annotations)


def test_annotations_are_needed(read, write):
    with pytest.raises(ValueError, match='--annotations'):
        read('mmtrack-results', write('results.json', as_lists()))
