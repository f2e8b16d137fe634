from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmboxvis.visualization import (
    SheetSection,
    contact_sheet,
    overlay_video_from_json,
    prediction_sheet,
    sheet_from_json,
    stack_sections,
    track_color,
)
from mmboxvis.visualization._track_frames import color_ids
from tests.visualization.sample import (
    CLASS_NAMES,
    NUM_FRAMES,
    SIZE,
    has_color,
    track,
)


def frames(number: int = NUM_FRAMES) -> list[np.ndarray]:
    return [np.full((*SIZE, 3), 60, np.uint8) for _ in range(number)]


def test_sheet_without_cells_is_an_error() -> None:
    for rows in ([], [[]]):
        with pytest.raises(ValueError, match='at least one cell'):
            contact_sheet(rows)


def test_sheet_size_and_spacing(tmp_path: Path) -> None:
    cell = np.full((30, 60, 3), 10, np.uint8)
    sheet = contact_sheet([[cell, cell, None], [cell]], cell_width=120, path=tmp_path / 'a.png')
    margin, gap = 28, 6
    assert sheet.shape == (2 * margin + 2 * 60 + gap, 2 * margin + 3 * 120 + 2 * gap, 3)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / 'a.png')), sheet)
    dark = (sheet == 10).all(-1)
    assert dark.sum() == 3 * 60 * 120
    assert dark[margin : margin + 60, margin : margin + 120].all()
    assert dark[margin + 66 :, margin : margin + 120][:60].all()
    assert (sheet[:margin] == 255).all() and (sheet[-margin:] == 255).all()


def test_titles_take_room_and_show() -> None:
    cell = np.full((30, 60, 3), 200, np.uint8)
    bare = contact_sheet([[cell]])
    titled = contact_sheet([[cell]], titles=['frames'], column_titles=['frame 0'], heading='video')
    assert titled.shape[0] > bare.shape[0] and titled.shape[1] > bare.shape[1]
    assert (titled < 100).any() and not (bare < 100).any()
    assert contact_sheet([[cell]], dark=True).min() < 50


def test_too_many_titles_are_an_error() -> None:
    cell = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match='2 titles for 1 rows'):
        contact_sheet([[cell]], titles=['a', 'b'])
    with pytest.raises(ValueError, match='2 column titles for 1 columns'):
        contact_sheet([[cell]], column_titles=['a', 'b'])


def test_pictures_keep_their_proportions() -> None:
    tall, wide = np.zeros((80, 20, 3), np.uint8), np.zeros((20, 80, 3), np.uint8)
    sheet = contact_sheet([[tall, wide]], cell_width=80)
    black = (sheet == 0).all(-1)
    # the tall one fills the height of 320, the wide one the width of 80
    assert black.sum() == 320 * 80 + 20 * 80


def test_sections_share_their_columns() -> None:
    cell = np.zeros((10, 20, 3), np.uint8)
    sections = [SheetSection([[cell, cell]], ['long title']), SheetSection([[cell]])]
    sheet = stack_sections(sections, cell_width=40, title='all')
    columns = np.flatnonzero((sheet == 0).all(-1).sum(0) >= 20)
    starts = columns[np.flatnonzero(np.diff(columns, prepend=-9) > 1)]
    assert len(starts) == 2


def test_nothing_is_left_when_writing_fails(tmp_path: Path) -> None:
    cell = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match='suffix'):
        contact_sheet([[cell]], path=tmp_path / 'sheet.nonsense')
    assert list(tmp_path.iterdir()) == []


def test_prediction_sheet_of_a_video_without_tracks(tmp_path: Path) -> None:
    path = tmp_path / 'a.png'
    sheet = prediction_sheet(
        frames(), [], [], [], path, class_names=CLASS_NAMES, num_frames=3, cell_width=64
    )
    assert path.is_file()
    assert (sheet == 60).all(-1).sum() >= 4 * 3 * 48 * 64


