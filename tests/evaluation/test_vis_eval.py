"""AP and AR: empty cases, cases by hand, the plain evaluator, mmdet's, the golden numbers."""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_api

from mmboxvis.evaluation.functional import VISEvaluation, evaluate_vis
from tests.reference import vis_eval as plain

KEYS = [
    'AP',
    'AP_50',
    'AP_75',
    'AP_s',
    'AP_m',
    'AP_l',
    'AR_1',
    'AR_10',
    'AR_100',
    'AR_s',
    'AR_m',
    'AR_l',
]
LEVELS = ['no_occlusion', 'slight_occlusion', 'severe_occlusion']
H, W = 12, 16


def rect(box: tuple[int, int, int, int] | None, scale: int = 1) -> dict | None:
    """Run-length of the filled box x1, y1, x2, y2 in a frame of (H, W) times ``scale``."""
    if box is None:
        return None
    x1, y1, x2, y2 = (scale * side for side in box)
    mask = np.zeros((scale * H, scale * W), dtype=np.uint8, order='F')
    mask[y1:y2, x1:x2] = 1
    rle = mask_api.encode(mask)
    return dict(size=list(rle['size']), counts=rle['counts'].decode())


def make_gt(tracks: list[dict], num_videos: int = 1, length: int = 2, scale: int = 1) -> dict:
    return dict(
        videos=[
            dict(id=i + 1, height=scale * H, width=scale * W, length=length)
            for i in range(num_videos)
        ],
        categories=[dict(id=1, name='cat'), dict(id=3, name='dog')],
        annotations=[dict(dict(video_id=1, category_id=1), **track) for track in tracks],
    )


def result(masks: list, score: float = 0.5, category_id: int = 1, video_id: int = 1) -> dict:
    return dict(video_id=video_id, category_id=category_id, score=score, segmentations=masks)


SQUARE = [rect((1, 1, 5, 5)), rect((2, 1, 6, 5))]
OTHER = [rect((8, 6, 14, 11)), None]


def test_no_annotations() -> None:
    assert evaluate_vis(make_gt([]), []) == dict.fromkeys(KEYS, -1.0)
    assert evaluate_vis(make_gt([]), [result(SQUARE)]) == dict.fromkeys(KEYS, -1.0)


def test_no_results() -> None:
    metrics = evaluate_vis(make_gt([dict(segmentations=SQUARE)]), [])
    unscored = {'AP_m', 'AP_l', 'AR_m', 'AR_l'}
    assert metrics == {key: -1.0 if key in unscored else 0.0 for key in KEYS}


def test_class_agnostic_without_anything() -> None:
    assert evaluate_vis(make_gt([]), [], class_agnostic=True) == dict.fromkeys(KEYS, -1.0)


def test_class_agnostic_results_without_annotations() -> None:
    evaluation = VISEvaluation.run(make_gt([]), [result(SQUARE, 0.5)], class_agnostic=True)
    assert evaluation.metrics == dict.fromkeys(KEYS, -1.0)
    assert [c.num_results for c in evaluation.per_class] == [1]


def test_class_agnostic_counts_a_query_of_several_classes_once() -> None:
    gt = make_gt([dict(segmentations=SQUARE, category_id=3), dict(segmentations=OTHER)])
    found = [result(SQUARE, 0.4), result(SQUARE, 0.9, category_id=3), result(OTHER, 0.5, 3)]
    assert evaluate_vis(gt, found)['AP'] == 0.5
    evaluation = VISEvaluation.run(gt, found, class_agnostic=True)
    assert evaluation.metrics['AP'] == 1.0
    (scores,) = evaluation.per_class
    assert (scores.name, scores.num_truth, scores.num_results) == ('object', 2, 2)


