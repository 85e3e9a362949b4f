"""Packaging: the library, and its configs and tools as mmkd/.mim, as OpenMMLab expects them."""
import os
import shutil

from setuptools import find_packages, setup
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


def read_version() -> str:
    scope: dict = {}
    with open(os.path.join(HERE, 'mmkd', 'version.py')) as file:
        exec(file.read(), scope)
    return scope['__version__']


with open(os.path.join(HERE, 'README.md'), encoding='utf-8') as file:
    README = file.read()

setup(
    name='mmkd',
    version=read_version(),
    description='Knowledge distillation for detectors (mmdet), segmentors (mmseg) and '
    'classifiers (mmpretrain)',
    long_description=README,
    long_description_content_type='text/markdown',
    author='The mmkd authors',
    license='Apache License 2.0',
    packages=find_packages(include=['mmkd', 'mmkd.*']),
    package_data={'mmkd': ['py.typed']},
    cmdclass={'build_py': BuildWithMim},
    python_requires='>=3.10',
    # torch, mmengine, mmcv, mmdet and mmseg are not asked for: an environment that has them,
    # official or fork, CPU or CUDA, stays as it is. mmkd looks at their versions at import.
    install_requires=['numpy'],
    extras_require={
        'det': ['mmdet>=3.0,<4'],
        'seg': ['mmsegmentation>=1.0,<2', 'ftfy', 'regex'],
        # It imports torchvision, which must be the one built for the torch of the environment.
        'cls': ['mmpretrain>=1.2,<2'],
        'safetensors': ['safetensors'],
        'dev': ['pytest', 'pytest-xdist', 'hypothesis', 'ruff', 'mypy', 'safetensors',
                'scikit-learn'],
    },
    classifiers=[
        'License :: OSI Approved :: Apache Software License',
        'Programming Language :: Python :: 3.11',
    ],
    zip_safe=False)
