"""How does a teacher label images, and for whom?"""
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from ..compare.classes import Taken, check_mapping, match_classes
from ..core.arguments import finite_number
from ..core.build import named_arguments
from ..core.errors import explained
from ..core.log import warn
from ..core.names import joined, shown_names
from ..data.pixel_scores import IGNORED, scoring_of
from ..data.pseudo_labels import Selection, no_label, removed, truth_of
from ..networks import BaseTeacher
from ..networks.predicting import (
    can_predict,
    is_classifier,
    is_segmentor,
    own_threshold,
    predicted,
)
from ..points import family_of, points_of
from ..points.probe import blank_image
from ..points.prompt import problem_of
from ..points.relabel import groups_of
from ..registry import MODELS

PATIENCE = 200
"""A warning is logged after so many consecutive images without a prediction above the threshold."""


@MODELS.register_module()
class PseudoLabels:
    """An entry of ``distill``: on unlabelled images the student learns from the teacher's
    predictions as from labels.

    The student is trained by its own loss, so teacher and student may be of different families;
    only what is predicted must be the same: boxes, objects with masks, or label maps. The teacher
    predicts as in a test, for the image that the student gets, after augmentation; with a ``view``
    of the teacher, for this view. Classes are matched by name, or by ``classes`` of the teacher:
    probabilities of several classes of a pixel add up, objects of several classes get one name.
    Losses are logged as 'unlabelled.loss_cls' and so on. A batch without an object adds 0.

    Args:
        score_thr (float | dict[str, float]): See :class:`mmkd.data.pseudo_labels.Selection`, with
            the student's names of classes. Defaults to 0.5.
        per_class (int, optional): See there. Defaults to None, all.
        ignore_thr (float, optional): See there. Defaults to None.
        min_size (float): See there. Defaults to 1.
        loss_weight (float): Factor of all losses. Defaults to 1.0.
        teacher (str): Name of the network that predicts. Defaults to 'teacher'.
        weigh (bool): Whether a pixel of a label map is weighed by the score of its label, in the
            loss of each head of mmseg that takes weights of pixels. Objects are not weighed.
            Defaults to False.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is out of its range.

    Example:
        >>> labels = PseudoLabels(score_thr=dict(RBC=0.5, WBC=0.7), loss_weight=0.5)
        >>> labels.teacher
        'teacher'
    """

    @named_arguments
    def __init__(self, score_thr: Union[float, Dict[str, float]] = 0.5,
                 per_class: Optional[int] = None, ignore_thr: Optional[float] = None,
                 min_size: float = 1., loss_weight: float = 1., teacher: str = 'teacher',
                 weigh: bool = False, images: str = 'unlabelled') -> None:
        if images != 'unlabelled':
            raise ValueError("mmkd.PseudoLabels labels unlabelled images, but has images="
                             f'{images!r}; leave `images` out')
        if not isinstance(weigh, bool):
            raise TypeError(f'`weigh` must be True or False, but got {weigh!r}; write one of them')
        self.selection = Selection(score_thr, per_class, ignore_thr, min_size)
        self.loss_weight = finite_number('loss_weight', loss_weight)
        self.teacher = teacher
        self.weigh = weigh
        self.columns: Optional[Taken] = None
        self.classes: Sequence[str] = ()
        self._empty: Optional[Tensor] = None
        self._seen = self._checked = 0
        self._highest: Optional[Tensor] = None
        self._is_said = False
        self._own: Optional[Tuple[str, float]] = None

    @property
    def without(self) -> List[str]:
        """Classes of the student that the teacher does not know."""
        return [] if self.columns is None else [
            name for name, group in zip(self.classes, groups_of(self.columns)) if not group]

    # --- before training ------------------------------------------------------------------------

    def prepare(self, network: BaseTeacher, student: Any, classes: Optional[Sequence[str]],
                size: Sequence[int]) -> None:
        """Match the classes, and try the teacher on a blank image.

        Args:
            network (BaseTeacher): The prepared teacher.
            student (nn.Module): The student.
            classes (Sequence[str], optional): Its classes.
            size (Sequence[int]): Height and width of an image.

        Raises:
            ValueError: If the teacher's predictions cannot be labels of the student.
        """
        name, kind = self.teacher, type(network.model).__name__
        if not can_predict(network):
            raise ValueError(
                f'mmkd.PseudoLabels: `{name}` is a {type(network).__name__} of {kind}, which does '
                'not predict whole images; name a mmkd.FrozenTeacher or a mmkd.MeanTeacher')
        wants_map = is_segmentor(student)
        predicts = kind_of(network.model)
        # Before the classes: those of another kind of model cannot be made to fit.
        if predicts != kind_of(student):
            raise ValueError(
                f'mmkd.PseudoLabels: the student, {type(student).__name__}, learns from '
                f'{kind_of(student)}, but `{name}`, {kind}, predicts {predicts}; give a teacher '
                f'that predicts {kind_of(student)}')
        is_asked = family_of(network.model).kind == 'text'  # type: ignore[arg-type]
        if is_asked and problem_of(network.model):
            raise ValueError(f'mmkd.PseudoLabels: `{name}`: {problem_of(network.model)}')
        self._match(network, student, classes)
        chosen = self.selection
        if wants_map and (chosen.per_class, chosen.ignore_thr) != (None, None):
            raise ValueError('mmkd.PseudoLabels: `per_class` and `ignore_thr` are for objects, but '
                             f'the student, {type(student).__name__}, learns from label maps; '
                             'leave them out')
        if self.weigh and not wants_map:
            raise ValueError('mmkd.PseudoLabels: `weigh` is for pixels of label maps, but the '
                             f'student, {type(student).__name__}, learns from objects; leave it '
                             'out, or write `ignore_thr` for objects that are uncertain')
        self._note_own_threshold(network.model)
        with explained(f'mmkd.PseudoLabels: `{name}`, {kind}, cannot predict a blank image of '
                       f'{size[0]}x{size[1]} pixels', 'look at its `test_cfg`'):
            truth, = self.truth(network, student,
                                blank_image(student, size),  # type: ignore[arg-type]
                                [blank_sample(student, size)], is_trial=True)
        if needs_masks(student) and 'masks' not in truth.gt_instances:
            raise ValueError(f'mmkd.PseudoLabels: the student, {type(student).__name__}, learns '
                             f'from masks of objects, but `{name}`, {kind}, predicts none; give a '
                             'teacher that predicts masks')

    def _note_own_threshold(self, model: Any) -> None:
        self._own = own_threshold(model)
        said = removed(self.selection.least, self._own, f'`{self.teacher}`')
        if said:
            warn(f'mmkd.PseudoLabels: {said}; lower that one, too')

    def _match(self, network: BaseTeacher, student: Any, classes: Optional[Sequence[str]]) -> None:
        counts = [number_of_classes(model) for model in (student, network.model)]
        try:
            check_mapping(classes, network.classes, network.mapping, self.teacher)
            if network.shares_classes:
                pass
            elif classes and network.classes:
                self.columns = match_classes(classes, network.classes, network.mapping)
            elif None not in counts and counts[0] != counts[1]:
                side = 'student' if not classes else self.teacher
                raise ValueError(f'the student has {counts[0]} classes and `{self.teacher}` '
                                 f'{counts[1]}, and those of `{side}` have no names; write '
                                 '`classes=[...]` there')
            self.classes = tuple(classes or map(str, range(counts[0] or counts[1] or 0)))
            self.selection.thresholds(self.classes)
        except ValueError as error:
            raise ValueError(f'mmkd.PseudoLabels: {error}') from None
        if self.without:
            warn(f'mmkd.PseudoLabels: `{self.teacher}` knows no {joined(self.without)}, so on '
                 'unlabelled images ' + (
                     'pixels of these classes are ignored, or get another label'
                     if is_segmentor(student) else
                     'these objects are learnt as background') + '; label them, or leave images '
                 'that show them out')

    # --- every step -----------------------------------------------------------------------------

    def truth(self, network: BaseTeacher, student: nn.Module, inputs: Tensor,
              data_samples: Sequence[Any], is_trial: bool = False) -> List[Any]:
        """The ground truth of a batch.

        Args:
            network (BaseTeacher): The teacher.
            student (nn.Module): The student.
            inputs (Tensor): Float (N, C, H, W), normalised for the student.
            data_samples (Sequence): The N samples; they are not changed.
            is_trial (bool): Whether the images are blank and not counted. Defaults to False.

        Returns:
            list: Per image a sample with the student's classes, and the metainfo of its sample.
        """
        found, model = [], network.model
        groups = None if self.columns is None else groups_of(self.columns)
        for sample, one in zip(data_samples, predicted(network, student, inputs, data_samples)):
            if 'pred_instances' in one:
                one = family_of(model).relabel(one, self.columns)  # type: ignore[arg-type]
            truth = truth_of(one, self.selection, self.classes, scoring_of(model), groups)
            truth.set_metainfo(sample.metainfo)
            found.append(truth)
            if not is_trial:
                self._count(one, truth)
        if not is_trial:
            self._say()
        return found

    def _count(self, prediction: Any, truth: Any) -> None:
        """Count images in a row without a label, on their device."""
        if self._is_said:
            return
        if 'gt_sem_seg' in truth:
            scores, labels = truth.gt_sem_seg_scores.data, truth.gt_sem_seg.data
            has_labels = (labels != IGNORED).any()
        else:
            scores = prediction.pred_instances.scores
            has_labels = torch.full((), len(truth.gt_instances) > 0, device=scores.device)
        scores = scores.detach().flatten().float()
        highest = torch.cat([scores, scores.new_zeros(1)]).max()
        if self._empty is None or self._highest is None:
            self._empty, self._highest = highest.new_zeros(()), highest
        self._empty = torch.where(has_labels, torch.zeros_like(highest), self._empty + 1)
        self._highest = torch.maximum(highest, self._highest)
        self._seen += 1

    def _say(self) -> None:
        """Say once that nothing is predicted. The CPU waits for the number only now and then."""
        if self._is_said or self._seen - self._checked < PATIENCE // 10 or self._empty is None:
            return
        self._checked = self._seen
        if self._empty.item() >= PATIENCE:
            assert self._highest is not None
            self._is_said = True
            why = no_label(self._highest.item(), self.selection.score_thr, self._own)
            warn(f'mmkd.PseudoLabels: no prediction of `{self.teacher}` has become a label in '
                 f'{int(self._empty.item())} images in a row; in all images so far {why}')


