"""Is the stack that mmboxvis stands on installed, complete and of a tested version?

Nothing of the stack is imported here, so the check costs milliseconds, and a missing part gives
one message that says what to run instead of a traceback from the middle of another package.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib import metadata
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec


@dataclass(frozen=True)
class Part:
    """One package of the stack.

    Attributes:
        module: The name that is imported.
        distributions: The names that it is installed under; they exclude each other.
        at_least: The lowest version that has all that is called.
        below: The first version that nobody has tried.
    """

    module: str
    distributions: tuple[str, ...]
    at_least: str
    below: str


# torch begins with torch.compiler.is_exporting, which the attention on the CPU calls; the others
# begin with what is installed and tested.
STACK = (
    Part('torch', ('torch',), '2.7', '2.14'),
    Part('mmengine', ('onedl-mmengine', 'mmengine'), '0.10.12', '0.11'),
    Part('mmcv', ('onedl-mmcv', 'mmcv', 'mmcv-lite'), '2.3.6', '2.4'),
    Part('mmdet', ('onedl-mmdetection', 'mmdet'), '3.5.1', '3.6'),
)

INSTALL_COMMAND = "pip install 'mmboxvis[onedl]'"
OPERATORS_COMMANDS = (
    'pip install torch ninja psutil setuptools wheel\n'
    '  pip install --force-reinstall --no-deps --no-build-isolation --no-cache-dir '
    '--no-binary onedl-mmcv onedl-mmcv==2.3.6'
)


def check_stack() -> None:
    """Check the stack; called once when mmboxvis is imported.

    Warns:
        UserWarning: For a version that is not tested, and for two distributions that were
            installed over each other (onedl-mmcv and mmcv, say).

    Raises:
        ImportError: If a package of the stack, or mmcv's compiled operators, are missing.
    """
    specs = {part.module: _find(part.module) for part in STACK}
    missing = [module for module, spec in specs.items() if spec is None]
    if missing:
        raise ImportError(
            f'mmboxvis needs {_listed(missing)}, not installed in this Python. In a checkout '
            'of mmboxvis run:\n  make setup\n'
            f'which also compiles the operators of mmcv; elsewhere run:\n  {INSTALL_COMMAND}\n'
            f'and then, for the operators:\n  {OPERATORS_COMMANDS}'
        )
    if not _has_operators(specs['mmcv']):
        raise ImportError(
            'mmcv is installed without its compiled operators (there is no mmcv._ext), which '
            'is what a plain `pip install onedl-mmcv` gives. In a checkout of mmboxvis run:\n'
            f'  make setup\nor compile them beside the installed torch:\n  {OPERATORS_COMMANDS}'
        )
    for part in STACK:
        _check_version(part)


def _find(module: str) -> ModuleSpec | None:
    try:
        return find_spec(module)
    except (ImportError, ValueError):  # an import hook refuses it, or a stub stands in for it
        return None


def _has_operators(mmcv: ModuleSpec | None) -> bool:
    """Look for ``mmcv._ext`` without importing mmcv."""
    folders = mmcv.submodule_search_locations if mmcv is not None else None
    return folders is not None and PathFinder.find_spec('mmcv._ext', list(folders)) is not None


def _check_version(part: Part) -> None:
    from packaging.version import InvalidVersion, Version

    installed = {name: _version(name) for name in part.distributions}
    versions = {name: version for name, version in installed.items() if version is not None}
    if len(versions) > 1:
        _warn(
            f'{_listed(list(versions))} are installed over each other (all import as '
            f'{part.module}); uninstall all of them and install one.'
        )
    for name, version in versions.items():
        try:
            old = Version(version) < Version(part.at_least)
            tested = not old and Version(version) < Version(part.below)
        except InvalidVersion:
            old = tested = False
        if not tested:
            outlook = 'lack what mmboxvis calls' if old else 'work all the same'
            _warn(
                f'{name} {version} is outside the range that mmboxvis is tested with '
                f'({part.at_least} <= version < {part.below}). It may {outlook}.'
            )


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f'{", ".join(names[:-1])} and {names[-1]}'


def _warn(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=2)
