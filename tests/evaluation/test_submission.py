"""Writing and checking submissions."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as mask_api

from mmboxvis.evaluation import (
    check_submission,
    evaluate_vis,
    match_categories,
    to_results,
    write_submission,
)
from mmboxvis.structures import VideoPrediction

H, W = 6, 8
GT: dict[str, Any] = dict(
    videos=[dict(id=i, name=f'v{i}', height=H, width=W, length=2) for i in (3, 4)],
    categories=[dict(id=1, name='cat'), dict(id=5, name='Flying_Disc'), dict(id=7, name='dog')],
    annotations=None,
)


def rle(start: int, end: int) -> dict[str, Any]:
    mask = np.zeros((H, W), dtype=np.uint8, order='F')
    mask[1:5, start:end] = 1
    encoded = mask_api.encode(mask)
    return dict(size=[H, W], counts=encoded['counts'].decode())


def prediction(video_id: int, labels: list[int]) -> VideoPrediction:
    return VideoPrediction(
        video_id=video_id,
        size=(H, W),
        num_frames=2,
        labels=np.array(labels, dtype=np.int64),
        scores=np.linspace(0.9, 0.1, len(labels)),
        track_ids=np.arange(len(labels)),
        segmentations=[[rle(i, i + 3), None] for i in range(len(labels))],
    )


def test_nothing_to_write(tmp_path: Path) -> None:
    assert to_results([], [1, 2]) == []
    assert to_results([prediction(3, [])], [1, 2]) == []
    json_path, zip_path = write_submission([], tmp_path / 'deep' / 'empty', GT)
    assert json.loads(json_path.read_text()) == []
    assert check_submission(zip_path, GT) == []


def test_one_label_to_no_one_or_several_categories() -> None:
    results = to_results([prediction(3, [0, 1, 2])], [[], [5], [1, 7]])
    assert [r['category_id'] for r in results] == [5, 1, 7]
    assert results[1]['segmentations'] is results[2]['segmentations']
    assert results[1]['score'] == results[2]['score']
    assert to_results([prediction(3, [0])], [4])[0]['category_id'] == 4


def test_label_out_of_range() -> None:
    with pytest.raises(ValueError, match='label 2 of a prediction is out of range, there are 2'):
        to_results([prediction(3, [2])], [1, 5])


def test_round_trip(tmp_path: Path) -> None:
    results = to_results([prediction(3, [0, 1]), prediction(4, [2])], [1, 5, 7])
    json_path, zip_path = write_submission(results, tmp_path / 'run.v1', GT)
    assert (json_path.name, zip_path.name) == ('run.v1.json', 'run.v1.zip')
    assert json.loads(json_path.read_text()) == results
    with zipfile.ZipFile(zip_path) as archive:
        assert archive.namelist() == ['results.json']
        assert json.loads(archive.read('results.json')) == results
    assert sorted(p.name for p in tmp_path.iterdir()) == ['run.v1.json', 'run.v1.zip']
    for path in (json_path, zip_path):
        assert check_submission(path, GT) == []
    truth = dict(GT, annotations=[dict(r, iscrowd=0) for r in results])
    assert evaluate_vis(truth, zip_path)['AP'] == 1.0


def test_bytes_and_numpy_numbers_are_written(tmp_path: Path) -> None:
    mask = rle(0, 3)
    entry = dict(
        video_id=np.int64(3),
        category_id=np.int32(5),
        score=np.float32(0.5),
        segmentations=[dict(size=(H, W), counts=mask['counts'].encode()), None],
    )
    json_path, _ = write_submission([entry], str(tmp_path / 'x'), GT)
    assert json.loads(json_path.read_text())[0] == dict(
        video_id=3, category_id=5, score=0.5, segmentations=[mask, None]
    )


def test_wrong_results_leave_what_is_there(tmp_path: Path) -> None:
    good = to_results([prediction(3, [0])], [1])
    write_submission(good, tmp_path / 'x', GT)
    before = (tmp_path / 'x.zip').read_bytes()
    with pytest.raises(ValueError, match=r"results\[0\]: field 'category_id': 2 is no category"):
        write_submission(to_results([prediction(3, [0])], [2]), tmp_path / 'x', GT)
    assert (tmp_path / 'x.zip').read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_failure_while_writing_leaves_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = to_results([prediction(3, [0])], [1])
    write_submission(good, tmp_path / 'x', GT)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError('disk full')

    monkeypatch.setattr(zipfile.ZipFile, 'write', full)
    with pytest.raises(OSError, match='disk full'):
        write_submission([*good, *good], tmp_path / 'x', GT)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_all_problems_are_listed_up_to_a_limit() -> None:
    entry = to_results([prediction(3, [0])], [1])[0]
    wrong = [
        dict(entry, video_id=9),
        dict(entry, category_id=0),
        dict(entry, score=float('inf')),
        dict(entry, segmentations=[None]),
        dict(entry, segmentations=[dict(rle(0, 2), size=[W, H]), dict(rle(0, 2), counts='1')]),
    ]
    problems = check_submission([entry, *wrong], GT)
    assert len(problems) == 6
    for problem, part in zip(
        problems,
        ['[1]', '[2]', '[3]', '[4]', '[5]: segmentations[0]', '[5]: segmentations[1]'],
        strict=True,
    ):
        assert problem.startswith(f'results{part}: ')
    assert len(check_submission(wrong * 50, GT, max_problems=20)) == 21
    assert 'left out' in check_submission(wrong * 50, GT, max_problems=20)[-1]


def test_videos_alone_leave_categories_unchecked() -> None:
    entry = to_results([prediction(3, [0])], [99])[0]
    assert check_submission([entry], GT['videos']) == []
    assert 'ids start at 1' in check_submission([dict(entry, category_id=0)], GT['videos'])[0]
    assert 'is no category' in check_submission([entry], GT)[0]


def test_files_of_the_wrong_kind(tmp_path: Path) -> None:
    (tmp_path / 'gt.json').write_text(json.dumps(GT))
    assert 'expected a list of tracks' in check_submission(tmp_path / 'gt.json', GT)[0]
    (tmp_path / 'no.zip').write_text('[]')
    assert 'not a zip archive' in check_submission(tmp_path / 'no.zip', GT)[0]
    with zipfile.ZipFile(tmp_path / 'deep.zip', 'w') as archive:
        archive.writestr('run/results.json', '[]')
    assert check_submission(tmp_path / 'deep.zip', GT) == [
        f'{tmp_path / "deep.zip"}: a server expects results.json and nothing else, '
        "it holds ['run/results.json']"
    ]
    with pytest.raises(FileNotFoundError):
        check_submission(tmp_path / 'nowhere.json', GT)


def test_categories_by_name() -> None:
    categories = {3: 'cat', 1: 'Flying_Disc', 2: 'dog'}
    assert match_categories(['dog', 'flying disc'], categories) == [2, 1]
    with pytest.raises(ValueError, match=r"no category is called \['cow'\]; .*'dog'"):
        match_categories(['dog', 'cow'], categories)
    with pytest.raises(ValueError, match='categories 1 and 2 have the same name'):
        match_categories(['dog'], {1: 'dog', 2: 'Dog'})
