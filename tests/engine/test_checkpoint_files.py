"""Checkpoints that are broken, hostile, or older than one would like."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmboxvis.engine import checkpoint_files
from mmboxvis.engine.checkpoint_files import (
    CheckpointError,
    checkpoint_folder,
    local_checkpoint,
    newest_whole,
    plain,
    plain_history,
    read_checkpoint,
    rebuilt_history,
    require_whole,
)

CONTENT = dict(meta=dict(iter=3), state_dict=OrderedDict(a=torch.arange(5000.0)), optimizer={})


def save(path: Path, content: Any = CONTENT) -> Path:
    torch.save(content, path)
    return path


class Runs:
    """What an attacker would put into a pickle."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ('hacked',)


def test_whole_checkpoint_is_read(tmp_path: Path) -> None:
    path = save(tmp_path / 'iter_3.pth')
    require_whole(path)
    assert torch.equal(read_checkpoint(path)['state_dict']['a'], CONTENT['state_dict']['a'])
    old = tmp_path / 'old.pth'
    torch.save(CONTENT, old, _use_new_zipfile_serialization=False)
    assert read_checkpoint(old)['meta'] == dict(iter=3)


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    path = save(tmp_path / 'iter_3.pth')
    whole = path.read_bytes()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r'iter_3\.pth'):
            read_checkpoint(path)


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = save(tmp_path / 'iter_3.pth')
    data = bytearray(path.read_bytes())
    data[data.index(CONTENT['state_dict']['a'].numpy().tobytes()) + 1000] ^= 4
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match='damaged in'):
        read_checkpoint(path)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path / 'iter_3.pth', dict(CONTENT, meta=Runs()))
    with pytest.raises(CheckpointError, match='code could hide in it'):
        read_checkpoint(path)
    assert not (tmp_path / 'hacked').exists()


@pytest.mark.parametrize('content', [[1, 2], torch.zeros(3)])
def test_other_content_is_named(tmp_path: Path, content: Any) -> None:
    with pytest.raises(CheckpointError, match='expected a dict'):
        read_checkpoint(save(tmp_path / 'a.pth', content))


@pytest.mark.parametrize('text', ['version https://git-lfs.github.com/spec/v1\n', 'broken', 'PK'])
def test_text_is_no_checkpoint(tmp_path: Path, text: str) -> None:
    path = tmp_path / 'a.pth'
    path.write_text(text)
    with pytest.raises(CheckpointError, match=r'a\.pth'):
        read_checkpoint(path)
    with pytest.raises(FileNotFoundError):
        read_checkpoint(tmp_path / 'nowhere.pth')


def test_newest_whole_goes_back_until_one_is_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert newest_whole(tmp_path) is None
    for step in (9, 10, 100, 1000):
        save(tmp_path / f'iter_{step}.pth')
    save(tmp_path / 'best_AP_iter_5000.pth')
    assert newest_whole(tmp_path) == tmp_path / 'iter_1000.pth'
    (tmp_path / 'iter_1000.pth').write_bytes(b'')
    torch.save(dict(CONTENT['state_dict']), tmp_path / 'iter_100.pth')
    told: list[str] = []
    monkeypatch.setattr(checkpoint_files, 'print_log', lambda text, **_: told.append(text))
    assert newest_whole(tmp_path) == tmp_path / 'iter_10.pth'
    assert [text.split()[0] for text in told] == [
        str(tmp_path / f'iter_{step}.pth') for step in (1000, 100)
    ]
    assert all(text.endswith('it is left out') for text in told)


def test_what_an_earlier_run_left_is_not_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (3, 6, 9):
        path = save(tmp_path / f'iter_{step}.pth')
        os.utime(path, (100 - step, 100 - step))  # the third step was made after the others
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_3.pth'))
    told: list[str] = []
    monkeypatch.setattr(checkpoint_files, 'print_log', lambda text, **_: told.append(text))
    assert newest_whole(tmp_path) == tmp_path / 'iter_3.pth'
    assert len(told) == 1 and 'iter_6.pth, iter_9.pth left out' in told[0]
    (tmp_path / 'last_checkpoint').write_text('')  # killed while mmengine wrote it
    assert newest_whole(tmp_path) == tmp_path / 'iter_9.pth'
    # killed before
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_3.pth'))
    os.utime(tmp_path / 'iter_6.pth', (200, 200))
    assert newest_whole(tmp_path) == tmp_path / 'iter_6.pth'


