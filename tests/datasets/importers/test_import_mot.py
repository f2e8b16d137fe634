from __future__ import annotations

import csv

import pytest

from mmboxvis.datasets import AnnotationError


def only(boxes):
    (video,) = boxes.videos
    return {track.key: (track.label, dict(track.boxes)) for track in video.tracks}


def test_empty_file(read, write):
    (video,) = read('mot', write('empty.txt', '')).videos
    assert (len(video.numbers), video.tracks) == (1, ())


def test_absent_frames_stay_absent_and_rows_may_be_in_any_order(read, write, load):
    boxes = read('mot', write('walk.txt', '4,7,5,6,10,20,1\n1,7,1.5,2,10,20,1\n'))
    assert only(boxes) == {'7': ('pedestrian', {0: (1.5, 2, 10, 20), 3: (5, 6, 10, 20)})}
    assert boxes.videos[0].numbers == (1, 2, 3, 4)
    assert boxes.videos[0].file_names[3] == 'walk/img1/000004.jpg'
    assert load(boxes).get_data_info(0)['instances'].valid.tolist() == [[True, False, False, True]]


def test_class_visibility_flag_and_missing_track(read, write):
    rows = '1,1,0,0,4,4,1,3,1\n1,2,0,0,4,4,1,1,0.5\n1,3,0,0,4,4,0,1,1\n1,-1,0,0,4,4,1,1,1\n'
    rows += '2,1,0,0,4,4,1,3,0.499\n'
    boxes = read('mot', write('a.txt', rows))
    assert {k: label for k, (label, _) in only(boxes).items()} == {'1': 'car', '2': 'pedestrian'}
    assert boxes.classes == ('pedestrian', 'car')
    first, second = boxes.videos[0].tracks
    assert first.occlusion == {0: 'no_occlusion', 1: 'severe_occlusion'}
    assert second.occlusion == {0: 'slight_occlusion'}
    assert boxes.notes == {
        'rows to ignore (flag 0) left out': 1,
        'rows without a track (id -1) left out': 1,
    }


def test_origin_and_first_frame(read, write):
    path = write('a.txt', '0,1,1,1,4,4,1\n')
    with pytest.raises(AnnotationError, match=r'line 1: frame 0, .*--first-frame 0'):
        read('mot', path)
    boxes = read('mot', path, first_frame=0, origin=1)
    assert only(boxes)['1'][1] == {0: (0, 0, 4, 4)}
    assert boxes.videos[0].numbers == (0,)


def test_sequences_with_their_info_and_labels(read, write):
    for name in ('b', 'a'):
        write(f'train/{name}/gt/gt.txt', '2,5,0,0,4,4,1,2,1\n')
        write(f'train/{name}/gt/labels.txt', 'cat\ndog\n')
        path = write(
            f'train/{name}/seqinfo.ini',
            f'[Sequence]\nname=seq {name}\nimDir=pics\nframeRate=25\nseqLength=3\nimWidth=60\n'
            'imHeight=40\nimExt=.png\n',
        )
    boxes = read('mot', path.parent.parent)
    first, second = boxes.videos
    assert (first.name, second.name) == ('seq a', 'seq b')
    assert first.file_names == tuple(f'seq a/pics/00000{i}.png' for i in (1, 2, 3))
    assert (first.width, first.height, first.fps) == (60, 40, 25)
    assert boxes.classes == ('cat', 'dog')
    assert first.tracks[0].label == 'dog'


def test_class_by_majority(read, write):
    rows = ''.join(f'{i},1,0,0,4,4,1,{c},1\n' for i, c in enumerate((3, 1, 3), start=1))
    boxes = read('mot', write('a.txt', rows))
    assert only(boxes)['1'][0] == 'car'
    assert boxes.notes == {'objects of changing class given the most frequent one': 1}


