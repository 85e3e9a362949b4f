"""Is the teacher better than the student, measured once before training?"""
import logging
from functools import partial
from typing import Any, Dict, Optional

from mmengine.hooks import Hook
from mmengine.logging import print_log

from ..compare.classes import match_classes
from ..core.build import named_arguments
from ..core.names import joined
from ..core.rng import preserved_rng
from ..networks import BaseTeacher, FrozenTeacher
from ..networks.base import answering
from ..points import family_of
from ..registry import HOOKS
from .distill import distillation_of
from .scoring import score

CHANCE = {
    'coco/bbox_mAP': lambda classes: 0.01,
    # One class predicted everywhere: its IoU is at most 100, that of all others is 0.
    'mIoU': lambda classes: 100 / classes,
    'accuracy/top1': lambda classes: 100 / classes,
}
"""Upper bound of each metric for a model without knowledge, by the number of classes."""


@HOOKS.register_module()
class TeacherEvalHook(Hook):
    """Evaluates the teacher and the untrained student on the validation set before training.

    Logs a warning if the teacher is no better than chance or than the student, for instance because
    of a wrong checkpoint, other classes, or other input. Does nothing on resume. The results of
    training stay bitwise the same.

    Args:
        metric (str, optional): The metric to compare, larger is better, such as
            'coco/bbox_mAP'. Defaults to None: COCO's box AP, mIoU or top-1 accuracy, else the
            first one.

    Example:
        >>> TeacherEvalHook(metric='coco/bbox_mAP').metric
        'coco/bbox_mAP'
    """

    priority = 'LOWEST'  # after DistillHook has built the teacher

    @named_arguments
    def __init__(self, metric: Optional[str] = None) -> None:
        if not (metric is None or isinstance(metric, str)):
            raise TypeError('`metric` must be the name of a metric of the validation, or None, but '
                            f"got {metric!r}; write for instance metric='coco/bbox_mAP'")
        self.metric = metric
        self.scores: Dict[str, Dict[str, float]] = {}

    def before_train(self, runner: Any) -> None:
        """Evaluate the student and every pre-trained teacher.

        Raises:
            ValueError: If the run has no distillation, no validation, or no such metric.
        """
        if runner.iter > 0:
            return
        distillation = distillation_of(runner)
        if distillation is None:
            raise ValueError('mmkd.TeacherEvalHook finds no teacher: the model is not a '
                             'mmkd.Distiller, and there is no mmkd.DistillHook; remove the hook '
                             'from the config')
        if runner.val_loop is None:
            raise ValueError('mmkd.TeacherEvalHook evaluates on the validation set, but the config '
                             'has no `val_dataloader`, `val_evaluator` and `val_cfg`; add them, or '
                             'remove the hook')
        distillation.prepare()
        networks: Dict[str, BaseTeacher] = {}
        for name, network in distillation.networks.items():
            its = answering(network)
            networks.update({name if one is network else f'{name}.{number}': one
                             for number, one in enumerate(its) if isinstance(one, FrozenTeacher)})
        if not networks:
            raise ValueError('mmkd.TeacherEvalHook finds no trained teacher: the networks are '
                             f'{", ".join(distillation.networks)}, which start from the student or '
                             'predict no boxes and classes; remove the hook from the config')
        networks['student'] = distillation.networks['student']
        with preserved_rng():
            loader = runner.build_dataloader(runner._val_dataloader, seed=runner.seed)
            # Labels are the student's columns, whatever class names the validation set has.
            classes = distillation.classes or loader.dataset.metainfo.get('classes') or ()
            for name, network in networks.items():
                columns = None
                if classes and network.classes:
                    columns = match_classes(classes, network.classes, network.mapping)
                assert network.model is not None
                adapter = family_of(network.model)
                self.scores[name] = score(
                    runner, loader, network.model, partial(adapter.relabel, columns=columns),
                    network.renormalize.as_loaded if isinstance(network, FrozenTeacher) else None)
                runner.visualizer.add_scalars(
                    {f'{name}/{key}': value for key, value in self.scores[name].items()}, step=0)
        for name in networks:
            if name != 'student':
                self._judge(name, len(classes))

    def _judge(self, name: str, classes: int) -> None:
        known = {key: None for one in self.scores.values() for key in one}
        if self.metric is not None and known and self.metric not in known:
            raise ValueError(f'no metric `{self.metric}` in the validation, whose metrics are '
                             f'{joined(known)}; write one of '
                             'these')  # of every class, with `classwise=True`
        metric = self.metric or next((name for name in (*CHANCE, *known) if name in known), None)
        if metric is None:
            print_log('The validation has no metrics for the teacher: it predicts nothing, or the '
                      'evaluator only writes files. Check its checkpoint and '
                      '`val_evaluator`', 'current', logging.WARNING)
            return
        # mmdet's CocoMetric returns no value if nothing was detected.
        teacher, student = (self.scores[side].get(metric, 0.) for side in (name, 'student'))
        print_log(f'Before training, {metric}: {name} {teacher:g}, student {student:g}', 'current')
        chance = CHANCE.get(metric, lambda classes: float('-inf'))(max(classes, 1))
        for limit, what in ((chance, 'than chance'), (student, 'than the student before training')):
            if teacher <= limit:
                print_log(
                    f'The {name} is no better {what}: {metric} {teacher:g}, against {limit:g}. '
                    'Check its checkpoint, its classes, and whether it was trained on similar data',
                    'current', logging.WARNING)