@pytest.mark.parametrize('seed', range(5))
def test_class_agnostic_is_a_file_with_one_category(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # results with the same masks would be one
    corners = iter(rng.permutation([(x, y) for x in range(6) for y in range(6)]).tolist())

    def masks() -> list:
        x, y = next(corners)
        return [rect((x, y, x + 6, y + 5)), rect((x + 1, y, x + 7, y + 5))]

    gt = make_gt([
        dict(segmentations=masks(), category_id=int(rng.choice((1, 3))), video_id=i % 2 + 1)
        for i in range(6)
    ], num_videos=2)  # fmt: skip
    found, best = [], []
    for i in range(8):
        track, scores = masks(), rng.random(2)
        found += [result(track, float(s), key, i % 2 + 1) for s, key in zip(scores, (1, 3))]
        best.append(result(track, float(scores.max()), 1, i % 2 + 1))
    one = copy.deepcopy(gt)
    one['categories'] = one['categories'][:1]
    for annotation in one['annotations']:
        annotation['category_id'] = 1
    assert evaluate_vis(gt, found, class_agnostic=True) == evaluate_vis(one, best)


def test_object_that_is_never_seen() -> None:
    gt = make_gt([dict(segmentations=[None, None])])
    assert evaluate_vis(gt, [result([None, None])])['AP'] == 0.0


def test_one_perfect_track() -> None:
    metrics = evaluate_vis(make_gt([dict(segmentations=SQUARE)]), [result(SQUARE)])
    assert [metrics[key] for key in ('AP', 'AP_50', 'AP_75', 'AP_s', 'AR_1')] == [1.0] * 5
    assert metrics['AP_l'] == -1.0


def test_wrong_class_is_a_miss() -> None:
    gt = make_gt([dict(segmentations=SQUARE)])
    assert evaluate_vis(gt, [result(SQUARE, category_id=3)])['AP'] == 0.0


def test_iou_between_two_thresholds() -> None:
    # 16 of 16 + 10 pixels: 0.615 lies above 0.50, 0.55, 0.60
    gt = make_gt([dict(segmentations=[rect((1, 1, 5, 5)), None])])
    metrics = evaluate_vis(gt, [result([rect((1, 1, 5, 5)), rect((1, 1, 3, 6))])])
    assert metrics['AP'] == pytest.approx(0.3)
    assert (metrics['AP_50'], metrics['AP_75']) == (1.0, 0.0)


def test_ids_of_annotations_do_not_matter() -> None:
    tracks = [dict(segmentations=SQUARE), dict(segmentations=OTHER)]
    results = [result(SQUARE, 0.9), result(OTHER, 0.8)]
    for ids in ((0, 0), (7, 7), (0, 1)):
        gt = make_gt([dict(track, id=i) for track, i in zip(tracks, ids, strict=True)])
        assert evaluate_vis(gt, results)['AP'] == 1.0
    assert evaluate_vis(make_gt(tracks), results)['AP'] == 1.0


def test_duplicate_is_wrong_and_order_counts() -> None:
    gt = make_gt([dict(segmentations=SQUARE), dict(segmentations=OTHER)])
    metrics = evaluate_vis(gt, [result(SQUARE, 0.9), result(SQUARE, 0.8), result(OTHER, 0.7)])
    assert metrics['AP'] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert (metrics['AR_1'], metrics['AR_10']) == (0.5, 1.0)


def test_crowd_neither_counts_nor_punishes() -> None:
    gt = make_gt([dict(segmentations=SQUARE), dict(segmentations=OTHER, iscrowd=1)])
    results = [result(OTHER, 0.9), result(OTHER, 0.8), result(SQUARE, 0.7)]
    assert evaluate_vis(gt, results)['AP'] == 1.0


def test_no_more_than_a_hundred_predictions_a_video() -> None:
    gt = make_gt([dict(segmentations=SQUARE)])
    results = [result(OTHER, 0.9 - 1e-4 * i) for i in range(100)]
    assert evaluate_vis(gt, [*results[1:], result(SQUARE, 0.1)])['AP'] == pytest.approx(0.01)
    assert evaluate_vis(gt, [*results, result(SQUARE, 0.1)])['AP'] == 0.0


def test_occlusion_border_counts_in_both_groups() -> None:
    tracks = [
        dict(segmentations=SQUARE, occlusion=['slight_occlusion', None]),
        dict(segmentations=OTHER, occlusion=['severe_occlusion', None]),
    ]
    metrics = evaluate_vis(make_gt(tracks), [result(SQUARE)])
    assert [metrics[f'AP_{group}'] for group in ('so', 'mo', 'ho')] == [1.0, 1.0, 0.0]
    assert list(metrics) == [*KEYS, 'AP_so', 'AP_mo', 'AP_ho']


def test_areas_of_the_file_decide_on_the_size() -> None:
    gt = make_gt([dict(segmentations=SQUARE, areas=[20000, None])])
    metrics = evaluate_vis(gt, [result(SQUARE)])
    assert (metrics['AP_s'], metrics['AP_m']) == (-1.0, 1.0)


def test_per_class() -> None:
    gt = make_gt([dict(segmentations=SQUARE), dict(segmentations=OTHER, category_id=3)])
    evaluation = VISEvaluation.run(gt, [result(SQUARE), result(SQUARE, category_id=3)])
    assert [(c.name, c.num_truth, c.num_results) for c in evaluation.per_class] == [
        ('cat', 1, 1),
        ('dog', 1, 1),
    ]
    assert [c.metrics['AP'] for c in evaluation.per_class] == [1.0, 0.0]
    assert evaluation.metrics['AP'] == 0.5


def test_arguments_are_left_alone() -> None:
    gt, results = make_gt([dict(segmentations=SQUARE)]), [result(SQUARE)]
    before = copy.deepcopy((gt, results))
    evaluate_vis(gt, results)
    assert (gt, results) == before


# boxes


def test_boxes_only() -> None:
    boxes = [[1, 1, 4, 4], [2, 1, 4, 4]]
    gt = make_gt([dict(bboxes=boxes)])
    evaluation = VISEvaluation.run(gt, [result(SQUARE)])
    assert evaluation.iou_type == 'box'
    assert evaluation.metrics['AP'] == 1.0
    only_boxes = dict(video_id=1, category_id=1, score=0.5, bboxes=boxes)
    assert evaluate_vis(gt, [only_boxes])['AP'] == 1.0
    assert (
        evaluate_vis(make_gt([dict(segmentations=SQUARE)]), [only_boxes], iou_type='box')['AP']
        == 1.0
    )


def test_box_of_a_mask_that_is_no_box() -> None:
    mask = np.zeros((H, W), dtype=np.uint8, order='F')
    mask[1, 1:5] = mask[1:5, 1] = 1
    corner = mask_api.encode(mask)
    gt = make_gt([dict(segmentations=SQUARE[:1])], length=1)
    assert evaluate_vis(gt, [result([corner])])['AP'] == 0.0
    assert evaluate_vis(gt, [result([corner])], iou_type='box')['AP'] == 1.0


def test_annotated_masks_give_boxes_where_there_are_none() -> None:
    gt = make_gt([dict(segmentations=SQUARE, bboxes=[None, None]), dict(segmentations=OTHER)])
    results = [result(SQUARE), result(OTHER)]
    assert evaluate_vis(gt, results, iou_type='box')['AP'] == 1.0
    gt['annotations'][1]['segmentations'] = [dict(size=[H, W], counts='11'), None]
    with pytest.raises(ValueError, match=r'annotations\[1\]: segmentations\[0\].* 2 pixels'):
        evaluate_vis(gt, results, iou_type='box')
    with pytest.raises(ValueError, match="needs 'bboxes' or 'segmentations', found neither"):
        evaluate_vis(make_gt([dict()]), [], iou_type='box')


def test_boxes_only_annotation_among_masks() -> None:
    gt = make_gt([dict(segmentations=SQUARE), dict(bboxes=[[1, 1, 4, 4], None])])
    with pytest.raises(ValueError, match=r"annotations\[1\]: field 'segmentations' is missing"):
        evaluate_vis(gt, [])
    assert evaluate_vis(gt, [], iou_type='box')['AP'] == 0.0


# against the plain evaluator

box = st.none() | st.tuples(*[st.integers(0, 7)] * 2, *[st.integers(8, 12)] * 2)


@st.composite
def cases(draw: st.DrawFn) -> tuple[dict, list[dict], str]:
    """Few boxes, classes and scores, so that ties and rivals are common."""
    length, scale = draw(st.integers(1, 3)), draw(st.sampled_from([1, 15, 40]))
    num_videos = draw(st.integers(1, 3))
    shapes = draw(st.lists(st.lists(box, min_size=length, max_size=length), min_size=1, max_size=4))
    shape = st.sampled_from([[rect(b, scale) for b in track] for track in shapes])
    place = dict(video_id=st.integers(1, num_videos), category_id=st.sampled_from([1, 3]))
    levels = st.lists(st.none() | st.sampled_from(LEVELS), min_size=length, max_size=length)
    annotation = st.fixed_dictionaries(
        dict(place, segmentations=shape, iscrowd=st.sampled_from([0, 0, 0, 1])),
        optional=dict(occlusion=levels),
    )
    prediction = st.fixed_dictionaries(
        dict(place, segmentations=shape, score=st.sampled_from([0.1, 0.5, 0.5, 0.9, 2.0]))
    )
    gt = make_gt([], num_videos, length, scale)
    gt['annotations'] = draw(st.lists(annotation, max_size=6))
    results = draw(st.lists(prediction, max_size=8))
    return gt, results, draw(st.sampled_from(['segm', 'box']))


@given(case=cases())
@settings(deadline=None, max_examples=120)
def test_agrees_with_the_plain_evaluator(case: tuple[dict, list[dict], Any]) -> None:
    gt, results, iou_type = case
    expected = plain.evaluate(gt, results, iou_type)
    metrics = evaluate_vis(gt, results, iou_type=iou_type)
    assert metrics.keys() == expected.keys()
    np.testing.assert_allclose(
        [metrics[key] for key in expected], list(expected.values()), rtol=0, atol=1e-9
    )


def mmdet_metrics(gt: dict, results: list[dict]) -> list[float]:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter('ignore')
        functional = importlib.import_module('mmdet.evaluation.functional')
        api = functional.YTVIS(copy.deepcopy(gt))
        evaluator = functional.YTVISeval(api, api.loadRes(copy.deepcopy(results)))
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.stats.tolist()


@pytest.mark.parametrize('seed', range(3))
def test_agrees_with_mmdet(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def random_box() -> tuple[int, int, int, int] | None:
        x1, y1 = rng.integers(0, 4, 2).tolist()
        x2, y2 = rng.integers(7, 12, 2).tolist()
        return None if rng.random() < 0.1 else (x1, y1, x2, y2)

    gt = make_gt([], num_videos=4, length=3, scale=20)
    results = []
    for video in gt['videos']:
        for _ in range(4):
            masks = [rect(random_box(), 20) for _ in range(3)]
            areas = [mask and int(mask_api.area(mask)) for mask in masks]
            place = dict(video_id=video['id'], category_id=int(rng.choice([1, 3])))
            gt['annotations'].append(
                dict(
                    place,
                    id=len(gt['annotations']) + 1,
                    segmentations=masks,
                    areas=areas,
                    iscrowd=int(rng.random() < 0.1),
                )
            )
            for _ in range(2):
                wrong = [rect(random_box(), 20) if rng.random() < 0.4 else m for m in masks]
                results.append(dict(place, score=float(rng.random()), segmentations=wrong))
    metrics = evaluate_vis(gt, results)
    assert 0 < metrics['AP'] < 1
    np.testing.assert_allclose(
        [metrics[key] for key in KEYS], mmdet_metrics(gt, results), rtol=0, atol=1e-12
    )


def test_golden(golden: Path) -> None:
    folder = golden / 'eval'
    expected = json.loads((folder / 'eval_expected.json').read_text())
    metrics = evaluate_vis(folder / 'eval_gt.json', str(folder / 'eval_results.json'))
    for key, value in expected.items():
        assert metrics[key] == pytest.approx(value, abs=1e-6), key
    loaded = [json.loads((folder / f'eval_{name}.json').read_text()) for name in ('gt', 'results')]
    assert evaluate_vis(*loaded) == metrics
    twin = plain.evaluate(*loaded)
    assert metrics == pytest.approx(twin, abs=1e-9)


def test_real_annotations_score_one(real_data: Path) -> None:
    folder = real_data / 'davis_mini'
    truth = json.loads((folder / 'instances.json').read_text())
    results = [
        dict(
            video_id=a['video_id'],
            category_id=a['category_id'],
            score=1.0,
            segmentations=a['segmentations'],
        )
        for a in truth['annotations']
    ]
    assert evaluate_vis(truth, results)['AP'] == 1.0
    evaluation = VISEvaluation.run(folder / 'boxes.json', results)
    assert evaluation.iou_type == 'box'
    assert evaluation.metrics['AP'] > 0.9


# input


def broken_gt(**changes: Any) -> dict:
    return {**make_gt([dict(segmentations=SQUARE)]), **changes}


@pytest.mark.parametrize(
    ('gt', 'message'),
    [
        ([1], "expected an object with 'videos'"),
        ({'images': []}, 'got images'),
        (broken_gt(annotations=None), "field 'annotations' is missing or null"),
        (broken_gt(videos=[dict(id=1, height=3)]), r"videos\[0\]: field 'width' is missing"),
        (broken_gt(videos=[dict(id=1, height=3, width=4)]), "'length' must be a positive"),
        (broken_gt(videos=[dict(id=1, height=3, width=4, length=1)] * 2), 'id 1 is taken'),
        (broken_gt(categories=[dict(id=1)]), r"categories\[0\]: field 'name'"),
        (broken_gt(categories=[dict(id=2, name='a')]), r"annotations\[0\]: field 'category_id': 1"),
        (make_gt([dict(video_id=9)]), r"annotations\[0\]: field 'video_id': 9"),
        (make_gt([dict()]), r"annotations\[0\]: field 'segmentations' is missing"),
        (make_gt([dict(segmentations=SQUARE[:1])]), r'1 frames, but video 1 \(1\) has 2'),
        (make_gt([dict(segmentations=[rect((0, 0, 1, 1), 2), None])]), r'segmentations\[0\]'),
        (make_gt([dict(segmentations=[[[1, 2]], None])]), 'a polygon needs'),
        (make_gt([dict(segmentations=[dict(size=[H, W], counts='ab'), None])]), "'counts'"),
        (make_gt([dict(segmentations=[dict(size=[H, W], counts=3), None])]), 'compressed string'),
        (make_gt([dict(bboxes=[[1, 2, 3], None])]), r'bboxes\[0\]: expected null or four'),
        (make_gt([dict(segmentations=SQUARE, occlusion=['x', None])]), "'occlusion': unknown"),
        (make_gt([dict(segmentations=SQUARE, occlusion=[None])]), "'occlusion': 1 frames"),
        (make_gt([dict(segmentations=SQUARE, areas=[1])]), "field 'areas': 1 frames"),
    ],
)
def test_wrong_ground_truth(gt: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as info:
        evaluate_vis(gt, [])
    assert str(info.value).startswith('ground truth: ')


@pytest.mark.parametrize(
    ('results', 'message'),
    [
        ({'results': []}, 'expected a list of tracks .* got dict with results'),
        ([3], r'results\[0\]: expected an object, got int'),
        ([dict(video_id=1)], r"results\[0\]: field 'category_id' is missing"),
        ([result(SQUARE), result(SQUARE, video_id=5)], r"\[1\]: field 'video_id': 5 is no video"),
        ([result(SQUARE, category_id=2)], "'category_id': 2 is no category .* which has 1, 3"),
        ([result(SQUARE, video_id='1')], "'video_id': expected a whole number, got '1'"),
        ([result(SQUARE, score=float('nan'))], "'score': expected a finite number, got nan"),
        ([result(SQUARE, score='1')], "'score': expected a finite number, got '1'"),  # type: ignore
        ([result(SQUARE[:1])], r"'segmentations': 1 frames, but video 1 \(1\) has 2"),
        ([result([None, rect((0, 0, 1, 1), 2)])], r'segmentations\[1\]: field .size.: \[24, 32\]'),
        ([result([[1, 1, 2, 2, 3, 3], None])], r'segmentations\[0\]: expected null or a run'),
        ([result([dict(size=[H, W], counts=[1, 2]), None])], 'expected a compressed string'),
        ([result([dict(size=[H, W], counts='abc'), None])], "'counts' is broken or cut off"),
        ([result([dict(size=[H, W], counts='11'), None])], 'describes 2 pixels, .* have 192'),
        ([dict(video_id=1, category_id=1, score=1, bboxes=[])], "score with iou_type='box'"),
    ],
)
def test_wrong_results(results: Any, message: str) -> None:
    gt = make_gt([dict(segmentations=SQUARE)])
    with pytest.raises(ValueError, match=message):
        evaluate_vis(gt, results)


def test_unknown_iou_type() -> None:
    with pytest.raises(ValueError, match='iou_type'):
        evaluate_vis(make_gt([]), [], iou_type='bbox')  # type: ignore[arg-type]


def test_files(tmp_path: Path) -> None:
    gt, results = tmp_path / 'gt.json', tmp_path / 'results.json'
    gt.write_text(json.dumps(make_gt([dict(segmentations=SQUARE)])))
    results.write_text(json.dumps([result(SQUARE)]))
    with zipfile.ZipFile(tmp_path / 'results.zip', 'w') as archive:
        archive.write(results, 'results.json')
    assert evaluate_vis(gt, results)['AP'] == 1.0
    assert evaluate_vis(str(gt), str(tmp_path / 'results.zip'))['AP'] == 1.0
    with pytest.raises(FileNotFoundError, match=r'nowhere\.json: no such file'):
        evaluate_vis(gt, tmp_path / 'nowhere.json')
    results.write_text(results.read_text()[:-5])
    with pytest.raises(ValueError, match=r'results\.json: not valid json'):
        evaluate_vis(gt, results)
    with zipfile.ZipFile(tmp_path / 'two.zip', 'w') as archive:
        archive.writestr('a.json', '[]')
        archive.writestr('b.json', '[]')
    with pytest.raises(ValueError, match=r'expected results\.json in the archive'):
        evaluate_vis(gt, tmp_path / 'two.zip')


def test_functional_knows_no_torch() -> None:
    import mmboxvis.evaluation.functional as room

    for path in Path(room.__file__).parent.glob('*.py'):
        text = path.read_text()
        assert 'torch' not in text and 'mmengine' not in text, path
