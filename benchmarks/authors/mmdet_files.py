"""Import files from a clone of mmdet without the packages that they need."""
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Dict, List
from unittest.mock import patch

import torch
from torch import Tensor, nn


class Registry:
    """A registry that builds the classes of the imported files."""

    def __init__(self) -> None:
        self.classes: Dict[str, type] = {}

    def register_module(self, *args: Any, **kwargs: Any) -> Callable[[type], type]:
        def register(kind: type) -> type:
            self.classes[kind.__name__] = kind
            return kind

        return register

    def build(self, entry: Dict[str, Any], *args: Any) -> Any:
        entry = dict(entry)
        return self.classes[entry.pop('type')](**entry)


class Clone:
    """Files of a clone of mmdet.

    Args:
        path (str): Path of the clone.
        is_two (bool): Whether it is mmdet 2, which is not installed: its packages and mmcv 1 are
            replaced by stubs. Otherwise the files are imported into the installed mmdet 3.
    """

    def __init__(self, path: str, is_two: bool) -> None:
        self.path, self.registry = path, Registry()
        self.modules: Dict[str, ModuleType] = {}
        if is_two:
            for name in ('mmdet', 'mmdet.core', 'mmdet.core.bbox', 'mmdet.core.bbox.assigners',
                         'mmdet.core.bbox.iou_calculators', 'mmdet.models',
                         'mmdet.models.dense_heads', 'mmdet.models.losses', 'mmcv'):
                self.stub(name).__path__ = []
            self.stub('mmcv', jit=lambda **kwargs: lambda function: function)
            self.stub('mmcv.runner', force_fp32=lambda **kwargs: lambda function: function)
            self.stub('mmdet.models.builder', HEADS=self.registry, LOSSES=self.registry,
                      build_loss=self.registry.build)
            self.stub('mmdet.core.bbox.builder', BBOX_ASSIGNERS=self.registry)
            self.stub('mmdet.core.bbox.iou_calculators.builder', IOU_CALCULATORS=self.registry)
            self.stub('mmdet.core.bbox.assigners.assign_result', AssignResult=object)
            self.stub('mmdet.core.bbox.assigners.base_assigner', BaseAssigner=object)
            self.stub('mmdet.models.dense_heads.gfl_head', GFLHead=nn.Module)
        else:
            self.stub('mmdet.registry', MODELS=self.registry)

    def stub(self, name: str, **values: Any) -> ModuleType:
        """Make a module with these values."""
        module = self.modules.setdefault(name, ModuleType(name))
        vars(module).update(values)
        return module

    def load(self, name: str) -> ModuleType:
        """Import a file by its dotted name. The modules that it imports must exist."""
        file = Path(self.path, *name.split('.')).with_suffix('.py')
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None, name
        assert spec.loader is not None, name
        self.modules[name] = module = importlib.util.module_from_spec(spec)
        with patch.dict(sys.modules, self.modules):
            spec.loader.exec_module(module)
        return module

    def ld_head(self) -> Any:
        """Return the class LDHead of mmdet 2, with its losses registered."""
        calculators = self.load('mmdet.core.bbox.iou_calculators.iou2d_calculator')
        build = self.registry.build
        self.stub('mmdet.core', bbox_overlaps=calculators.bbox_overlaps, multi_apply=None,
                  reduce_mean=None, anchor_inside_flags=None, unmap=None, images_to_levels=None,
                  distance2bbox=decoded, bbox2distance=encoded)
        self.stub('mmdet.core.bbox.iou_calculators', build_iou_calculator=build)
        for part in ('utils', 'kd_loss', 'iou_loss'):
            self.load(f'mmdet.models.losses.{part}')
        return self.load('mmdet.models.dense_heads.ld_head').LDHead


def decoded(points: Tensor, distances: Tensor) -> Tensor:
    """Return boxes (x1, y1, x2, y2)."""
    return torch.cat([points - distances[:, :2], points + distances[:, 2:]], 1)


def encoded(points: Tensor, boxes: Tensor, most: float) -> Tensor:
    """Return the distances from the points to the four sides."""
    return torch.cat([points - boxes[:, :2], boxes[:, 2:] - points], 1).clamp(0, most - 0.1)


def centres(boxes: Tensor) -> Tensor:
    """Return the centres (M, 2)."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def integral(bins: int) -> Callable[[Tensor], Tensor]:
    """Return a function that maps bins (M, 4·bins) to mean distances (M, 4)."""
    def mean(logits: Tensor) -> Tensor:
        probabilities = logits.reshape(-1, bins).softmax(1)
        return (probabilities @ torch.arange(bins).to(logits)).reshape(-1, 4)

    return mean


def grid_of(height: int, width: int, stride: int, scale: int = 8) -> Tensor:
    """Return square anchors (H·W, 4) as in ATSS and GFL."""
    y, x = (one.flatten() * stride for one in torch.meshgrid(
        torch.arange(float(height)), torch.arange(float(width)), indexing='ij'))
    half = scale * stride / 2
    return torch.stack([x - half, y - half, x + half, y + half], 1).double()


def gradients_of(value: Tensor, inputs: List[Tensor]) -> List[Tensor]:
    """Return the gradients, with zeros for unused inputs."""
    found = torch.autograd.grad(value, inputs, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(one) if its is None else its for one, its in zip(inputs, found)]
