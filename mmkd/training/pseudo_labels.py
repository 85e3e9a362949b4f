"""How does a teacher label images, and for whom?"""
from typing import Any, Dict, List, Optional, Sequence, Union

import torch
from torch import Tensor, nn

from ..compare.classes import Taken, match_classes
from ..core.arguments import finite_number
from ..core.build import named_arguments
from ..core.errors import explained
from ..core.log import warn
from ..core.names import shown_names
from ..data.pseudo_labels import Selection, truth_of
from ..networks import BaseTeacher
from ..networks.predicting import can_predict, is_segmentor, predicted
from ..points import family_of, points_of
from ..points.probe import blank_image
from ..points.prompt import problem_of
from ..registry import MODELS

IGNORED = 255
PATIENCE = 200
"""Number of consecutive images without a prediction above the threshold after which it is said."""


@MODELS.register_module()
class PseudoLabels:
    """An entry of ``distill``: on unlabelled images the student learns from the teacher's
    predictions as from labels.

    The student is trained by its own loss, so teacher and student may be of different families;
    only what is predicted must be the same: boxes, objects with masks, or label maps. The teacher
    predicts as in a test, for the image that the student gets, after augmentation; with a ``view``
    of the teacher, for this view. Classes are matched by name. Losses are logged as
    'unlabelled.loss_cls' and so on. A batch without an object adds 0.

    Args:
        score_thr (float | dict[str, float]): Least score of a prediction that becomes a label; by
            name of the class. Below it pixels of a label map are ignored. Defaults to 0.5.
        per_class (int, optional): Number of objects per image and class, those with the highest
            scores. Defaults to None, all.
        loss_weight (float): Factor of all losses. Defaults to 1.0.
        teacher (str): Name of the network that predicts. Defaults to 'teacher'.
        weigh (bool): Whether a pixel of a label map is weighed by the score of its label, in the
            loss of each head of mmseg that takes weights of pixels. Objects are not weighed.
            Defaults to False.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is out of its range.
    """

    @named_arguments
    def __init__(self, score_thr: Union[float, Dict[str, float]] = 0.5,
                 per_class: Optional[int] = None, loss_weight: float = 1., teacher: str = 'teacher',
                 weigh: bool = False, images: str = 'unlabelled') -> None:
        for value in score_thr.values() if isinstance(score_thr, dict) else [score_thr]:
            if not 0 <= finite_number('score_thr', value) <= 1:
                raise ValueError(f'`score_thr` must be between 0 and 1, but got {value}; write a '
                                 'score such as 0.5')
        if per_class is not None and (isinstance(per_class, bool) or not isinstance(
                per_class, int) or per_class < 1):
            raise ValueError('`per_class` must be a number of objects, 1 or more, but got '
                             f'{per_class!r}; write for instance per_class=20')
        if images != 'unlabelled':
            raise ValueError("mmkd.PseudoLabels labels unlabelled images, but has images="
                             f'{images!r}; leave `images` out')
        self.score_thr = score_thr
        self.selection = Selection(score_thr, per_class)
        self.loss_weight = finite_number('loss_weight', loss_weight)
        self.teacher = teacher
        self.weigh = bool(weigh)
        self.columns: Optional[Taken] = None
        self.classes: Sequence[str] = ()
        self._empty: Optional[Tensor] = None
        self._seen = self._checked = 0
        self._highest: Optional[Tensor] = None
        self._is_said = False

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
        is_asked = family_of(network.model).kind == 'text'  # type: ignore[arg-type]
        if is_asked and problem_of(network.model):
            raise ValueError(f'mmkd.PseudoLabels: `{name}`: {problem_of(network.model)}')
        self.classes = tuple(classes or ())
        if not network.shares_classes:
            self._match(network, student, classes)
        wants_map = is_segmentor(student)
        if wants_map != is_segmentor(network.model):
            what = 'label maps', 'objects'
            raise ValueError(
                f'mmkd.PseudoLabels: the student, {type(student).__name__}, learns from '
                f'{what[not wants_map]}, but `{name}`, {kind}, predicts {what[wants_map]}; give a '
                f'teacher that predicts {what[not wants_map]}')
        with explained(f'mmkd.PseudoLabels: `{name}`, {kind}, cannot predict a blank image of '
                       f'{size[0]}x{size[1]} pixels', 'look at its `test_cfg`'):
            truth, = self.truth(network, student,
                                blank_image(student, size),  # type: ignore[arg-type]
                                [blank_sample(student, size)], is_trial=True)
        if needs_masks(student) and 'masks' not in truth.gt_instances:
            raise ValueError(f'mmkd.PseudoLabels: the student, {type(student).__name__}, learns '
                             f'from masks of objects, but `{name}`, {kind}, predicts none; give a '
                             'teacher that predicts masks')

    def _match(self, network: BaseTeacher, student: Any, classes: Optional[Sequence[str]]) -> None:
        if classes and network.classes:
            self.columns = match_classes(classes, network.classes, network.mapping)
            return
        counts = [number_of_classes(model) for model in (student, network.model)]
        if None not in counts and counts[0] != counts[1]:
            side = 'student' if not classes else self.teacher
            raise ValueError(f'mmkd.PseudoLabels: the student has {counts[0]} classes and '
                             f'`{self.teacher}` {counts[1]}, and those of `{side}` have no names; '
                             'write `classes=[...]` there')

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
        found = []
        for sample, one in zip(data_samples, predicted(network, student, inputs, data_samples)):
            one = self._renamed(one, network)
            if not is_trial:
                self._count(one)
            truth = truth_of(one, self.selection, self.classes)
            if 'gt_sem_seg' in truth:
                unknown = one.pred_sem_seg.data == IGNORED
                truth.gt_sem_seg.data = truth.gt_sem_seg.data.masked_fill(unknown, IGNORED)
                if self.weigh:
                    truth.set_field(one.scores, 'pixel_scores')
            truth.set_metainfo(sample.metainfo)
            found.append(truth)
        if not is_trial:
            self._say()
        return found

    def _renamed(self, prediction: Any, network: BaseTeacher) -> Any:
        """The prediction with the student's classes; a label map as log-probabilities."""
        if 'seg_logits' not in prediction:
            return family_of(network.model).relabel(prediction, self.columns)  # type: ignore
        probabilities = probabilities_of(network.model, prediction.seg_logits.data)
        scores, labels = probabilities.max(0, keepdim=True)
        if self.columns is not None:
            groups = [[one] if isinstance(one, int) else list(one) for one in self.columns]
            unknown = sorted(set(range(len(probabilities))) - {n for one in groups for n in one})
            rest = probabilities[unknown]
            probabilities = torch.stack([probabilities[one].sum(0) for one in groups])
            scores, labels = torch.cat([probabilities, rest]).max(0, keepdim=True)
            labels = labels.masked_fill(labels >= len(groups), IGNORED)
        from mmengine.structures import PixelData
        prediction.seg_logits = PixelData(data=probabilities.clamp(min=1e-12).log())
        prediction.pred_sem_seg = PixelData(data=labels)
        prediction.set_field(scores[0], 'scores')
        return prediction

    def _count(self, prediction: Any) -> None:
        """Count images in a row without a score above the threshold, on their device."""
        if self._is_said:
            return
        scores = (prediction.scores if 'scores' in prediction else
                  prediction.pred_instances.scores).detach().flatten().float()
        highest = torch.cat([scores, scores.new_zeros(1)]).max()
        least = min(self.score_thr.values()) if isinstance(self.score_thr, dict) else (
            self.score_thr)
        if self._empty is None or self._highest is None:
            self._empty, self._highest = highest.new_zeros(()), highest
        self._empty = torch.where(highest >= least, torch.zeros_like(highest), self._empty + 1)
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
            warn(f'mmkd.PseudoLabels: `{self.teacher}` has predicted nothing of a score of '
                 f'{self.score_thr} or more for {int(self._empty.item())} images in a row; the '
                 f'highest score of all images so far is {self._highest.item():.3g}; lower '
                 '`score_thr`, or look whether the teacher knows this kind of images')


