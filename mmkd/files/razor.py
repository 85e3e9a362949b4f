"""Which student does a distilled checkpoint of MMRazor 1.0 hold?"""
from collections import OrderedDict
from typing import Any

from mmengine.logging import print_log

RAZOR = ('architecture.', 'teacher.', 'distiller.')
"""Prefixes of names of weights in distilled checkpoints of MMRazor 1.0, the student's first."""


def student_of_razor(checkpoint: Any, path: str) -> Any:
    """Extract the student from a distilled checkpoint of MMRazor 1.0, under its own names.

    MMRazor saves the student as 'architecture', next to the teacher and its connectors. Into a
    plain model MMEngine would load none of these weights, and only log warnings.

    Args:
        checkpoint (Any): Content of a file.
        path (str): Name of the file, for the log.

    Returns:
        Any: The student's weights and the meta data of its data set, without the optimizer, which
        also trained other parameters. The checkpoint itself if it is not of MMRazor.
    """
    weights = checkpoint.get('state_dict') if isinstance(checkpoint, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
        return checkpoint
    names = {name: name.removeprefix('module.') for name in weights}
    student = RAZOR[0]
    if not all(name.startswith(RAZOR) for name in names.values()) or not any(
            name.startswith(student) for name in names.values()):
        return checkpoint
    own = OrderedDict((name[len(student):], weights[whole]) for whole, name in names.items()
                      if name.startswith(student))
    # The version of each layer: some rename their keys when they load an older one.
    own._metadata = OrderedDict(  # type: ignore[attr-defined]
        (f'{name.removeprefix("module.")}.'[len(student):].rstrip('.'), value)
        for name, value in (getattr(weights, '_metadata', None) or {}).items()
        if f'{name.removeprefix("module.")}.'.startswith(student))
    print_log(f'{path} was saved by MMRazor; only its student, `architecture`, is loaded: '
              f'{len(own)} of {len(weights)} tensors', 'current')
    meta = checkpoint.get('meta')
    meta = meta if isinstance(meta, dict) else {}
    return dict(state_dict=own, meta={key: meta[key] for key in ('dataset_meta', 'CLASSES')
                                      if key in meta})
