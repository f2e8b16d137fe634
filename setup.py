"""Packaging of mmboxvis; the settings of the tools around it are in pyproject.toml."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
MIM_CONTENT = ('configs', 'tools', 'model-index.yml')


class BuildWithMim(build_py):
    """Brings configs, tools and the model index along under ``mmboxvis/.mim``.

    OpenMMLab's tools look for them there. An editable install links to the originals, so that
    an edited config takes effect at once; a wheel holds copies.
    """

    def run(self) -> None:
        """Build as usual, then add ``.mim``."""
        super().run()
        if self.editable_mode:
            self._link(ROOT / 'mmboxvis' / '.mim')
        else:
            self._copy(Path(self.build_lib) / 'mmboxvis' / '.mim')

    @staticmethod
    def _link(target: Path) -> None:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        for name in MIM_CONTENT:
            try:
                (target / name).symlink_to(os.path.relpath(ROOT / name, target))
            except OSError:  # no right to make links, as on Windows
                BuildWithMim._copy_one(ROOT / name, target / name)

    @staticmethod
    def _copy(target: Path) -> None:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in MIM_CONTENT:
            BuildWithMim._copy_one(ROOT / name, target / name)

    @staticmethod
    def _copy_one(source: Path, target: Path) -> None:
        if source.is_dir():
            ignored = shutil.ignore_patterns('__pycache__', '*.pyc')
            shutil.copytree(source, target, ignore=ignored)
        elif source.exists():
            shutil.copy2(source, target)


def read_version() -> str:
    """Return the version without importing the package, which needs the stack."""
    text = (ROOT / 'mmboxvis' / 'version.py').read_text(encoding='utf-8')
    return text.partition("__version__ = '")[2].partition("'")[0]


def read_requirements(name: str) -> list[str]:
    """Return the requirements of one file in ``requirements/``."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8').splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith('#')]


setup(
    name='mmboxvis',
    version=read_version(),
    description='Video instance segmentation from boxes only, on the OpenMMLab stack',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author='mmboxvis contributors',
    license='Apache-2.0',
    license_files=['LICENSE'],
    keywords='video instance segmentation, box supervision, BoxVIS, Mask2Former, OpenMMLab',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.11',
        'Topic :: Scientific/Engineering :: Image Recognition',
    ],
    python_requires='>=3.11',
    packages=find_packages(include=['mmboxvis', 'mmboxvis.*']),
    include_package_data=True,
    # The stack is an extra: its packages share import names with mmcv, mmengine and mmdet, so
    # no resolver would notice that it installs one over the other.
    install_requires=read_requirements('runtime'),
    extras_require={
        'onedl': read_requirements('mminstall'),
        'loggers': read_requirements('loggers'),
        'onnx': read_requirements('onnx'),
        'pretrained': read_requirements('pretrained'),
        'tests': read_requirements('tests'),
    },
    cmdclass={'build_py': BuildWithMim},
    zip_safe=False,
)
