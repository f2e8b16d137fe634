"""Files that mean harm, or look as if they did: one error that names file and place, no output."""

from __future__ import annotations

import json
import struct
import zlib

import pytest

from mmboxvis.datasets import AnnotationError
from mmboxvis.datasets.importers import box_set, ytvis
from mmboxvis.datasets.importers.place import Place

LAUGHS = (
    '<!DOCTYPE lolz [<!ENTITY a "ha">'
    + ''.join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip('abcdefgh', 'bcdefghi'))
    + ']>'
)
SECRET = '<!DOCTYPE x [<!ENTITY i SYSTEM "file:///etc/passwd">]>'
EMPTY_DTD = '<!DOCTYPE annotations>'

MOT_ROW = '1,1,0,0,4,4,1\n'
LABELME = dict(imagePath='a.jpg', imageHeight=9, imageWidth=9, shapes=[])
COCO = dict(
    categories=[dict(id=1, name='cat')],
    videos=[dict(id=1, name='v')],
    images=[dict(id=1, video_id=1, frame_id=0, file_name='a.jpg')],
    annotations=[],
)
BDD = dict(name='a.jpg', videoName='v', frameIndex=0, labels=[])


def studio(**value):
    keys = [dict(frame=1, x=1, y=1, width=1, height=1, enabled=True)]
    whole = dict(dict(sequence=keys, framesCount=2, labels=['cat']), **value)
    return dict(annotations=[dict(result=[dict(type='videorectangle', value=whole)])])


def fails(read, name, path, message, **options):
    with pytest.raises(AnnotationError, match=message) as error:
        read(name, path, **options)
    assert str(path) in str(error.value)


@pytest.mark.parametrize('kind', ['cvat-video', 'cvat-images'])
@pytest.mark.parametrize('head', [LAUGHS, SECRET, EMPTY_DTD])
def test_entities_and_document_types(read, write, cvat, kind, head):
    path = write('a.xml', cvat('<track id="0" label="&i;"/>', head=head))
    fails(read, kind, path, 'refused, because it defines a document type or entities')


@pytest.mark.parametrize(
    'text', ['', 'no xml', '<annotations><meta>', '<a>' * 60 + '</a>' * 60, '<annotations>\0']
)
def test_broken_xml(read, write, text):
    fails(read, 'cvat-video', write('a.xml', text), 'not well-formed xml|nested 50 deep')


@pytest.mark.parametrize('encoding', ['no-such-thing', 'gb2312'])
def test_encodings_of_xml_that_are_not_read(read, write, encoding):
    text = f'<?xml version="1.0" encoding="{encoding}"?><annotations/>'
    fails(read, 'cvat-video', write('a.xml', text), 'not readable xml: .*save it as UTF-8')


def test_control_characters_in_a_class_of_xml(read, write, cvat):
    text = cvat('').replace('cat', 'cat&#10;dog')
    fails(read, 'cvat-video', write('a.xml', text), r'meta: label .* has control characters')
    shape = '<box label="cat&#10;dog" xtl="1" ytl="1" xbr="2" ybr="2"/>'
    text = f'<annotations><image id="0" name="a" width="9" height="9">{shape}</image></annotations>'
    fails(read, 'cvat-images', write('b.xml', text), r'shape 0 .*label .* has control characters')


@pytest.mark.parametrize('text', ['{', '[' * 100_000, '{"frames": NaN}', '[Infinity]', '\udcff'])
def test_broken_json(read, write, text):
    path = write('a.json', text.encode('utf-8', 'surrogateescape'))
    for name in ('coco-vid', 'coco', 'bdd-mot', 'label-studio', 'labelme', 'ytvis'):
        fails(read, name, path, 'not valid json|not UTF-8')


