"""Declares the operators of torchvision where they could not be loaded.

torchvision's wheel for CUDA does not load its operators beside a CPU build of torch, and then fails
to import. Its models do not call the operators that are declared here without code.
"""
import importlib.abc
import importlib.machinery
import sys
from types import ModuleType
from typing import Any, Optional

OPERATORS = ('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
             'qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
libraries = []


class Finder(importlib.abc.MetaPathFinder):
    """Declares the operators when torchvision is imported for the first time."""

    def find_spec(self, name: str, path: Any,
                  target: Optional[ModuleType] = None) -> Optional[importlib.machinery.ModuleSpec]:
        if name == 'torchvision._meta_registrations':
            declare()
        return None


def declare() -> None:
    import torch

    if hasattr(torch.ops.torchvision, 'nms'):
        return
    library = torch.library.Library('torchvision', 'FRAGMENT')
    for operator in OPERATORS:
        library.define(operator)
    libraries.append(library)  # a library that is deleted takes its operators away


sys.meta_path.insert(0, Finder())
