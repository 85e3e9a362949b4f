"""Import a single file of the authors' code, with stubs for packages that are missing."""
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Dict

import torch
from torch import Tensor


class Registry:
    """Replaces a registry of OpenMMLab; does not register anything."""

    @staticmethod
    def register_module() -> Any:
        return lambda cls: cls


def stub(name: str, **members: Any) -> None:
    """Make ``import name`` return a package with these members."""
    module = ModuleType(name)
    module.__path__ = []  # marks it as a package, for relative imports
    vars(module).update(members)
    sys.modules[name] = module


def load(path: Path, name: str = '') -> ModuleType:
    """Import a file as the module ``name``, whose packages are stubs.

    By default the name is 'authors_<file>', a module without a package.
    """
    name = name or f'authors_{path.stem}'
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def some(*shape: int, seed: int) -> Tensor:
    """Draw seeded float64 numbers from a standard normal distribution."""
    return torch.randn(*shape, dtype=torch.float64,
                       generator=torch.Generator().manual_seed(seed))


def fill(module: torch.nn.Module, seed: int) -> Dict[str, Tensor]:
    """Set seeded nonzero float64 weights and training mode; return the state dict."""
    module.double().train()
    for number, tensor in enumerate(module.parameters()):
        tensor.data = 0.5 * some(*tensor.shape, seed=seed + number)
    return {name: value.clone() for name, value in module.state_dict().items()
            if not name.endswith(('running_mean', 'running_var', 'num_batches_tracked'))}