def test_prediction_sheet_of_one_frame() -> None:
    one = track(1, 3, 2)
    one['segmentations'], one['bboxes'] = one['segmentations'][:1], one['bboxes'][:1]
    sheet = prediction_sheet(frames(1), [one], None, [one], class_names=CLASS_NAMES)
    assert has_color(sheet, track_color(0))


def test_prediction_sheet_reads_only_the_frames_it_shows() -> None:
    class Lazy(list):
        asked: list[int] = []

        def __getitem__(self, index):
            self.asked.append(index)
            return super().__getitem__(index)

    lazy = Lazy(frames(9))
    prediction_sheet(lazy, None, None, None, class_names={}, num_frames=3)
    assert lazy.asked == [0, 4, 8]


def test_wrong_length_is_named() -> None:
    with pytest.raises(ValueError, match=r'video clip: .*category 3 has 5 bboxes .* 4 frames'):
        prediction_sheet(
            frames(4), [track(1, 3, 2)], None, None, class_names=CLASS_NAMES, heading='clip'
        )
    with pytest.raises(ValueError, match='no frame'):
        prediction_sheet([], None, None, None, class_names={})


def test_predictions_take_the_color_of_their_object() -> None:
    reference = [track(1, 3, 2), track(1, 7, 30)]
    predicted = [track(1, 7, 31), track(1, 3, 46), track(1, 3, 3)]
    assert color_ids(reference, predicted, [0, 2, 4], SIZE) == [1, 2, 0]
    assert color_ids([], predicted, [0], SIZE) == [0, 1, 2]
    assert color_ids(reference, [], [0], SIZE) == []
    # a third of both together
    assert color_ids(reference, [track(1, 3, 9)], [0, 2, 4], SIZE) == [0]


def test_sheet_from_loaded_json_and_from_paths_agree(data: dict, tmp_path: Path) -> None:
    loaded = [data['boxes'], data['results'], data['instances']]
    paths = [tmp_path / f'{name}.json' for name in ('boxes', 'results', 'instances')]
    for path, content in zip(paths, loaded, strict=True):
        path.write_text(json.dumps(content))
    first = sheet_from_json(data['root'], *loaded, data['out'] / 'a.png', frames_per_video=4)
    second = sheet_from_json(data['root'], *paths, data['out'] / 'b.png', frames_per_video=4)
    assert first.read_bytes() == second.read_bytes()
    sheet = cv2.imread(str(first))
    assert has_color(sheet, track_color(0)) and has_color(sheet, track_color(1))
    # the result that shares its masks and the badly scored one would have come third
    assert not has_color(sheet, track_color(2))


def test_rows_are_left_out(data: dict) -> None:
    def height(*sources: object) -> int:
        path = sheet_from_json(data['root'], *sources, data['out'] / 'a.png', video_ids=[1])
        return cv2.imread(str(path)).shape[0]

    boxes, results, instances = data['boxes'], data['results'], data['instances']
    full = height(boxes, results, instances)
    cell = 216 + 6
    assert full - height(boxes, results, None) == cell
    assert full - height(None, results, instances) == cell
    assert full - height(boxes, None, None) == 2 * cell
    with pytest.raises(ValueError, match='must be given'):
        height(None, results, None)