@pytest.mark.parametrize(
    'name', ['../../a', '/etc/passwd', 'b/../../a', '..\\a', 'C:\\a', '~/a', 'a' * 300, 'a\0b', '.']
)
def test_names_that_lead_out_of_the_folder(read, write, cvat, name):
    message = 'leads out of the folder|too long for|control characters|not well-formed'
    images = f'<annotations><image id="0" name="{name}" width="9" height="9"/></annotations>'
    info = f'[Sequence]\nname={name}\nseqLength=1\n'
    sources = [
        ('cvat-images', 'a.xml', images, {}),
        ('labelme', 'a.json', dict(LABELME, imagePath=name), {}),
        ('coco-vid', 'a.json', dict(COCO, images=[dict(COCO['images'][0], file_name=name)]), {}),
        ('coco-vid', 'a.json', dict(COCO, videos=[dict(id=1, name=name)]), {}),
        ('coco', 'a.json', dict(COCO, images=[dict(COCO['images'][0], file_name=name)]), {}),
        ('coco', 'a.json', dict(COCO, videos=[dict(id=1, name=name)]), {}),
        ('bdd-mot', 'a.json', [dict(BDD, name=name)], {}),
        ('bdd-mot', 'a.json', [dict(BDD, videoName=name)], {}),
        ('cvat-video', 'a.xml', cvat('', name=name), {}),
    ]
    for kind, file, content, options in sources:
        fails(read, kind, write(file, content), message, **options)
    path = write('s/gt/gt.txt', MOT_ROW)
    write('s/seqinfo.ini', info)
    with pytest.raises(AnnotationError, match=message):
        read('mot', path)


def test_folder_of_images_that_leads_out(read, write):
    path = write('s/gt/gt.txt', MOT_ROW)
    write('s/seqinfo.ini', '[Sequence]\nimDir=../../..\n')
    with pytest.raises(AnnotationError, match=r'seqinfo.ini: file name .* leads out'):
        read('mot', path)
    write('s/seqinfo.ini', '[Sequence]\nimDir={video.__class__}\n')
    assert read('mot', path).videos[0].file_names == ('s/{video.__class__}/000001.jpg',)


@pytest.mark.parametrize('value', ['nan', 'inf', '-inf', '1e400', '1e9', '1_0', '٣', '0x10', ''])
def test_numbers_that_are_none(read, write, cvat, box, value):
    row = MOT_ROW.replace('4,4', f'4,{value or "x"}')
    fails(read, 'mot', write('a.txt', row), 'line 1: column 6 must be a number from -1e')
    track = f'<track id="0" label="cat">{box(0, (0, 0, value, 4))}</track>'
    fails(read, 'cvat-video', write('a.xml', cvat(track)), 'box at frame 0: xbr must be a number')


def test_numbers_of_json(read, write):
    entry = '{"id":1,"image_id":1,"category_id":1,"instance_id":1,"bbox":[0,0,4,%s]}'
    for value in ('1e999', '-1e999', 'true', '"1e7"', 'null', '9' * 400, '[1]'):
        text = json.dumps(COCO).replace('"annotations": []', f'"annotations": [{entry % value}]')
        fails(read, 'coco-vid', write('a.json', text), 'annotations.0.: a number of bbox must be')


def test_huge_frame_counts(read, write, cvat, box):
    track = '<track id="0" label="cat">' + '{}</track>'
    far = track.format(box(10**12, (0, 0, 4, 4)))
    sources = [
        ('cvat-video', 'a.xml', cvat('', size=10**8), 'has 100000000 frames, expected 1 to 200000'),
        ('cvat-video', 'a.xml', cvat('', size='9' * 5000), 'size must be a whole number'),
        ('cvat-video', 'a.xml', cvat('', size=-4), 'size must be a whole number from 1'),
        ('cvat-video', 'a.xml', cvat('', rule='step=0'), 'step of frame_filter'),
        ('cvat-video', 'a.xml', cvat(far), 'frame must be a whole number'),
        ('cvat-video', 'a.xml', cvat(far.replace('0' * 12, '0' * 7), size=''), 'has 10000001 fra'),
        ('mot', 'a.txt', MOT_ROW.replace('1,', '900000000,', 1), 'has 900000000 frames'),
        ('label-studio', 'a.json', studio(framesCount=10**9), 'has 1000000000 frames'),
        ('label-studio', 'a.json', studio(framesCount=1e300), 'framesCount must be a whole'),
        ('masks', 'a.txt', '900000000 1001 1 1 1 01\n', 'has 900000000 frames'),
        ('kitti', 'a.txt', '900000000 1 Car' + ' 0' * 14 + '\n', 'has 900000001 frames'),
    ]
    for name, file, content, message in sources:
        fails(read, name, write(file, content), message, size=(9, 9))
    write('l/v_900000000.txt', '')
    with pytest.raises(AnnotationError, match='has 900000000 frames'):
        read('yolo-track', write('l/v_1.txt', '').parent, size=(9, 9))
    path = write('a.txt', '1,1,0,0,4,4,1\n3,1,0,0,4,4,1\n')
    fails(read, 'mot', path, 'allow it with --max-frames', max_frames=2)
    assert len(read('mot', path, max_frames=3).videos[0].numbers) == 3


