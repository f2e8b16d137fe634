"""Checkpoints as files: whether one is whole, which is the newest, and what is in it."""

from __future__ import annotations

import hashlib
import logging
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.fileio import get_local_path
from mmengine.logging import HistoryBuffer, print_log

from mmboxvis.files import StrPath, whole_file
from mmboxvis.plain_pickle import ADMITTED_BY_TORCH

_STEP = re.compile(r'(?:iter|epoch)_(\d+)\.pth')


class CheckpointError(Exception):
    """A checkpoint is broken or holds what it must not; the message is one line."""


def require_whole(path: StrPath) -> None:
    """Reads a checkpoint through and compares its check sums, which torch does not.

    Files of torch before 1.6 carry none and pass.

    Raises:
        CheckpointError: if the file is empty, cut short or changed.
        FileNotFoundError: if there is none.
    """
    with open(path, 'rb') as file:
        start = file.read(4)
        if not start:
            raise CheckpointError(f'{path} is empty: use an older checkpoint')
        if start != b'PK\x03\x04':
            return
        try:
            with zipfile.ZipFile(file) as archive:
                broken = archive.testzip()
        except (zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
            raise CheckpointError(
                f'{path} is cut short or damaged ({error}): use an older checkpoint'
            ) from error
    if broken is not None:
        raise CheckpointError(f'{path} is damaged in {broken}: use an older checkpoint')


@contextmanager
def local_checkpoint(path: StrPath) -> Iterator[Path]:
    """Gives the local file of a checkpoint, wherever it is.

    What ``http(s)://`` names is fetched once, to the folder where torch keeps such files; other
    schemes are those of mmengine's file backends, and their copies go when the block is left.

    Args:
        path: a local path or a URL.

    Raises:
        CheckpointError: if it cannot be fetched.
    """
    url = str(path)
    if '://' not in url:
        yield Path(path)
        return
    with ExitStack() as copies:
        try:
            if url.startswith(('http://', 'https://')):
                local = _download(url)
            else:
                local = Path(copies.enter_context(get_local_path(url)))
        except (OSError, HTTPException, ImportError, KeyError, ValueError) as error:
            reason = f'no backend for {error}' if isinstance(error, KeyError) else error
            raise CheckpointError(f'{url} cannot be fetched: {reason}') from error
        yield local


def _download(url: str) -> Path:
    """The file behind a URL; one that is broken off is not kept.

    Raises:
        CheckpointError: if what comes is cut short or damaged.
    """
    name = Path(urlparse(url).path).name or 'checkpoint.pth'
    # two URLs may end in one name
    key = hashlib.sha256(url.encode()).hexdigest()[:12]
    target = Path(torch.hub.get_dir(), 'checkpoints', f'{key}-{name}')
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        # torch does not notice a lost connection
        with whole_file(target) as temporary:
            torch.hub.download_url_to_file(url, str(temporary), progress=is_main_process())
            try:
                require_whole(temporary)
            except CheckpointError as error:
                raise CheckpointError(f'{url} was not fetched whole, try again') from error
    return target


def read_checkpoint(path: StrPath, map_location: Any = 'cpu') -> dict[str, Any]:
    """Loads a checkpoint that is whole and holds nothing but tensors and plain values.

    No code of the file is run: it is loaded with ``weights_only=True``. The history of the log, as
    mmengine stores it, is allowed beside.

    Args:
        path: a local file.
        map_location: as in ``torch.load``.

    Raises:
        CheckpointError: if it is broken, or holds other objects.
        FileNotFoundError: if there is none.
    """
    require_whole(path)
    try:
        with torch.serialization.safe_globals(list(ADMITTED_BY_TORCH)):
            content = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise CheckpointError(
            f'{path} holds more than tensors and plain values, and is not loaded, because code '
            f'could hide in it ({reason}); if you trust its source, load it with torch and save '
            "its 'state_dict' alone"
        ) from error
    except Exception as error:  # the unpickler raises whatever it stumbles over
        raise CheckpointError(f'{path} is no checkpoint of torch ({error})') from error
    if not isinstance(content, dict):
        raise CheckpointError(f'{path} holds a {type(content).__name__}, expected a dict')
    return content


def checkpoint_folder(work_dir: StrPath) -> Path:
    """Where the checkpoints of a run are.

    Args:
        work_dir: of the run. Its ``last_checkpoint`` names the newest checkpoint by an absolute
            path, which leads elsewhere if the hook was given another folder, and nowhere if the
            work folder was moved or copied since.

    Returns:
        The work folder if it holds the checkpoint of that name, or none is named; otherwise the
        folder of the named one.
    """
    work_dir = Path(work_dir)
    last = _last_checkpoint(work_dir)
    if not last or (work_dir / Path(last).name).is_file():
        return work_dir
    return Path(last).parent


def _last_checkpoint(work_dir: Path) -> str:
    """What ``last_checkpoint`` says; empty without the file."""
    marker = work_dir / 'last_checkpoint'
    return marker.read_text(encoding='utf-8').strip() if marker.is_file() else ''


def saved_steps(folder: StrPath) -> dict[Path, int]:
    """The checkpoints in a folder and their steps, the fewest first."""
    steps = {
        path: int(match[1])
        for path in Path(folder).glob('*.pth')
        if (match := _STEP.fullmatch(path.name))
    }
    return dict(sorted(steps.items(), key=lambda item: item[1]))


def newest_whole(work_dir: StrPath) -> Path | None:
    """The newest checkpoint of a run that is whole; the log warns of others.

    Args:
        work_dir: of the run, see :func:`checkpoint_folder`. Files of more steps than the one that
            ``last_checkpoint`` names, and older than it, were left by another run, before this one
            began anew.
    """
    steps = saved_steps(checkpoint_folder(work_dir))
    named = _STEP.fullmatch(Path(_last_checkpoint(Path(work_dir))).name)
    last = max(steps.values(), default=0) if named is None else int(named[1])
    times = {path: path.stat().st_mtime for path in steps}
    named_at = max((times[path] for path, step in steps.items() if step == last), default=0.0)
    strangers = [path for path, step in steps.items() if step > last and times[path] < named_at]
    if strangers:
        print_log(
            f'{work_dir}: {", ".join(path.name for path in strangers)} left out, of an earlier '
            f'run: this one has come to step {last}',
            logger='current',
            level=logging.WARNING,
        )
    for path in reversed([path for path in steps if path not in strangers]):
        try:
            content = read_checkpoint(path)
            if not {'meta', 'state_dict', 'optimizer'} <= content.keys():
                raise CheckpointError(f'{path} lacks the state of the optimiser')
        except CheckpointError as error:
            print_log(f'{error}; it is left out', logger='current', level=logging.WARNING)
        else:
            return path
    return None


# ------------------------------------------------------------------ plain values


def plain(value: Any) -> Any:
    """Numpy's numbers and arrays as Python's, within dicts and sequences; the rest as it is."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        parts = [plain(inner) for inner in value]
        return tuple(parts) if isinstance(value, tuple) else parts
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    return value


def plain_history(message_hub: Mapping[str, Any]) -> dict[str, Any]:
    """The state of mmengine's message hub with tensors in place of its ``HistoryBuffer``s."""
    scalars = {}
    for name, buffer in message_hub.get('log_scalars', {}).items():
        values, counts = buffer.data
        scalars[name] = dict(
            values=torch.as_tensor(np.asarray(values, np.float64)),
            counts=torch.as_tensor(np.asarray(counts, np.float64)),
            max_length=int(buffer.max_length),
        )
    return {**message_hub, 'log_scalars': scalars}


def rebuilt_history(message_hub: Mapping[str, Any]) -> dict[str, Any]:
    """The reverse of :func:`plain_history`; buffers pass as they are."""
    scalars = {}
    for name, content in message_hub.get('log_scalars', {}).items():
        if isinstance(content, Mapping):
            content = HistoryBuffer(
                content['values'].cpu().numpy(),
                content['counts'].cpu().numpy(),
                content['max_length'],
            )
        scalars[name] = content
    return {**message_hub, 'log_scalars': scalars}