def test_bad_files_are_named(data: dict, tmp_path: Path) -> None:
    boxes, out = data['boxes'], data['out'] / 'a.png'
    foreign = [{**data['results'][0], 'video_id': 99}]
    with pytest.raises(ValueError, match='another data set'):
        sheet_from_json(data['root'], boxes, foreign, None, out)
    with pytest.raises(ValueError, match=r'unknown video ids \[5\]'):
        sheet_from_json(data['root'], boxes, None, None, out, video_ids=[5])
    with pytest.raises(FileNotFoundError, match=r'video first, frame 0: .*does not exist'):
        sheet_from_json(tmp_path / 'nowhere', boxes, None, None, out)
    with pytest.raises(ValueError, match='`videos` and `categories`'):
        sheet_from_json(data['root'], data['results'], None, None, out)
    short = [{**data['results'][0], 'segmentations': [None]}]
    with pytest.raises(ValueError, match='has 1 segmentations but the video has 5'):
        sheet_from_json(data['root'], boxes, short, None, out)
    (tmp_path / 'half.json').write_text('{"videos": [')
    with pytest.raises(ValueError, match=r'half\.json: not valid json'):
        sheet_from_json(data['root'], tmp_path / 'half.json', None, None, out)
    assert not out.exists()


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (dict(score=None), r"track 1: expected a number as 'score', got None"),
        (dict(score=float('nan')), 'expected a number'),
        (dict(category_id=None), r"track 1: expected a whole number as 'category_id'"),
    ],
)
def test_bad_results_are_named(data: dict, change: dict, words: str) -> None:
    results = [data['results'][0], {**data['results'][1], **change}]
    with pytest.raises(ValueError, match=words):
        overlay_video_from_json(data['root'], data['boxes'], results, data['out'] / 'a.mp4')
    assert not data['out'].exists()


def test_videos_without_frames(data: dict) -> None:
    first, second = data['boxes']['videos']
    files = {**data['boxes'], 'videos': [first, {**second, 'file_names': []}]}
    alone, out = {**data['boxes'], 'videos': [{**first, 'file_names': []}]}, data['out'] / 'a.png'
    sheet = sheet_from_json(data['root'], files, None, None, out)
    wanted = sheet_from_json(data['root'], files, None, None, data['out'] / 'b.png', video_ids=[1])
    assert sheet.read_bytes() == wanted.read_bytes()
    for source, ids, words in (
        (files, [1, 2], r'videos \[2\] have no frames'),
        (files, [], 'video_ids is empty'),
        (alone, None, '4 asked for, the file has 0 with frames'),
    ):
        with pytest.raises(ValueError, match=f'no video to show: {words}'):
            sheet_from_json(data['root'], source, None, None, out, video_ids=ids)
    flat = {**data['boxes'], 'videos': [{**first, 'height': 0}]}
    with pytest.raises(ValueError, match='video 1 is of 64x0 pixels'):
        sheet_from_json(data['root'], flat, None, None, out)


def read_video(path: Path) -> list[np.ndarray]:
    capture, found = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        found.append(read[1])
    return found


def test_overlay_video_joins_videos(data: dict) -> None:
    path = overlay_video_from_json(
        data['root'], data['boxes'], data['results'], data['out'] / 'all.mp4', trail_length=3
    )
    found = read_video(path)
    assert len(found) == 2 * NUM_FRAMES
    assert found[0].shape == (480, 640, 3)
    # the object is drawn in the first video's frames but not where it is absent, nor in the second
    object_area = (slice(170, 230), slice(350, 400))
    assert np.ptp(found[0][object_area].mean((0, 1))) > 30
    for plain in (found[2], found[NUM_FRAMES]):
        assert np.ptp(plain[40:90, 500:].mean((0, 1))) < 5


def test_overlay_video_of_ground_truth_and_chosen_videos(data: dict) -> None:
    path = overlay_video_from_json(
        data['root'], data['boxes'], data['instances'], data['out'] / 'a.mp4', video_ids=[2]
    )
    assert len(read_video(path)) == NUM_FRAMES


def test_overlay_video_leaves_nothing_when_a_frame_is_missing(data: dict) -> None:
    (data['root'] / 'second' / '00003.png').unlink()
    with pytest.raises(FileNotFoundError, match='video second, frame 3'):
        overlay_video_from_json(data['root'], data['boxes'], [], data['out'] / 'a.mp4')
    assert list(data['out'].iterdir()) == []


def test_real_videos(real_data: Path, tmp_path: Path) -> None:
    davis = real_data / 'davis_mini'
    path = sheet_from_json(
        davis / 'JPEGImages', davis / 'boxes.json', davis / 'instances.json',
        davis / 'instances.json', tmp_path / 'a.png', num_videos=2, frames_per_video=3,
    )  # fmt: skip
    assert min(cv2.imread(str(path)).shape[:2]) > 900
