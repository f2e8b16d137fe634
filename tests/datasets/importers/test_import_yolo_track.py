from __future__ import annotations

import pytest

from mmboxvis.datasets import AnnotationError

SIZE = (200, 100)


def test_empty_label_file(read, write):
    path = write('walk_3.txt', '')
    (video,) = read('yolo-track', path.parent, size=SIZE).videos
    assert (video.name, video.numbers, video.tracks) == ('walk', (1, 2, 3), ())


def test_rows(read, write, load):
    write('walk_1.txt', '1 0.5 0.5 0.2 0.4 7\n0 0.1 0.1 0.1 0.1 9\n')
    path = write('walk_3.txt', '1 0.5 0.5 0.1 0.2 7\n')
    write('classes.txt', 'cat\nbig dog\n')
    boxes = read('yolo-track', path.parent, size=SIZE)
    (video,) = boxes.videos
    first, second = video.tracks
    assert (first.key, first.label) == ('7', 'big dog')
    assert first.boxes == {0: (80, 30, 40, 40), 2: (90, 40, 20, 20)}
    assert second.boxes[0] == pytest.approx((10, 5, 20, 10))
    assert (video.width, video.height) == SIZE
    assert load(boxes).metainfo['classes'] == ('cat', 'big dog')


def test_confidence_before_the_id(read, write):
    path = write('v_1.txt', '0 0.5 0.5 0.2 0.4 0.93 7\n')
    (track,) = read('yolo-track', path.parent, size=SIZE).videos[0].tracks
    assert (track.key, track.label) == ('7', 'class_0')


def test_sixth_column_is_asked_for_where_it_may_be_either(read, write):
    path = write('v_1.txt', '0 0.5 0.5 0.2 0.4 1\n').parent
    with pytest.raises(AnnotationError, match='line 1: the last of six columns may be'):
        read('yolo-track', path, size=SIZE)
    assert read('yolo-track', path, size=SIZE, last_column='id').videos[0].tracks[0].key == '1'
    for text, options in (('1', dict(last_column='conf')), ('0.93', dict())):
        write('v_1.txt', f'0 0.5 0.5 0.2 0.4 {text}\n')
        with pytest.raises(AnnotationError, match='ends in a confidence and has no track id'):
            read('yolo-track', path, size=SIZE, **options)


def test_sixth_column_is_decided_over_all_videos(read, write):
    path = write('a_1.txt', '0 0.5 0.5 0.2 0.4 1\n').parent
    write('b_1.txt', '0 0.5 0.5 0.2 0.4 2\n')
    videos = read('yolo-track', path, size=SIZE).videos
    assert [[track.key for track in video.tracks] for video in videos] == [['1'], ['2']]


@pytest.mark.parametrize(
    ('tracked', 'not_tracked'),
    [
        ('0.5 0.5 0.2 0.4 7', '0.5 0.5 0.2 0.4'),
        ('0.5 0.5 0.2 0.4 0.9 7', '0.5 0.5 0.2 0.4 0.9'),
        ('0.5 0.5 0.2 0.4 0.9 7', '0.5 0.5 0.2 0.4 1'),
        ('0.4 0.3 0.6 0.3 0.6 0.7 0.4 0.7 0.9 7', '0.4 0.3 0.6 0.3 0.6 0.7 0.4 0.7'),
    ],
)
def test_rows_without_an_id_among_others(read, write, tracked, not_tracked):
    path = write('v_1.txt', f'0 {not_tracked}\n0 {tracked}\n')
    boxes = read('yolo-track', path.parent, size=SIZE)
    (track,) = boxes.videos[0].tracks
    assert track.key == '7' and track.boxes[0] == pytest.approx((80, 30, 40, 40))
    assert boxes.notes == {'rows without a track id left out': 1}
    write('v_1.txt', f'0 {tracked}\n0 0.5\n')
    with pytest.raises(AnnotationError, match='line 2: has 2 columns, expected class cx'):
        read('yolo-track', path.parent, size=SIZE)


