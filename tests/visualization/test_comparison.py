"""Results side by side: videos and sheets, colours that belong together."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from mmboxvis.visualization import comparison_sheet, comparison_video, track_color
from mmboxvis.visualization._vis_json import FrameFiles, VisFile
from mmboxvis.visualization.comparison import make_panels, num_columns, panel_frames
from tests.visualization.sample import (
    CLASS_NAMES,
    NUM_FRAMES,
    SIZE,
    has_color,
    links_to,
    track,
)

TOOL = Path(__file__).resolve().parents[2] / 'tools/analysis_tools/compare_results.py'


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format='bgr24') for frame in container.decode(video=0)]


def polygons(box: list[float] | None) -> list[list[float]] | None:
    if box is None:
        return None
    x, y, width, height = box
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def test_nothing_to_compare(data: dict) -> None:
    with pytest.raises(ValueError, match='at least one result'):
        comparison_video(data['root'], data['instances'], {}, data['out'] / 'a.mp4')
    assert not data['out'].exists()


def test_video_has_all_frames_and_panels(data: dict) -> None:
    results = {'ours': data['results'], 'theirs': []}
    path = comparison_video(data['root'], data['instances'], results, data['out'] / 'a.mp4')
    frames = decoded(path)
    assert len(frames) == 2 * NUM_FRAMES
    height, width = frames[0].shape[:2]
    assert width > 2.9 * 320 / 48 * 64 and height < width / 2
    # the panel of the result without a track shows the grey frame alone
    panel = frames[0][60:, -width // 3 + 20 :]
    assert np.abs(panel.astype(int) - 60).max() < 12


def test_panels_share_the_colours_of_objects(data: dict) -> None:
    annotations = VisFile.load(data['instances'])
    video = annotations.videos[1]
    # listed the other way round, and one that is nowhere near an object
    results = [track(1, 7, 30, score=0.9), track(1, 3, 2, score=0.8)]
    panels = make_panels(annotations.tracks[1], {'a': results, 'none': []}, video)
    assert [panel.title for panel in panels] == ['ground truth', 'a', 'none']
    assert [list(panel.color_ids) for panel in panels] == [[0, 1], [1, 0], []]
    frames = FrameFiles(data['root'], video)
    drawn = list(panel_frames(frames, panels, CLASS_NAMES, (320, 426), size=video.size))
    assert len(drawn) == NUM_FRAMES
    for picture in drawn[0][:2]:
        left, right = picture[:, : 426 // 2], picture[:, 426 // 2 :]
        assert has_color(left, track_color(0)) and has_color(right, track_color(1))
    assert not has_color(drawn[0][2], track_color(0))


def test_boxes_only_and_no_annotations(data: dict) -> None:
    annotations = VisFile.load(data['boxes'])
    (panel,) = make_panels(annotations.tracks[1], {}, annotations.videos[1])
    assert not panel.has_masks
    frames = FrameFiles(data['root'], annotations.videos[1])
    ((first,), *_) = panel_frames(frames, [panel], CLASS_NAMES, (480, 640), size=SIZE)
    assert has_color(first, track_color(0)) and (first[160, 90] == 60).all()
    bare = {key: value for key, value in data['instances'].items() if key != 'annotations'}
    sheet = comparison_sheet(data['root'], bare, {'a': data['results']}, data['out'] / 'a.png')
    with_truth = comparison_sheet(
        data['root'], data['instances'], {'a': data['results']}, data['out'] / 'b.png'
    )
    heights = [cv2.imread(str(path)).shape[0] for path in (sheet, with_truth)]
    assert heights[0] < heights[1]


@pytest.mark.parametrize('kind', ['boxes', 'polygons'])
def test_tracks_over_frames_of_another_size(data: dict, kind: str) -> None:
    annotations = VisFile.load(data['boxes'])
    video = annotations.videos[1]
    tracks = annotations.tracks[1][1:]
    if kind == 'polygons':
        tracks = [dict(t, segmentations=[polygons(box) for box in t['bboxes']]) for t in tracks]
    (panel,) = make_panels(tracks, {}, video)
    cell = (480, 640)
    # copies of the frames with half the width and a quarter of the height, both fill the cell
    small = [np.full((SIZE[0] // 4, SIZE[1] // 2, 3), 60, np.uint8)] * NUM_FRAMES
    ((picture,), *_) = panel_frames(small, [panel], CLASS_NAMES, cell, size=video.size)
    x, y, width, height = tracks[0]['bboxes'][0]
    rows, columns = np.nonzero(np.ptp(picture.astype(int), axis=-1) > 60)
    # 640 x 240 pixels in the middle of the cell
    right, bottom = (x + width) / SIZE[1] * 640, 120 + (y + height) / SIZE[0] * 240
    assert abs(columns.max() - right) < 6 and abs(rows.max() - bottom) < 6


@pytest.mark.parametrize(('number', 'columns'), [(1, 1), (2, 2), (3, 3), (4, 2), (5, 3), (9, 3)])
def test_grid(number: int, columns: int) -> None:
    assert num_columns(number) == columns


def test_tool(data: dict, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    spec = importlib.util.spec_from_file_location('compare_results', TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = data['root'].parent
    gt, run = folder / 'gt.json', folder / 'run.json'
    gt.write_text(json.dumps(data['instances']))
    run.write_text(json.dumps(data['results']))
    common = [str(gt), str(data['root'])]
    for name in ('a.gif', 'a.png'):
        out = data['out'] / name
        assert module.main([*common, '--results', f'x={run}', str(run), '--out', str(out)]) == 0
        assert out.is_file()
    linked = links_to(data['root'], tmp_path / 'links')
    command = [str(gt), str(tmp_path / 'links'), '--results', str(run), '--out', str(out)]
    assert module.main([*command, '--linked', *linked]) == 0
    assert module.main(command) == 1
    assert 'goes through a link' in capsys.readouterr().err
    for wrong, message in (
        (['--results', f'x={run}', f'x={run}', '--out', 'a.png'], "called 'x'"),
        (['--results', f'{run}x', '--out', 'a.png'], 'no such file'),
        (['--results', str(run), '--out', 'a.txt'], 'expected .mp4'),
        (['--results', str(run), '--out', 'a.png', '--video-ids', '9'], 'unknown video ids'),
    ):
        assert module.main([*common, *wrong]) == 1
        assert message in capsys.readouterr().err
