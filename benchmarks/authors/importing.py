"""Import a file of the authors' code by itself, or with stubs of packages that are missing."""
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Dict

import torch
from torch import Tensor


class Registry:
    """Stands for a registry of OpenMMLab: it registers nothing."""

    @staticmethod
    def register_module() -> Any:
        return lambda cls: cls


def stub(name: str, **members: Any) -> None:
    """Have ``import name`` find a package with these members."""
    module = ModuleType(name)
    module.__path__ = []  # a package, for relative imports
    vars(module).update(members)
    sys.modules[name] = module


def load(path: Path, name: str = '') -> ModuleType:
    """Import a file as the module ``name``, whose packages are stubs; by default 'authors_<file>',
    a module without a package."""
    name = name or f'authors_{path.stem}'
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def some(*shape: int, seed: int) -> Tensor:
    """Seeded float64 numbers of a standard normal distribution."""
    return torch.randn(*shape, dtype=torch.float64,
                       generator=torch.Generator().manual_seed(seed))


def fill(module: torch.nn.Module, seed: int) -> Dict[str, Tensor]:
    """Give a module seeded float64 weights, none of them zero, in training mode; its state."""
    module.double().train()
    for number, tensor in enumerate(module.parameters()):
        tensor.data = 0.5 * some(*tensor.shape, seed=seed + number)
    return {name: value.clone() for name, value in module.state_dict().items()
            if not name.endswith(('running_mean', 'running_var', 'num_batches_tracked'))}
