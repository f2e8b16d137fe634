from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmboxvis.datasets import json_stream
from mmboxvis.datasets.json_stream import JsonStream, read_annotation_file, write_json_stream
from mmboxvis.datasets.video_json import AnnotationError

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | (st.floats(allow_nan=False, allow_infinity=False) | st.text())
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def gather(stream: JsonStream) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value, position in stream:
        if position is None:
            content[key] = value
        else:
            assert position == len(content.setdefault(key, []))
            content[key].append(value)
    return dict(content, **{key: [] for key in stream.list_keys - content.keys()})


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    content=st.dictionaries(st.text(), VALUES, max_size=5),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
    chunk=st.sampled_from([1, 3, 7, 1 << 20]),
)
def test_same_as_loading_at_once(tmp_path, monkeypatch, content, indent, ascii_only, chunk):
    monkeypatch.setattr(json_stream, '_CHUNK', chunk)
    text = json.dumps(content, indent=indent, ensure_ascii=ascii_only)
    path = tmp_path / 'any.json'
    path.write_bytes(f' {text}\n'.encode('utf-8', 'surrogatepass'))
    stream = JsonStream(path)
    try:
        expected = json.loads(path.read_bytes())
    except UnicodeDecodeError:
        with pytest.raises(AnnotationError, match='UTF-8'):
            gather(stream)
        return
    assert gather(stream) == expected == gather(stream)
    assert stream.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_numbers_cut_by_the_end_of_what_has_been_read(tmp_path, monkeypatch):
    text = '{"a": 1e+5, "b": [2.5, -3E-2, 40, 0.1e12]}'
    path = tmp_path / 'numbers.json'
    path.write_text(text)
    for chunk in range(1, len(text)):
        monkeypatch.setattr(json_stream, '_CHUNK', chunk)
        assert gather(JsonStream(path)) == json.loads(text)


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.dictionaries(st.text(), VALUES, max_size=4))
def test_written_as_it_was(tmp_path, content):
    path = tmp_path / 'deep' / 'any.json'
    written = write_json_stream(path, content)
    data = path.read_bytes()
    assert json.loads(data) == content
    assert written == (len(data), hashlib.sha256(data).hexdigest())


def test_every_cut_is_noticed(tmp_path):
    text = '{"a": [1, 2, {"b": "x"}], "c": 12, "d": null}'
    path = tmp_path / 'cut.json'
    for end in range(len(text)):
        path.write_text(text[:end])
        with pytest.raises(AnnotationError, match='not valid json'):
            gather(JsonStream(path))


@pytest.mark.parametrize(
    'text',
    ['', '[]', '{"a": [1,]}', '{"a": 1,}', '{"a" 1}', '{1: 2}', '{"a": [1 2]}', '{"a": 1} x',
     '{"a": [,1]}', '{"a": [1]]}', '{"a": nope}'],
)  # fmt: skip
def test_no_json(tmp_path, text):
    path = tmp_path / 'no.json'
    path.write_text(text)
    with pytest.raises(AnnotationError, match=r'no\.json is not valid json'):
        gather(JsonStream(path))


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'none\.json'):
        JsonStream(tmp_path / 'none.json')


def test_failed_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / 'a.json'
    write_json_stream(path, dict(a=1))

    def broken():
        yield 1
        raise RuntimeError('stop')

    with pytest.raises(RuntimeError, match='stop'):
        write_json_stream(path, dict(a=broken()))
    assert json.loads(path.read_text()) == dict(a=1)
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError):
        write_json_stream(path, dict(a=float('nan')))


def test_bytes_are_reported(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text('{"a": [1, 2]}')
    seen: list[int] = []
    gather(JsonStream(path, on_bytes=seen.append))
    assert seen[-1] == path.stat().st_size


def test_both_layouts(tmp_path):
    image = dict(id=4, file_name='a/b.jpg', height=3, width=5)
    thing = dict(id=1, image_id=4, category_id=2, bbox=[0, 0, 1, 1])
    content = dict(
        info=dict(year=1), images=[image], annotations=[thing], categories=[dict(id=2, name='x')]
    )
    path = tmp_path / 'coco.json'
    path.write_text(json.dumps(content))
    file = read_annotation_file(path)
    assert (file.layout, file.missing, file.num_annotations) == ('image', (), 1)
    assert file.videos[0]['file_names'] == ['a/b.jpg'] and file.others == dict(info=dict(year=1))
    track = next(file.annotations())
    assert (track['video_id'], track['bboxes']) == (4, [[0, 0, 1, 1]])
    path.write_text(json.dumps(dict(videos=[], annotations=None)))
    file = read_annotation_file(path)
    assert (file.layout, file.missing) == ('video', ('categories', 'annotations'))
    assert list(file.annotations()) == []
