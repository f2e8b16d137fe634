"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmboxvis.datasets.video_json import read_json
from mmboxvis.evaluation import VISMetric
from mmboxvis.files import (
    ImageRoot,
    OutsideError,
    natural_key,
    path_below,
    require_writable,
    safe_name,
    unique_name,
    whole_file,
    whole_files,
)


def listed(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob('*') if path.is_file())
    return {str(path.relative_to(root)): path.read_text() for path in files}


def test_none_and_several(tmp_path: Path) -> None:
    with whole_files(tmp_path / 'new', overwrite=False):
        pass
    assert listed(tmp_path) == {}
    with whole_files(tmp_path, ['a.txt', 'b/c.txt'], overwrite=False) as draft:
        for name in ('a.txt', 'b/c.txt', 'unnamed.txt'):
            (draft / name).write_text(name)
        assert not (tmp_path / 'a.txt').exists()
    assert listed(tmp_path) == {n: n for n in ('a.txt', 'b/c.txt', 'unnamed.txt')}


@pytest.mark.parametrize('read', [read_json, VISMetric])
@pytest.mark.parametrize(
    ('path', 'told'),
    [
        ('data/bvisd/ytvis21_train.json', r'; sh tools/dataset_converters/prepare\.sh writes it'),
        ('../shared/davis_mini/boxes.json', '; the variable MMBOXVIS_REAL_DATA names the folder'),
        ('data/mine/boxes.json', r'ann_file\b[^;]*$'),
    ],
)
def test_a_file_that_is_not_there_is_told_with_its_origin(
    read: Callable[[str], object], path: str, told: str
) -> None:
    with pytest.raises(FileNotFoundError, match=rf'{path}.*{told}'):
        read(f'/nowhere/{path}')


def test_names_sort_as_people_count() -> None:
    assert sorted([], key=natural_key) == []
    names = ['b2.jpg', 'B10.jpg', 'b1.jpg', '10', '9', 'b', '']
    assert sorted(names, key=natural_key) == ['', '9', '10', 'b', 'b1.jpg', 'b2.jpg', 'B10.jpg']


def test_nothing_changes_when_writing_fails(tmp_path: Path) -> None:
    (tmp_path / 'a.txt').write_text('before')
    with pytest.raises(RuntimeError), whole_files(tmp_path, ['a.txt'], overwrite=True) as draft:
        (draft / 'a.txt').write_text('after')
        raise RuntimeError
    with (
        pytest.raises(FileExistsError, match=r'a\.txt exists already'),
        whole_files(tmp_path, ['a.txt'], overwrite=False),
    ):
        raise AssertionError('must not begin')
    assert listed(tmp_path) == {'a.txt': 'before'}


def test_a_place_that_takes_no_file_is_told(tmp_path: Path) -> None:
    require_writable(tmp_path / 'new/a.txt')
    assert listed(tmp_path) == {} and (tmp_path / 'new').is_dir()
    (tmp_path / 'file').touch()
    for wrong, reason in (('file/a.txt', r'File exists \(.*file\)'), ('new', 'it is a folder')):
        with pytest.raises(OSError, match=f'{wrong} cannot be written: {reason}'):
            require_writable(tmp_path / wrong)


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    link, target = tmp_path / 'link.txt', tmp_path / 'elsewhere' / 'target'
    link.symlink_to(target)
    for text in ('made', 'replaced'):
        with whole_file(link) as temporary:
            assert temporary.suffix == '.txt'
            temporary.write_text(text)
        assert link.is_symlink() and target.read_text() == text
    with pytest.raises(RuntimeError), whole_file(link) as temporary:
        temporary.write_text('half')
        raise RuntimeError
    assert listed(tmp_path / 'elsewhere') == {'target': 'replaced'}


def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    pipe, found = tmp_path / 'pipe', []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()), daemon=True)
    reader.start()
    require_writable(pipe)
    with whole_file(pipe) as given:
        given.write_text('hello')
    reader.join(5)
    assert found == ['hello'] and pipe.is_fifo()


def test_the_last_file_is_moved_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = []
    with whole_files(tmp_path, overwrite=True, last='a.txt') as draft:
        for name in ('a.txt', 'b.txt', 'c.txt'):
            (draft / name).write_text(name)
        monkeypatch.setattr('os.replace', lambda old, new: moved.append(Path(new).name))
    assert moved == ['b.txt', 'c.txt', 'a.txt']


def test_only_links_that_are_named_are_followed(tmp_path: Path) -> None:
    root, disk = tmp_path / 'root', tmp_path / 'disk'
    for folder in (root / 'set', disk / 'train', disk / 'secret'):
        folder.mkdir(parents=True)
    (root / 'whole').symlink_to(disk)
    (root / 'set' / 'train').symlink_to(disk / 'train')
    (disk / 'train' / 'out').symlink_to(disk / 'secret')
    name = 'set/train/0.jpg'
    for strict in (root, ImageRoot(root), ImageRoot(root, ['set', 'set/tra', 'train'])):
        with pytest.raises(OutsideError, match='goes through a link'):
            path_below(strict, name)
    # with and without the parent named, and with the slash that a shell completes
    for linked in (['set/train'], ['set', 'set/train'], ['set/train', 'set'], ['./set//train/']):
        assert path_below(ImageRoot(root, linked), name) == str(root / name)
    # a link on the way to the folder, and all that lies in a folder which is one
    assert path_below(ImageRoot(root, ['whole/train']), 'whole/train/0.jpg')
    assert path_below(ImageRoot(root, ['whole']), 'whole/secret/0.jpg')
    for linked, outside in (
        (['set/train'], 'set/train/out/0.jpg'),
        (['set/train'], 'set/train/../train/0.jpg'),
        (['whole/train'], 'whole/secret/0.jpg'),
        (['whole/train'], 'whole/trainer/0.jpg'),
        (['whole/train'], 'whole/train/out/0.jpg'),
        (['whole/train'], './whole/train/0.jpg'),
    ):
        with pytest.raises(OutsideError):
            path_below(ImageRoot(root, linked), outside)


@pytest.mark.parametrize('linked', ['set/train', [''], ['.'], ['/etc'], ['set/../..'], ['C:/x']])
def test_linked_folders_are_a_list_of_folders_below(linked: list[str]) -> None:
    with pytest.raises(ValueError, match='linked'):
        ImageRoot('root', linked)


@settings(deadline=None, max_examples=60)
@given(st.text())
def test_any_name_is_one_safe_part(name: str) -> None:
    safe = safe_name(name)
    assert not set(safe) & set('/\\:\0')
    assert not safe.startswith('.') and len(safe.encode()) <= 200


def test_unique_names() -> None:
    assert unique_name('a', [], 3) == 'a'
    assert unique_name('a', ['a'], 3) == 'a_3'
    assert unique_name('a', ['a', 'a_3', 'a_3_2'], 3) == 'a_3_3'
