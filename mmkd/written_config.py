"""How is the config of a pair of models written?"""
from typing import Any, Dict, Optional, Sequence

from .networks.frozen import LEFT_OUT
from .networks.libraries import is_module


def config_text(student: str, teacher: str, checkpoint: Optional[str],
                entries: Sequence[Dict[str, Any]], imports: Sequence[str] = (),
                around: Optional[Dict[str, Any]] = None, method: str = '',
                classes: Optional[str] = None, network: str = '') -> str:
    """The text of a distillation config for a pair of models.

    Args:
        student (str): Path of the student's config, or 'package::path'.
        teacher (str): Path of the teacher's config, or 'package::path'; or what
            :class:`mmkd.ModuleTeacher` builds, such as 'timm:NAME'.
        checkpoint (str, optional): The teacher's weights. :data:`LEFT_OUT` omits the key: the
            weights published by the package. None is written to the config: random weights.
        entries (Sequence[dict]): The entries of ``distill``.
        imports (Sequence[str]): Imports of the student's own ``custom_imports``. Defaults to ().
        around (dict, optional): Settings by dotted key, such as 'optim_wrapper.clip_grad'; those
            of 'model' are arguments of the Distiller. Defaults to None.
        method (str): Name of the method, for a comment at these settings. Defaults to '', none.
        classes (str, optional): Path of a mapping of classes. Defaults to None, none.
        network (str): The code of the ``teacher`` of the Distiller, such as
            "dict(type='mmkd.CrossFit', folder='folds')". Defaults to '': a frozen teacher from
            ``teacher``, ``checkpoint`` and ``classes``.
    """
    given = '' if checkpoint == LEFT_OUT else f', checkpoint={checkpoint!r}'
    given += '' if classes is None else f', classes={classes!r}'
    named = "type='mmkd.ModuleTeacher', build" if is_module(teacher) else 'config'
    lines = ''.join(f'        dict({", ".join(f"{k}={v!r}" for k, v in entry.items())}),\n'
                    for entry in entries)
    nested: Dict[str, Any] = {}
    for key, value in (around or {}).items():
        *outer, last = key.split('.')
        inner = nested
        for name in outer:
            inner = inner.setdefault(name, {})
        inner[last] = value
    origin = f'# recipe of {method}: docs/methods.md' if method else ''
    of_model = ''.join(f'    {key}={_as_code(value)},{origin and "  " + origin}\n'
                       for key, value in nested.pop('model', {}).items())
    rest = ''.join(f'\n{origin and origin + chr(10)}{key} = {_as_code(value)}\n'
                   for key, value in nested.items())
    names = list(dict.fromkeys(['mmkd', *imports]))
    return (f'_base_ = [{student!r}]\n'
            f'custom_imports = dict(imports={names!r}, allow_failed_imports=False)\n'
            '\n'
            'model = dict(\n'
            '    _delete_=True,\n'
            "    type='mmkd.Distiller',\n"
            '    student=_base_.model,\n'
            f'    teacher={network or f"dict({named}={teacher!r}{given})"},\n'
            f'    distill=[\n{lines}    ],\n{of_model})\n{rest}')


def _as_code(value: Any) -> str:
    """A value as a config is written by hand: dict(a=1)."""
    if isinstance(value, dict) and all(isinstance(key, str) and key.isidentifier()
                                       for key in value):
        return f'dict({", ".join(f"{key}={_as_code(one)}" for key, one in value.items())})'
    return repr(value)
