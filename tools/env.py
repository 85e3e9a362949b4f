"""Print the versions that a report of a fault needs.

    python tools/env.py

The lines say which packages are installed, which GPU there is, and what of the stack mmkd is not
tested with. They name no user and no file, so they can be pasted into an issue.
"""
import argparse
import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from typing import List, Tuple

from command import Parser, run

PACKAGES = ('mmkd', 'torch', 'torchvision', 'numpy', 'mmengine', 'mmcv', 'mmcv-lite', 'mmdet',
            'mmsegmentation', 'mmpretrain', 'onedl-mmengine', 'onedl-mmcv', 'onedl-mmdetection',
            'onedl-mmsegmentation', 'onedl-mmpretrain', 'opencv-python',
            'opencv-python-headless', 'scipy', 'pycocotools', 'safetensors', 'timm',
            'transformers', 'optuna', 'openmim', 'setuptools')
"""Listed where they are installed."""
NEEDED = 'torch', 'numpy', 'mmengine', 'mmcv'
"""Listed even if they are not installed."""
VARIABLES = ('CUDA_VISIBLE_DEVICES', 'NCCL_DEBUG', 'OMP_NUM_THREADS',
             'TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD')
"""Environment variables that change how mmkd runs. None holds a path."""


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    return parser.parse_args()


def main() -> None:
    parse_args()
    lines = [*system(), *packages(), *of_torch(), *settings(), *findings()]
    width = max(len(name) for name, _ in lines)
    print('\n'.join(f'{name:{width}}  {value}' for name, value in lines))


def system() -> List[Tuple[str, str]]:
    """The machine and Python."""
    return [('system', f'{platform.system()} {platform.release()} {platform.machine()}, '
                       f'{os.cpu_count()} CPUs'),
            ('python', sys.version.split()[0])]


def packages() -> List[Tuple[str, str]]:
    """Versions of the installed packages."""
    lines = []
    for name in PACKAGES:
        try:
            text = distribution(name).version
        except PackageNotFoundError:
            if name not in NEEDED and name != 'mmkd':
                continue
            text = 'not installed' if name != 'mmkd' else f'{own_version()} (not installed by pip)'
        lines.append((name, text))
    return lines


def own_version() -> str:
    """Version of mmkd; 'unknown' if it cannot be imported."""
    try:
        from mmkd.version import __version__
    except Exception:
        return 'unknown'
    return __version__


def of_torch() -> List[Tuple[str, str]]:
    """CUDA, GPUs and the compiler."""
    try:
        import torch
    except Exception as error:  # a broken installation is what a report is about
        return [('import torch', f'{type(error).__name__}: {error}')]
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    lines = [('CUDA of torch', str(torch.version.cuda)), ('GPUs', ', '.join(gpus) or 'none')]
    nvcc = shutil.which('nvcc')
    if nvcc:
        said = subprocess.run([nvcc, '--version'], capture_output=True, text=True).stdout
        lines.append(('nvcc', said.strip().splitlines()[-1] if said.strip() else 'no output'))
    try:
        from mmcv.ops import get_compiler_version, get_compiling_cuda_version
        lines.append(('mmcv operators', f'{get_compiler_version()}, CUDA '
                                        f'{get_compiling_cuda_version()}'))
    except Exception as error:  # not compiled, or compiled for another torch
        lines.append(('mmcv operators', f'{type(error).__name__}: {str(error)[:200]}'))
    return lines


def settings() -> List[Tuple[str, str]]:
    """Environment variables."""
    return [(name, os.environ[name]) for name in VARIABLES if name in os.environ]


def findings() -> List[Tuple[str, str]]:
    """What mmkd says of the installed versions."""
    try:
        from mmkd.core.requirements import outside_range
    except Exception as error:
        return [('import mmkd', f'{type(error).__name__}: {error}')]
    return [('not supported', text) for text in outside_range()]


if __name__ == '__main__':
    run(main)
