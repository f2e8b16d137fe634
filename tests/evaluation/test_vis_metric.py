"""The metric as mmengine's evaluator uses it."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmdet.structures import TrackDataSample
from mmengine.evaluator import Evaluator
from pycocotools import mask as mask_api

from mmboxvis.evaluation import VISMetric, evaluate_vis
from mmboxvis.files import AnnotationError
from mmboxvis.registry import METRICS
from mmboxvis.structures import VideoPrediction

H, W = 6, 8
CLASSES = ('dog', 'cat')


def rle(start: int, end: int) -> dict[str, Any] | None:
    mask = np.zeros((H, W), dtype=np.uint8, order='F')
    mask[1:5, start:end] = 1
    return dict(size=[H, W], counts=mask_api.encode(mask)['counts'].decode())


def make_gt(num_videos: int = 2) -> dict[str, Any]:
    """Video i has a cat; the file lists cats before dogs, unlike the classes."""
    return dict(
        videos=[
            dict(id=i + 1, name=f'video-{i + 1}', height=H, width=W, length=2)
            for i in range(num_videos)
        ],
        categories=[dict(id=1, name='cat'), dict(id=2, name='dog')],
        annotations=[
            dict(id=i, video_id=i + 1, category_id=1, segmentations=[rle(1, 5), rle(2, 6)])
            for i in range(num_videos)
        ],
    )


def predict(video_id: int, labels: tuple[int, ...] = (1,), num_frames: int = 2) -> VideoPrediction:
    return VideoPrediction(
        video_id=video_id,
        size=(H, W),
        num_frames=num_frames,
        labels=np.array(labels, dtype=np.int64),
        scores=np.full(len(labels), 0.5),
        track_ids=np.arange(len(labels)),
        segmentations=[[rle(1, 5), rle(2, 6)][:num_frames] for _ in labels],
    )


def as_sample(prediction: VideoPrediction) -> TrackDataSample:
    sample = TrackDataSample()
    sample.pred_video = prediction
    return sample


@pytest.fixture
def ann_file(tmp_path: Path) -> str:
    path = tmp_path / 'gt.json'
    path.write_text(json.dumps(make_gt()))
    return str(path)


def make_metric(
    ann_file: str,
    classes: tuple[str, ...] = CLASSES,
    mapped: tuple[tuple[int, ...], ...] | None = None,
    names: dict[int, str] | None = None,
    **more: Any,
) -> VISMetric:
    metric = METRICS.build(dict(type='VISMetric', ann_file=ann_file, **more))
    metric.dataset_meta = dict(classes=classes, category_ids=mapped, category_names=names)
    return metric


def test_no_results_at_all(ann_file: str) -> None:
    metrics = make_metric(ann_file).evaluate(2)
    assert (metrics['AP'], metrics['AR_10'], metrics['AP_l']) == (0.0, 0.0, -1.0)


def test_videos_without_a_track(ann_file: str) -> None:
    metric = make_metric(ann_file)
    metric.process({}, [as_sample(predict(i, labels=())) for i in (1, 2)])
    assert metric.evaluate(2)['AP'] == 0.0


def test_labels_go_by_name_and_samples_may_be_dicts(ann_file: str) -> None:
    metric = make_metric(ann_file)
    metric.process({}, [as_sample(predict(1))])
    metric.process({}, [as_sample(predict(2)).to_dict()])
    metrics = metric.evaluate(2)
    assert metrics['AP'] == 1.0
    metric.process({}, [as_sample(predict(i, labels=(0,))) for i in (1, 2)])
    assert metric.evaluate(2)['AP'] == 0.0


def test_any_number_of_evaluations_through_mmengine(ann_file: str) -> None:
    evaluator = Evaluator(make_metric(ann_file, prefix='val'))
    evaluator.dataset_meta = dict(classes=CLASSES)
    outcomes = []
    for _ in range(3):
        for video_id in (1, 2):
            evaluator.process([as_sample(predict(video_id))], {})
        outcomes.append(evaluator.evaluate(2))
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert outcomes[0]['val/AP'] == 1.0


def test_metrics_are_those_of_the_function_and_unrounded(ann_file: str) -> None:
    metric = make_metric(ann_file)
    results = []
    for video_id in (1, 2):
        prediction = predict(video_id, labels=(1, 1, 1))
        scores = np.array([0.9, 0.3, 0.7]) / video_id
        prediction = VideoPrediction(**{**vars(prediction), 'scores': scores})
        metric.process({}, [as_sample(prediction)])
        results += prediction.to_json([2, 1])
    assert metric.evaluate(2) == evaluate_vis(ann_file, results)


def test_repeated_videos_count_once(ann_file: str) -> None:
    metric = make_metric(ann_file)
    # the repetition does not lie at the end, so that cutting to the size would lose video 2
    metric.process({}, [as_sample(predict(i)) for i in (1, 1, 2)])
    metrics = metric.evaluate(2)
    assert (metrics['AP'], metrics['AR_1']) == (1.0, 1.0)


def test_missing_video_is_named(ann_file: str) -> None:
    metric = make_metric(ann_file)
    metric.process({}, [as_sample(predict(1))])
    with pytest.raises(ValueError, match=r'1 of 2 videos were not predicted: 2 \(video-2\)'):
        metric.evaluate(2)
    # nothing is left over from the failure
    metric.process({}, [as_sample(predict(2))])
    with pytest.raises(ValueError, match=r'not predicted: 1 \(video-1\)'):
        metric.evaluate(2)
    metric = make_metric(ann_file, allow_missing=True)
    metric.process({}, [as_sample(predict(1))])
    assert metric.evaluate(2)['AR_1'] == 0.5


def test_only_the_videos_that_are_named(ann_file: str) -> None:
    metric = make_metric(ann_file, videos=['video-2'])
    metric.process(None, [as_sample(predict(2))])
    assert metric.evaluate(1)['AP'] == 1.0
    metric.process(None, [as_sample(predict(1)), as_sample(predict(2))])
    with pytest.raises(ValueError, match=r'predictions for videos it does not have: \[1\]'):
        metric.evaluate(2)
    with pytest.raises(AnnotationError, match=r"no video is called \['video-3'\].*video-1"):
        make_metric(ann_file, videos=['video-3'])


def test_classes_are_taken_for_one(ann_file: str) -> None:
    metric = make_metric(ann_file, class_agnostic=True)
    wrong = predict(1, labels=(CLASSES.index('dog'),))
    metric.process(None, [as_sample(wrong), as_sample(predict(2))])
    assert metric.evaluate(2)['AP'] == 1.0
    metric = make_metric(ann_file, classes=('object',), class_agnostic=True, category_ids=[1])
    metric.process(None, [as_sample(predict(i, labels=(0,))) for i in (1, 2)])
    assert metric.evaluate(2)['AP'] == 1.0


def test_what_does_not_fit(ann_file: str) -> None:
    metric = make_metric(ann_file)
    metric.process({}, [as_sample(predict(i)) for i in (1, 2, 7)])
    with pytest.raises(ValueError, match=r'videos it does not have: \[7\]'):
        metric.evaluate(3)
    metric.process({}, [as_sample(predict(1, num_frames=1)), as_sample(predict(2))])
    with pytest.raises(ValueError, match=r'1 frames, but video 1 \(video-1\) has 2'):
        metric.evaluate(2)
    with pytest.raises(TypeError, match="VideoPrediction in the field 'pred_video'"):
        metric.process({}, [TrackDataSample()])
    with pytest.raises(TypeError, match=r"got NoneType; fields: \['other'\]"):
        metric.process({}, [dict(other=1)])


@pytest.mark.parametrize(
    ('classes', 'mapped', 'labels'),
    [
        # as BVISD tells those of YouTube-VIS: merged and missing classes have no name in the file
        (('pet', 'sheep'), ((1, 2), ()), (0, 1)),
        # categories under other names, one class each
        (('Katze', 'Hund'), ((1,), (2,)), (0, 1)),
    ],
)
def test_a_data_set_that_maps_its_categories_tells_the_ids(
    ann_file: str, classes: tuple[str, ...], mapped: tuple[tuple[int, ...], ...], labels: Any
) -> None:
    names = {category['id']: category['name'] for category in make_gt()['categories']}
    metric = make_metric(ann_file, classes, mapped, names)
    metric.process({}, [as_sample(predict(i, labels=labels)) for i in (1, 2)])
    assert metric.evaluate(2)['AP'] == pytest.approx(1)
    # ids of another file say nothing of this one
    for foreign in (None, {**names, 1: 'horse'}):
        with pytest.raises(AnnotationError, match='no category is called'):
            make_metric(ann_file, classes, mapped, foreign)


def test_classes_and_categories(ann_file: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(AnnotationError, match=r"gt\.json: no category is called \['cow'\]"):
        make_metric(ann_file, classes=('cat', 'cow'))
    metric = VISMetric(ann_file)
    metric.process({}, [as_sample(predict(i)) for i in (1, 2)])
    with pytest.raises(ValueError, match="set 'classes' in the data set's metainfo"):
        metric.evaluate(2)
    metric = VISMetric(ann_file, category_ids=[[], [2, 1]])
    metric.process({}, [as_sample(predict(i, labels=(0, 1))) for i in (1, 2)])
    assert metric.evaluate(2)['AP'] == 1.0


def test_boxes_only(tmp_path: Path) -> None:
    gt = make_gt()
    for annotation in gt['annotations']:
        annotation['bboxes'] = [
            mask_api.toBbox(mask).tolist() for mask in annotation.pop('segmentations')
        ]
    path = tmp_path / 'boxes.json'
    path.write_text(json.dumps(gt))
    metric = make_metric(str(path))
    metric.process({}, [as_sample(predict(i)) for i in (1, 2)])
    assert metric.evaluate(2)['AP'] == 1.0


def test_format_only(tmp_path: Path) -> None:
    path = tmp_path / 'test.json'
    path.write_text(json.dumps({**make_gt(), 'annotations': None}))
    with pytest.raises(ValueError, match='give outfile_prefix'):
        VISMetric(str(path), format_only=True)
    prefix = tmp_path / 'out' / 'run'
    metric = make_metric(str(path), format_only=True, outfile_prefix=str(prefix))
    metric.process({}, [as_sample(predict(i)) for i in (1, 2)])
    assert metric.evaluate(2) == {}
    written = json.loads(Path(f'{prefix}.json').read_text())
    assert [(r['video_id'], r['category_id']) for r in written] == [(1, 1), (2, 1)]
    with zipfile.ZipFile(f'{prefix}.zip') as archive:
        assert json.loads(archive.read('results.json')) == written
    with pytest.raises(AnnotationError, match="'annotations' is missing or null"):
        make_metric(str(path))


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (json.dumps(make_gt())[:-20], 'not valid json'),
        ('{"videos": []}', "expected an object with 'videos'"),
        (json.dumps({**make_gt(), 'annotations': None}), "'annotations' is missing or null"),
        (json.dumps({**make_gt(), 'annotations': [dict(video_id=9)]}), r"\[0\]: field 'video_id'"),
    ],
)
def test_broken_annotations_are_told_at_once(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / 'broken.json'
    path.write_text(content)
    with pytest.raises(AnnotationError, match=rf'broken\.json: .*{message}'):
        VISMetric(str(path))


def test_an_output_that_cannot_be_written_is_told_at_once(ann_file: str) -> None:
    with pytest.raises(OSError, match=r'run\.json cannot be written: .*gt\.json'):
        VISMetric(ann_file, outfile_prefix=f'{ann_file}/run')


def test_results_are_written_before_a_missing_video_is_told(ann_file: str, tmp_path: Path) -> None:
    metric = make_metric(ann_file, outfile_prefix=str(tmp_path / 'run'))
    metric.process({}, [as_sample(predict(2)), as_sample(predict(7))])
    with pytest.raises(AnnotationError, match=r'does not have: \[7\]'):
        metric.evaluate(2)
    assert [r['video_id'] for r in json.loads((tmp_path / 'run.json').read_text())] == [2]


def test_videos_of_the_data_set_are_those_of_the_file(ann_file: str) -> None:
    def video(key: int, frames: int = 2) -> dict[str, Any]:
        return dict(id=key, height=H, width=W, file_names=['0.jpg', '1.jpg'][:frames])

    metric = make_metric(ann_file)
    metric.require_videos([video(1), video(2)])
    for wrong, message in (
        ([video(1), video(2), video(3)], r'videos it does not have: \[3\]'),
        ([video(1)], r'not predicted: 2 \(video-2\)'),
        ([video(1), video(2, frames=1)], r'video 2 \(video-2\) has 2 frames .* 1 of \[6, 8\]'),
    ):
        with pytest.raises(AnnotationError, match=message):
            metric.require_videos(wrong)
    make_metric(ann_file, allow_missing=True).require_videos([video(1)])


def test_which_labels_fit(ann_file: str) -> None:
    metric = make_metric(ann_file)
    assert metric.fits_labels(2, CLASSES)
    assert not metric.fits_labels(1, CLASSES) and not metric.fits_labels(3, CLASSES)
    mapped = make_metric(ann_file, category_ids=[1, [1, 2], []])
    assert mapped.fits_labels(3, CLASSES) and not mapped.fits_labels(2, CLASSES)
    assert make_metric(ann_file, class_agnostic=True).fits_labels(7, CLASSES)


def test_a_model_of_other_classes_is_scored_without_them(ann_file: str, tmp_path: Path) -> None:
    prefix = str(tmp_path / 'run')
    metric = make_metric(ann_file, class_agnostic=True, outfile_prefix=prefix)
    metric.process({}, [as_sample(predict(i, labels=(5,))) for i in (1, 2)])
    assert metric.evaluate(2)['AP'] == 1.0
    written = json.loads((tmp_path / 'run.json').read_text())
    assert [entry['category_id'] for entry in written] == [1, 1]
    strict = make_metric(ann_file)
    strict.process({}, [as_sample(predict(i, labels=(5,))) for i in (1, 2)])
    with pytest.raises(ValueError, match='label 5 of a prediction is out of range'):
        strict.evaluate(2)


def test_scores_and_files_together(ann_file: str, tmp_path: Path) -> None:
    metric = make_metric(ann_file, outfile_prefix=str(tmp_path / 'run'))
    metric.process({}, [as_sample(predict(i)) for i in (1, 2)])
    metrics = metric.evaluate(2)
    assert metrics == evaluate_vis(ann_file, tmp_path / 'run.zip')


def test_log_shows_overall_and_classes(ann_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[tuple[str, int]] = []

    def note(message: str, logger: str, level: int = logging.INFO) -> None:
        lines.append((message, level))

    monkeypatch.setattr('mmboxvis.evaluation.vis_metric.print_log', note)
    metric = make_metric(ann_file, classes=('cat',))
    metric.process({}, [as_sample(predict(i, labels=(0,))) for i in (1, 2)])
    metric.evaluate(2)
    assert any("no class is called ['dog']" in m and v == logging.WARNING for m, v in lines)
    table = lines[-1][0]
    assert 'All classes, masks (%)' in table and 'By class' in table
    assert '100.0' in table and 'cat' in table and 'dog' not in table


def test_wrong_arguments(ann_file: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'nowhere\.json: no such annotation file'):
        VISMetric(str(tmp_path / 'nowhere.json'))
    with pytest.raises(ValueError, match='iou_type'):
        VISMetric(ann_file, iou_type='bbox')  # type: ignore[arg-type]


SCRIPT = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
import torch.distributed as dist
from test_vis_metric import as_sample, make_metric, predict
dist.init_process_group('gloo')
rank = dist.get_rank()
metric = make_metric({ann_file!r}, collect_dir={folder!r})
# three videos on two processes: the sampler repeats the first one, on either place
for video_id in ((1, 3), (1, 2))[rank]:
    metric.process({{}}, [as_sample(predict(video_id))])
metrics = metric.evaluate(3)
assert metrics['AP'] == 1.0 and metrics['AR_1'] == 1.0, metrics
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    ann_file = tmp_path / 'three.json'
    ann_file.write_text(json.dumps(make_gt(3)))
    here = Path(__file__).resolve()
    script = tmp_path / 'evaluate.py'
    script.write_text(
        SCRIPT.format(
            tests=str(here.parent),
            root=str(here.parents[2]),
            ann_file=str(ann_file),
            folder=str(tmp_path / 'collect'),
        )
    )
    launch = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2']
    subprocess.run(
        [*launch, str(script)], check=True, timeout=300, env={**os.environ, 'OMP_NUM_THREADS': '1'}
    )