def test_checkpoints_of_a_run_that_was_moved(tmp_path: Path) -> None:
    """``last_checkpoint`` still names the folder that the run was in."""
    old, new, other = (tmp_path / name for name in ('old', 'new', 'other'))
    for folder in (new, other):
        folder.mkdir()
    assert checkpoint_folder(new) == new
    (new / 'last_checkpoint').write_text(str(old / 'iter_3.pth'))
    assert checkpoint_folder(new) == old
    save(new / 'iter_3.pth')
    assert checkpoint_folder(new) == new
    # of a run whose hook writes elsewhere
    (new / 'last_checkpoint').write_text(f'{save(other / "iter_6.pth")}\n')
    assert checkpoint_folder(new) == other


def test_history_of_the_log_survives_as_tensors(tmp_path: Path) -> None:
    buffer = HistoryBuffer([1.5, 2.5], [1, 2], max_length=7)
    hub = dict(log_scalars={'train/loss': buffer}, runtime_info=dict(best=np.float64(0.5)))
    path = save(tmp_path / 'a.pth', plain(plain_history(hub)))
    back = rebuilt_history(torch.load(path, weights_only=True))
    again = back['log_scalars']['train/loss']
    assert back['runtime_info'] == dict(best=0.5) and again.max_length == 7
    assert all(np.array_equal(a, b) for a, b in zip(again.data, buffer.data))
    assert rebuilt_history(hub)['log_scalars']['train/loss'] is buffer


def test_plain_keeps_tensors_and_kinds() -> None:
    tensor = torch.ones(2)
    value = plain({3: [np.int64(4), (np.zeros(2), tensor)], 'a': None})
    assert value[3][0] == 4 and type(value[3][0]) is int
    assert value[3][1][0] == [0.0, 0.0] and value[3][1][1] is tensor


# ------------------------------------------------------------------ elsewhere


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder and the URL it is served at; what is fetched goes to another folder."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    folder = tmp_path / 'served'
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield folder, f'http://127.0.0.1:{served.server_port}'
        served.shutdown()


def test_a_local_checkpoint_is_where_it_is(tmp_path: Path) -> None:
    with local_checkpoint(tmp_path / 'a.pth') as path:
        assert path == tmp_path / 'a.pth'


def test_a_url_is_fetched_once_and_read_like_a_file(server: tuple[Path, str]) -> None:
    folder, url = server
    save(folder / 'iter_3.pth')
    for _ in range(2):
        with local_checkpoint(f'{url}/iter_3.pth') as path:
            assert read_checkpoint(path)['meta'] == dict(iter=3)
        (folder / 'iter_3.pth').unlink(missing_ok=True)  # the second time nobody asks


def test_two_urls_may_end_in_one_name(server: tuple[Path, str]) -> None:
    folder, url = server
    found = []
    for number in (1, 2):
        (folder / str(number)).mkdir()
        save(folder / str(number) / 'last.pth', dict(meta=dict(iter=number), state_dict={}))
        with local_checkpoint(f'{url}/{number}/last.pth') as path:
            found.append(read_checkpoint(path)['meta']['iter'])
    assert found == [1, 2]


def test_code_behind_a_url_is_not_run(
    server: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, url = server
    save(folder / 'evil.pth', dict(state_dict={}, meta=Runs()))
    with (
        pytest.raises(CheckpointError, match='code'),
        local_checkpoint(f'{url}/evil.pth') as path,
    ):
        read_checkpoint(path)
    assert not Path('hacked').exists()


def test_what_cannot_be_fetched_is_named(server: tuple[Path, str]) -> None:
    _, url = server
    for wrong in (f'{url}/nothing.pth', 'nowhere://a.pth', 'http://127.0.0.1:9/a.pth'):
        with (
            pytest.raises(CheckpointError, match=f'{wrong} cannot be fetched'),
            local_checkpoint(wrong),
        ):
            pass


def test_an_error_in_the_block_is_not_taken_for_one_of_fetching(server: tuple[Path, str]) -> None:
    folder, url = server
    save(folder / 'a.pth')
    with pytest.raises(ValueError, match='of the block'), local_checkpoint(f'{url}/a.pth'):
        raise ValueError('of the block')


def test_a_download_that_was_broken_off_is_not_kept(
    server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, url = server
    whole = save(folder / 'a.pth').read_bytes()

    def cut(url: str, target: str, progress: bool) -> None:
        Path(target).write_bytes(whole[: len(whole) // 2])

    with monkeypatch.context() as patch:
        patch.setattr(torch.hub, 'download_url_to_file', cut)
        with (
            pytest.raises(CheckpointError, match=f'{url}/a.pth was not fetched whole'),
            local_checkpoint(f'{url}/a.pth'),
        ):
            pass
    with local_checkpoint(f'{url}/a.pth') as path:
        assert read_checkpoint(path)['meta'] == dict(iter=3)