# --- helpers --------------------------------------------------------------------------------------


def probabilities_of(model: Any, output: Tensor) -> Tensor:
    """Probabilities (C, H, W) of the classes, from the output of a segmentor of mmseg (C, H, W).

    The output of a mask transformer is a sum over queries of probabilities of class and mask
    already, which may be above 1 where masks overlap.
    """
    output = output.float()
    if family_of(model).kind == 'mask':
        return output.clamp(0, 1)
    if len(output) > 1:
        return output.softmax(0)
    positive = output.sigmoid()
    threshold = getattr(model.decode_head, 'threshold', None) or 0.5
    # Label 1 above the threshold of the head, as mmseg predicts it.
    return torch.where(positive > threshold, torch.cat([
        torch.minimum(1 - positive, positive - 1e-6), positive]), torch.cat([
            1 - positive, torch.minimum(positive, 1 - positive - 1e-6)]))


def number_of_classes(model: Any) -> Optional[int]:
    """Number of the classes of a model by its point 'cls'; None if it has none."""
    point = points_of(model).get('cls')
    return None if point is None else point.num_named or None


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
    limits = '' if labels.selection.per_class is None else (
        f', at most {labels.selection.per_class} of a class')
    return (f'pseudo-labels: predictions of `{labels.teacher}` with a score of {labels.score_thr} '
            f'or more{limits} are labels of the unlabelled images' + (
                f', of the classes {shown_names(labels.classes)}' if labels.classes else ''))
