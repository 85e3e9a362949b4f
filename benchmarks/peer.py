"""The same distillation with MMRazor 1.0, for comparison of the time per step.

The last release of MMRazor is from 2023. Its quantization needs modules that torch no longer has,
so it cannot be imported; this file leaves that part out.
`pip install --no-deps mmrazor==1.0.0`.
"""
import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Dict

LEFT_OUT = ['structures.quantization', 'models.algorithms.quantization', 'models.quantizers',
            'models.fake_quants', 'models.observers', 'engine']
LOSSES = dict(
    dist=(dict(type='mmrazor.DISTLoss'), 'logits_S', 'logits_T'),
    kd=(dict(type='mmrazor.KLDivergence'), 'preds_S', 'preds_T'),
    cwd=(dict(type='mmrazor.ChannelWiseDivergence'), 'preds_S', 'preds_T'))
"""MMRazor's loss and the names of its arguments, by method."""


class Absent(ModuleType):
    """Replacement for a module; everything imported from it is an empty class."""
    __path__: Any = []
    __all__: Any = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        return type(name, (), {})


def import_mmrazor() -> None:
    """Import MMRazor's models, without its quantization.

    Raises:
        SystemExit: If it is not installed.
    """
    if find_spec('mmrazor') is None:
        raise SystemExit('--mmrazor needs `pip install --no-deps mmrazor==1.0.0`')
    for name in LEFT_OUT:
        sys.modules.setdefault(f'mmrazor.{name}', Absent(name))
    import mmrazor.models  # noqa: F401


def mmrazor_model(student: Any, teacher: Any, method: str, source: str,
                  calls: int) -> Dict[str, Any]:
    """Config of MMRazor's distillation of a pair.

    Args:
        student (dict): Config of the model.
        teacher (dict): Config of the model.
        method (str): A key of :data:`LOSSES`.
        source (str): Name of the module, in both models, of which the outputs are compared.
        calls (int): Calls of the module per step, such as one per level; each call gets a loss.

    Returns:
        dict: For ``MODELS.build``.
    """
    loss, student_name, teacher_name = LOSSES[method]
    names = [f'loss_{number}' for number in range(calls)]
    recorders = dict(compared=dict(type='mmrazor.ModuleOutputs', source=source))
    distiller = dict(
        type='mmrazor.ConfigurableDistiller', student_recorders=recorders,
        teacher_recorders=recorders, distill_losses=dict.fromkeys(names, loss),
        loss_forward_mappings={
            name: {argument: dict(from_student=is_student, recorder='compared', record_idx=number)
                   for argument, is_student in ((student_name, True), (teacher_name, False))}
            for number, name in enumerate(names)})
    return dict(type='mmrazor.SingleTeacherDistill', architecture=student, teacher=teacher,
                distiller=distiller)
