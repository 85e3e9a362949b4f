"""Write what the authors' code of a method returns on small inputs, as numbers for the tests.

Each script of this folder imports a repository from a clone given on its command line, and calls
:func:`write`. The clones are not part of mmkd.

    git clone https://github.com/<owner>/<name> clone
    python benchmarks/authors/<method>.py clone
"""
import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

from torch import Tensor

NUMBERS = Path(__file__).resolve().parents[2] / 'tests' / 'authors'
"""Folder of the numbers, which ``tests/support/authors.py`` reads."""


class Case(NamedTuple):
    """One call of the authors' code."""
    settings: Dict[str, Any]
    """Arguments of the loss."""
    inputs: Dict[str, Any]
    """Inputs: tensors, lists of tensors, numbers."""
    outputs: Dict[str, Any]
    """Results, and gradients if they are compared."""


def write(method: str, repository: str, clone: str, cases: List[Case]) -> None:
    """Write tests/authors/<method>.json.

    Args:
        method (str): Name of the method.
        repository (str): Address of the repository.
        clone (str): Path of the clone, whose commit is recorded.
        cases (list[Case]): The calls.
    """
    commit = subprocess.run(['git', '-C', clone, 'rev-parse', 'HEAD'], capture_output=True,
                            text=True, check=True).stdout.strip()
    numbers = [_plain(case._asdict()) for case in cases]
    outputs = json.dumps([case['outputs'] for case in numbers], sort_keys=True)
    found = dict(repository=repository, commit=commit,
                 hash=hashlib.sha256(outputs.encode()).hexdigest(), cases=numbers)
    NUMBERS.mkdir(exist_ok=True)
    path = NUMBERS / f'{method}.json'
    path.write_text(json.dumps(found, separators=(',', ':'), sort_keys=True) + '\n')
    print(f'{path}: {len(cases)} cases, commit {commit}, outputs {found["hash"][:12]}')


def _plain(value: Any) -> Any:
    """JSON for tensors, and containers of them; 7 digits for float32, 12 for float64."""
    if isinstance(value, Tensor):
        digits = 12 if value.element_size() == 8 else 7
        flat = value.detach().flatten().tolist()
        return dict(dtype=str(value.dtype).removeprefix('torch.'), shape=list(value.shape),
                    values=[float(f'{one:.{digits}g}') if isinstance(one, float) else one
                            for one in flat])
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value
