"""Which stacks can be tested? A new one is a row here."""
from typing import Dict, NamedTuple


class Cell(NamedTuple):
    """Versions of one environment; everything else is what pip finds for them."""
    python: str
    torch: str
    numpy: str
    stack: str = 'openmmlab'
    """Its mmcv is in requirements/versions.sh, its other packages in requirements/stack_*.txt."""


CELLS: Dict[str, Cell] = {
    'torch-2.1': Cell('3.10', '2.1.2', '1.26.4'),
    'torch-2.4': Cell('3.11', '2.4.1', '1.26.4'),
    'torch-2.6': Cell('3.12', '2.6.0', '2.2.6'),
    'torch-2.9': Cell('3.12', '2.9.1', '2.3.5'),  # setup.py of mmcv 2.1 fails on Python 3.13
    'torch-2.13': Cell('3.11', '2.13.0', '2.3.5'),
    'torch-2.14': Cell('3.11', '2.14.1', '2.3.5'),
    'onedl': Cell('3.11', '2.13.0', '2.3.5', 'onedl'),
}
SHORT = (
    'tests/test_bad_input/test_bad_files.py',
    'tests/test_compare',
    'tests/test_distiller.py',
    'tests/test_files/test_checkpoint.py',
    'tests/test_files/test_trust.py',
    'tests/test_files/test_unpickler.py',
    'tests/test_hooks/test_resume.py',
    'tests/test_losses/test_cwd.py',
    'tests/test_losses/test_dist.py',
    'tests/test_losses/test_kd.py',
    'tests/test_losses/test_pkd.py',
    'tests/test_networks/test_cached.py',
    'tests/test_networks/test_frozen.py',
    'tests/test_tools/test_publish.py',
    'tests/test_tools/test_tools.py',
)
"""Tests that prove a cell: losses, files, teachers, training, resume, tools."""