@pytest.mark.parametrize(
    ('rows', 'message'),
    [
        ('1,1,0,0,4,4\n', 'line 1: has 6 columns'),
        ('1,1,0,0,4,4,1\n1,1,0,0,4,4,1\n', "line 2: object '1' has a second box in frame 1"),
        ('1,1,0,0,-4,4,1\n', 'must not be negative'),
        ('1,1,0,0,4,4,1,14,1\n', r'class \(column 8\) must be a whole number from 1 to 13'),
        ('1,x,0,0,4,4,1\n', "id must be a whole number from -1 to .*, got 'x'"),
        ('1.5,1,0,0,4,4,1\n', 'frame must be a whole number'),
    ],
)
def test_what_is_wrong_is_named(read, write, rows, message):
    with pytest.raises(AnnotationError, match=message) as error:
        read('mot', write('rows.txt', rows))
    assert 'rows.txt' in str(error.value)


def test_frame_beyond_the_length(read, write):
    write('s/seqinfo.ini', '[Sequence]\nseqLength=2\n')
    path = write('s/gt/gt.txt', '3,1,0,0,4,4,1\n')
    with pytest.raises(AnnotationError, match='line 1: frame 2 of a video of 2 frames'):
        read('mot', path)


def test_real_mot15(read, formats, load):
    folder = formats / 'mot' / 'mmtracking_MOT15' / 'TUD-Campus'
    boxes = read('mot', folder)
    (video,) = boxes.videos
    assert (video.name, len(video.numbers), video.width) == ('TUD-Campus', 71, None)
    assert [t.key for t in video.tracks] == [str(i) for i in range(1, 9)]
    assert sum(len(track.boxes) for track in video.tracks) == 359
    assert video.tracks[0].boxes[0] == (399, 182, 121, 229)
    assert video.tracks[2].boxes[2] == (70, 155, 111, 286)
    with open(folder / 'gt' / 'gt.txt') as file:
        rows = [[float(cell) for cell in row[:6]] for row in csv.reader(file)]
    found = {(t.key, f): box for t in video.tracks for f, box in t.boxes.items()}
    assert found == {(str(int(r[1])), int(r[0]) - 1): tuple(r[2:]) for r in rows}
    shifted = read('mot', folder, origin=1).videos[0].tracks[0].boxes[0]
    assert shifted == (398, 181, 121, 229)
    assert load(boxes, (640, 480)).get_data_info(0)['instances'].valid.sum() == 359


def test_real_results_of_a_tracker(read, formats):
    path = formats / 'mot' / 'mmtracking_MOT15' / 'results' / 'TUD-Campus.txt'
    (video,) = read('mot', path).videos
    lines = path.read_text().split()
    assert sum(len(t.boxes) for t in video.tracks) == len(lines) == 222
    assert {t.key for t in video.tracks} == {line.split(',')[1] for line in lines}
    third = next(t for t in video.tracks if t.key == '3')
    assert third.boxes[0] == (113.84, 274.5, 57.307, 130.05)


def test_real_files_that_cannot_be_tracked(read, formats):
    for name in ('datumaro_mot_seq', 'datumaro_mot_seq_with_seqinfo'):
        boxes = read('mot', formats / 'mot' / name)
        assert boxes.videos[0].tracks == ()
        assert boxes.notes == {'rows without a track (id -1) left out': 1}
        assert boxes.classes == tuple(f'label_{i}' for i in range(10))
    assert (boxes.videos[0].name, boxes.videos[0].width, boxes.videos[0].fps) == ('Test', 16, 10)
    path = formats / 'mot' / 'scalabel' / 'motchallenge_labels.txt'
    with pytest.raises(AnnotationError, match='line 1: frame 0, but frames count from 1'):
        read('mot', path)
    with pytest.raises(AnnotationError, match="line 3: object '1' has a second box in frame 1"):
        read('mot', path, first_frame=0)


def test_real_gap(read, write, formats):
    rows = (formats / 'mot' / 'scalabel' / 'motchallenge_labels.txt').read_text().splitlines()
    path = write('gap.txt', '\n'.join([*rows[:2], rows[4]]))
    (track,) = read('mot', path, first_frame=0).videos[0].tracks
    assert track.boxes == {
        0: (458, 417, 130, 298),
        1: (460, 416, 130, 297),
        3: (460, 416, 130, 297),
    }