def test_few_keys_that_fill_many_frames(read, write, cvat, box, monkeypatch):
    monkeypatch.setattr(box_set, 'MAX_BOXES', 1000)
    tracks = ''.join(
        f'<track id="{i}" label="cat">{box(0, (0, 0, 4, 4))}</track>' for i in range(11)
    )
    path = write('a.xml', cvat(tracks, size=100))
    fails(read, 'cvat-video', path, 'track 10: more than 1000 boxes')


def test_many_objects_in_a_long_video(read, write, monkeypatch):
    monkeypatch.setattr(ytvis, 'MAX_ENTRIES', 20)
    rows = ''.join(f'{frame},{frame},0,0,4,4,1\n' for frame in range(1, 6))
    with pytest.raises(AnnotationError, match='objects times frames are 25, more than 20'):
        ytvis.to_ytvis(read('mot', write('a.txt', rows)))


def test_huge_frames(read, write, cvat):
    text = cvat('').replace('>100<', '>999999<')
    fails(read, 'cvat-video', write('a.xml', text), 'a frame of 999999 x 80 pixels')
    fails(read, 'labelme', write('a.json', dict(LABELME, imageWidth=10**8)), 'sides are 1 to 65535')


def test_huge_masks(read, write, cvat):
    mask = '<mask frame="0" rle="{}" left="0" top="0" width="60000" height="60000"/>'
    track = '<track id="0" label="cat">{}</track>'
    path = write('a.xml', cvat(track.format(mask.format(10**9))))
    fails(read, 'cvat-video', path, 'a mask of 60000 x 60000 pixels')
    small = '<mask frame="0" rle="{}" left="0" top="0" width="2" height="2"/>'
    for runs in ('', '5', '1,-1,4', '1,2', '3,9'):
        path = write('a.xml', cvat(track.format(small.format(runs))))
        fails(read, 'cvat-video', path, 'run length must be|runs cover')
    path = write('a.txt', '1 1001 1 60000 60000 0000\n')
    fails(read, 'masks', path, 'a mask of 60000 x 60000 pixels')


def test_png_that_unfolds(read, write):
    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack('>I', zlib.crc32(kind + data))
        return struct.pack('>I', len(data)) + kind + data + crc

    head = struct.pack('>IIBBBBB', 60_000, 60_000, 8, 0, 0, 0, 0)
    body = chunk(b'IHDR', head) + chunk(b'IDAT', zlib.compress(bytes(9))) + chunk(b'IEND', b'')
    path = write('v/1.png', b'\x89PNG\r\n\x1a\n' + body)
    with pytest.raises(AnnotationError, match=r'1.png: not a PNG image: .*decompression bomb'):
        read('masks', path.parent)


def test_yaml_that_runs_code_or_unfolds(tool, write, capsys):
    source = write('a.txt', MOT_ROW)
    laughs = 'a: &a x\nb: &b [*a,*a]\nc: &c [*b,*b]\n'
    for text in ('!!python/object/apply:os.system ["true"]', laughs, 'yes: cat', '[1]', 'a: [b]'):
        path = write('map.yml', text)
        code = tool.main(
            ['--from', 'mot', str(source), '--class-map', str(path), '--out', str(path) + '.json']
        )
        assert code == 1
        assert 'map.yml' in capsys.readouterr().err
        assert not path.with_name('map.yml.json').exists()


def test_large_text_is_not_loaded(read, write, monkeypatch):
    monkeypatch.setattr('mmboxvis.datasets.importers.place.MAX_BYTES', 5)
    fails(read, 'mot', write('a.txt', MOT_ROW), 'larger than 5 bytes')


def test_messages_are_short(read, write):
    path = write('a.json', dict(LABELME, shapes='x' * 10**6))
    with pytest.raises(AnnotationError) as error:
        read('labelme', path)
    assert len(str(error.value)) < 400


def test_paths_that_are_fine(tmp_path):
    place = Place(tmp_path / 'a.json', 'here')
    for name in ('a.jpg', 'a/b c/ü.jpg', './a//b.jpg', 'a\\b.jpg', 'a..b/..c'):
        path = place.relative_path(name, 'name')
        assert (tmp_path / path).resolve().is_relative_to(tmp_path.resolve())
        assert '\\' not in path
