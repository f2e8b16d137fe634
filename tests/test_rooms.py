"""What may import what: a package imports those below it, no other."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import mmboxvis

# from the ground up
PACKAGES = ('structures', 'models', 'engine', 'datasets', 'evaluation', 'visualization', 'apis')
IN_MODELS = ('layers', 'losses', 'task_modules', 'trackers', 'heads', 'vis')
ROOT = Path(mmboxvis.__file__).parent


def imported(file: Path) -> list[tuple[str, ...]]:
    """The modules of ours that a file imports, as parts below the package."""
    package = file.relative_to(ROOT).parent.parts
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            found += [tuple(alias.name.split('.')) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = tuple((node.module or '').split('.')) if node.module else ()
            base = package[: len(package) - node.level + 1] if node.level else ()
            whole = ('mmboxvis', *base, *parts) if node.level else parts
            found += [(*whole, alias.name) for alias in node.names]
    return [parts[1:] for parts in found if parts[:1] == ('mmboxvis',)]


@pytest.mark.parametrize(
    ('folder', 'order'), [((), PACKAGES), (('models',), IN_MODELS)], ids=['packages', 'models']
)
def test_imports_go_down(folder: tuple[str, ...], order: tuple[str, ...]) -> None:
    wrong = []
    for own in order:
        for file in sorted(ROOT.joinpath(*folder, own).rglob('*.py')):
            for parts in imported(file):
                if parts[: len(folder)] != folder or len(parts) <= len(folder):
                    continue
                other = parts[len(folder)]
                if other in order and order.index(other) > order.index(own):
                    wrong.append(f'{file.relative_to(ROOT)} imports {".".join(parts)}')
    assert not wrong