# --- helpers --------------------------------------------------------------------------------------


def number_of_classes(model: Any) -> Optional[int]:
    """Number of the classes of a model by its point 'cls'; None if it has none."""
    point = points_of(model).get('cls')
    return None if point is None else point.num_named or None


def kind_of(model: Any) -> str:
    """What a model predicts and learns from, for a message."""
    return ('label maps' if is_segmentor(model) else
            'classes of images' if is_classifier(model) else 'objects')


def needs_masks(model: Any) -> bool:
    """Whether a detector learns from masks of objects."""
    return bool(getattr(model, 'with_mask', False) or hasattr(model, 'panoptic_head'))


def blank_sample(model: Any, size: Sequence[int]) -> Any:
    """The sample of a blank image for a detector of mmdet or a segmentor of mmseg."""
    metainfo = dict(img_shape=tuple(size), ori_shape=tuple(size), pad_shape=tuple(size),
                    batch_input_shape=tuple(size), scale_factor=(1., 1.), img_path='', img_id=0)
    if is_segmentor(model):
        from mmseg.structures import SegDataSample
        return SegDataSample(metainfo=metainfo)
    from mmdet.structures import DetDataSample
    return DetDataSample(metainfo=metainfo)


def shown(labels: 'PseudoLabels') -> str:
    """One line for the log."""
    chosen = labels.selection
    limits = '' if chosen.per_class is None else f', at most {chosen.per_class} of a class'
    if chosen.ignore_thr is not None:
        limits += f', are ignored from {chosen.ignore_thr}, and'
    return (f'pseudo-labels: predictions of `{labels.teacher}` with a score of {chosen.score_thr} '
            f'or more{limits} are labels of the unlabelled images, of the classes '
            f'{shown_names([name for name in labels.classes if name not in labels.without])}')
