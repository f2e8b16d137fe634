"""Reading configs of strangers, which are programs."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .settings import ConversionError

# what a config may do while it is read: build values, nothing else
SAFE_CALLS = {
    'dict', 'list', 'tuple', 'set', 'range', 'len', 'int', 'float', 'str', 'bool', 'min', 'max',
    'sum', 'sorted', 'zip', 'enumerate', 'abs', 'round', 'update', 'items', 'keys', 'values', 'get',
    'copy', 'append', 'extend', 'join', 'replace', 'split',
}  # fmt: skip
FORBIDDEN = (
    ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda,
    ast.With, ast.Global, ast.While, ast.Try, ast.Delete,
)  # fmt: skip


def check_is_data(path: Path, seen: frozenset[Path] = frozenset()) -> None:
    """Refuses a config that does more than to build values, before mmengine executes it.

    Raises:
        ConversionError: if the file or one of its bases is missing, is no Python, imports or
            defines something, or calls what is not in :data:`SAFE_CALLS`.
    """
    if not path.is_file():
        raise ConversionError(f'there is no config {path}')
    if path in seen:
        raise ConversionError(f'{path} is a base of itself')
    try:
        tree = ast.parse(path.read_text(encoding='utf-8'))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise ConversionError(f'{path} is no Python config: {error}') from error
    for node in ast.walk(tree):
        name = None
        if isinstance(node, FORBIDDEN):
            name = type(node).__name__
        elif isinstance(node, ast.Attribute) and node.attr.startswith('_'):
            name = f'.{node.attr}'
        elif isinstance(node, ast.Call):
            called = getattr(node.func, 'attr', getattr(node.func, 'id', 'an expression'))
            name = None if called in SAFE_CALLS else f'a call of {called}'
        if name is not None:
            raise ConversionError(
                f'{path}, line {getattr(node, "lineno", "?")}: {name} is not read from a config '
                'of others; write its value in place of it'
            )
    for base in _bases(tree, path):
        # package::file is a file of an installed package
        if '::' not in base:
            check_is_data((path.parent / base).resolve(), seen | {path})


def _bases(tree: ast.Module, path: Path) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', '') == '_base_':
            try:
                value = ast.literal_eval(node.value)
            except ValueError as error:
                raise ConversionError(f'{path}: _base_ must be a list of file names') from error
            return [value] if isinstance(value, str) else list(value)
    return []


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The config with its bases, nothing imported.

    Raises:
        ConversionError: see :func:`check_is_data`, or what mmengine says of it.
    """
    check_is_data(Path(path).resolve())
    try:
        cfg = Config.fromfile(
            path,
            import_custom_modules=False,
            use_environment_variables=False,
            lazy_import=False,
        )
    except Exception as error:  # mmengine raises whatever the config's code raises
        raise ConversionError(f'{path}: {type(error).__name__}: {error}') from error
    return cfg.to_dict()
