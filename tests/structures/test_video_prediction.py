from __future__ import annotations

import json

import numpy as np
import pytest

from mmboxvis.structures import VideoPrediction

RLE = dict(size=[4, 6], counts='04d0')


def make_prediction(num_tracks: int, segmentations: list | None = None) -> VideoPrediction:
    return VideoPrediction(
        video_id=12,
        size=(4, 6),
        num_frames=2,
        labels=np.arange(num_tracks),
        scores=np.linspace(0.9, 0.1, num_tracks),
        track_ids=np.arange(num_tracks),
        segmentations=[[RLE, None]] * num_tracks if segmentations is None else segmentations,
    )


def test_no_track() -> None:
    assert make_prediction(0).to_json([1, 2, 3]) == []


def test_labels_become_category_ids() -> None:
    tracks = make_prediction(2).to_json([40, 7])
    assert tracks == [
        dict(video_id=12, category_id=40, score=0.9, segmentations=[RLE, None]),
        dict(video_id=12, category_id=7, score=0.1, segmentations=[RLE, None]),
    ]


def test_result_is_plain_json() -> None:
    tracks = make_prediction(2).to_json(np.array([40, 7]))
    assert json.loads(json.dumps(tracks)) == tracks


def test_fields_of_different_length_are_an_error() -> None:
    with pytest.raises(ValueError):
        make_prediction(2, [[RLE, None]]).to_json([1, 2])