def test_polygon_confidence_and_the_first_id(read, write):
    triangle = '0.1 0.1 0.2 0.1 0.2 0.3'
    path = write('v_1.txt', f'0 {triangle} 0.8 1\n').parent
    with pytest.raises(AnnotationError, match=r'no track id; .* say --last-column id'):
        read('yolo-track', path, size=SIZE)
    assert read('yolo-track', path, size=SIZE, last_column='id').videos[0].tracks[0].key == '1'
    write('v_2.txt', f'0 {triangle} 0.8 2\n')
    assert [t.key for t in read('yolo-track', path, size=SIZE).videos[0].tracks] == ['1', '2']


def test_polygons(read, write):
    triangle = '0.1 0.1 0.2 0.1 0.2 0.3 0.1 0.3'
    path = write('v_1.txt', f'0 {triangle} 5\n0 {triangle} 0.8 6\n').parent
    tracks = read('yolo-track', path, size=SIZE).videos[0].tracks
    assert [track.key for track in tracks] == ['5', '6']
    for track in tracks:
        assert track.boxes[0] == pytest.approx((20, 10, 20, 20))
    write('v_1.txt', f'0 {triangle}\n')
    with pytest.raises(AnnotationError, match='has 9 columns and no track id'):
        read('yolo-track', path, size=SIZE)


def test_several_videos_and_names_of_files(read, write):
    for name in ('a/labels/000001', 'a/labels/000002', 'b_7_1', 'c/c_1', 'c/d-2'):
        path = write(f'set/{name}.txt', '0 0.5 0.5 0.2 0.4 2\n')
    root = path.parents[1]
    boxes = read('yolo-track', root, size=SIZE, labels=('cat',))
    assert {v.name: len(v.numbers) for v in boxes.videos} == {'a': 2, 'b_7': 1, 'c': 1, 'c/d': 2}
    write('set/strange.txt', '')
    with pytest.raises(AnnotationError, match='must end in the number of its frame'):
        read('yolo-track', root, size=SIZE)


def test_frames_from_zero(read, write):
    path = write('v_0.txt', '0 0.5 0.5 0.2 0.4 2\n').parent
    with pytest.raises(AnnotationError, match='--first-frame 0'):
        read('yolo-track', path, size=SIZE)
    assert read('yolo-track', path, size=SIZE, first_frame=0).videos[0].numbers == (0,)


def test_names_of_a_yaml_file(read, write):
    path = write('data/v_1.txt', '1 0.5 0.5 0.2 0.4 2\n').parent
    for text in ('names: [cat, dog]', 'names:\n  1: dog\n  0: cat\n'):
        write('data/data.yaml', text)
        assert read('yolo-track', path, size=SIZE).videos[0].tracks[0].label == 'dog'
    write('data/v_1.txt', '2 0.5 0.5 0.2 0.4 2\n')
    with pytest.raises(AnnotationError, match='class must be a whole number from 0 to 1, got 2'):
        read('yolo-track', path, size=SIZE)


def test_what_is_wrong_is_named(read, write):
    path = write('v_1.txt', '0 0.5 0.5 0.2 0.4 2\n').parent
    with pytest.raises(AnnotationError, match=r'v_1.txt: the boxes of video .v. are shares'):
        read('yolo-track', path)
    write('v_1.txt', '0 100 50 20 40 2\n')
    with pytest.raises(
        AnnotationError, match=r'line 1: share of the frame must be .* to 2, got 100'
    ):
        read('yolo-track', path, size=SIZE)


def test_real_detections_have_no_identity(read, formats):
    with pytest.raises(AnnotationError, match=r'1.txt: line 1: has 5 columns and no track id'):
        read('yolo-track', formats / 'yolo' / 'datumaro_strict', size=SIZE)
