"""Configs and tools as mmkd/.mim, where OpenMMLab's `mim` looks. The rest is in pyproject.toml."""
import os
import shutil

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = os.path.dirname(os.path.abspath(__file__))
MIM_CONTENTS = ('configs', 'tools', 'model-index.yml')


class BuildWithMim(build_py):
    """Put configs and tools into the wheel."""

    def run(self) -> None:
        super().run()
        if getattr(self, 'editable_mode', False):
            return  # they lie beside the package already
        mim = os.path.join(self.build_lib, 'mmkd', '.mim')
        shutil.rmtree(mim, ignore_errors=True)
        os.makedirs(mim)
        for name in MIM_CONTENTS:
            source, target = os.path.join(HERE, name), os.path.join(mim, name)
            if os.path.isdir(source):
                shutil.copytree(source, target, ignore=shutil.ignore_patterns('__pycache__'))
            else:
                shutil.copy(source, target)


setup(cmdclass={'build_py': BuildWithMim})
