"""Several teachers, each of which predicts only for images that it was not trained on."""
import os
import zlib
from typing import Any, Callable, Dict, List, Optional, Sequence

import torch
from torch import Tensor

from ..core.build import build_entry
from ..files.folds import Folds
from ..points import Answers
from ..registry import MODELS
from .base import BaseTeacher
from .frozen import FrozenTeacher
from .observing import Question
from .splitting import Part, by_image, by_place, places_of

UNSEEN = ('one', 'mean')


@MODELS.register_module()
class CrossFit(BaseTeacher):
    """Teachers of a cross-fitting: each image is taught by the teacher that was trained without it.

    A teacher that has learned its training images by heart is almost certain there, and its
    predictions say little more than the labels. On images that it was not trained on, they say how
    similar classes and positions are. ``tools/folds.py`` splits a training set into folds, trains
    one teacher without each fold, and writes a folder with ``folds.json``.

    An image is identified by the end of its path (``img_path`` of its sample). Before training, the
    labelled training images are compared with those of ``folds.json``, and the weights of each
    teacher with the SHA-256 there. Each teacher runs only on its images of a batch.

    Args:
        folder (str): Folder with ``folds.json``.
        teachers (Sequence[dict], optional): Arguments of :class:`mmkd.FrozenTeacher` for each
            teacher, in the order of the folds. Defaults to None, those in ``folds.json``.
        unseen (str): Which teacher predicts for images that no teacher was trained on, such as
            unlabelled ones: 'one', a teacher that depends only on the name of the image; 'mean',
            the mean of the values of all teachers, for predictions without queries. Features of
            networks that were trained apart have no common order of channels, so their mean has no
            meaning. Defaults to 'one'.
        cache (str, optional): Folder for the answers of the teachers, which are
            :class:`mmkd.CachedTeacher` then. Defaults to None, no cache.
        stored_as (str): See :class:`mmkd.CachedTeacher`. Defaults to 'float16'.
        on_miss (str): See :class:`mmkd.CachedTeacher`. Defaults to 'run'.
        max_gb (float): See :class:`mmkd.CachedTeacher`, for each teacher. Defaults to 100.
        view (str, optional): See :class:`BaseTeacher`.
        trust_checkpoint (bool): See :class:`mmkd.FrozenTeacher`. Defaults to False.
        precision (str, optional): See :class:`mmkd.FrozenTeacher`. Defaults to None.
        channels_last (bool): See :class:`mmkd.FrozenTeacher`. Defaults to False.
        compile (bool): See :class:`mmkd.FrozenTeacher`. Defaults to False.
        fuse (bool): See :class:`mmkd.FrozenTeacher`. Defaults to False.
        classes (Sequence[str] | dict | str, optional): See :class:`mmkd.FrozenTeacher`.
        channels (str, optional): See :class:`mmkd.FrozenTeacher`. Defaults to None.

    Attributes:
        teachers (list[FrozenTeacher]): The teachers, from :meth:`prepare` on.
        folds (Folds | None): The split, from :meth:`prepare` on.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``unseen`` is unknown.

    Example:
        >>> CrossFit(folder='work_dirs/folds', unseen='mean').unseen
        'mean'
    """

    is_frozen = chooses_by_image = True

    def __init__(self, folder: str, teachers: Optional[Sequence[dict]] = None, unseen: str = 'one',
                 cache: Optional[str] = None, stored_as: str = 'float16', on_miss: str = 'run',
                 max_gb: float = 100., view: Optional[str] = None, trust_checkpoint: bool = False,
                 precision: Optional[str] = None, channels_last: bool = False,
                 compile: bool = False, fuse: bool = False, classes: Any = None,
                 channels: Optional[str] = None) -> None:
        super().__init__(view)
        if not isinstance(folder, str) or not folder:
            raise TypeError('`folder` of mmkd.CrossFit must be the path of a folder with '
                            f"folds.json, but got {folder!r}; write for instance "
                            "folder='work_dirs/folds'")
        if not (teachers is None or (isinstance(teachers, (list, tuple)) and all(
                isinstance(one, dict) for one in teachers))):
            raise TypeError('`teachers` of mmkd.CrossFit must be a list of dict(config=..., '
                            f'checkpoint=...), but got {teachers!r:.200}; write one for each fold, '
                            'or leave it out')
        if not isinstance(unseen, str) or unseen not in UNSEEN:
            raise ValueError(f'`unseen` must be one of {", ".join(map(repr, UNSEEN))}, but got '
                             f'{unseen!r}; write one of these')
        self.folder, self.unseen, self._entries = folder, unseen, teachers
        self._settings = dict(
            trust_checkpoint=trust_checkpoint, precision=precision, channels_last=channels_last,
            compile=compile, fuse=fuse, classes=classes, channels=channels)
        self.cache = cache
        self._of_cache = dict(stored_as=stored_as, on_miss=on_miss, max_gb=max_gb)
        self.folds: Optional[Folds] = None
        self.teachers: List[FrozenTeacher] = []  # type: ignore[assignment]
        self._has_begun = False

    # --- before the first batch -----------------------------------------------------------------

    def prepare(self, student: Any) -> None:
        """Read the folds, and build one teacher for each.

        Raises:
            FileNotFoundError: If ``folds.json``, a config or a checkpoint does not exist.
            ValueError: If the weights of a teacher are not those of its fold, or the teachers do
                not have the same architecture and classes; see also :class:`mmkd.FrozenTeacher`.
        """
        self.folds = folds = Folds.read(self.folder)
        entries = self._entries
        if entries is None:
            if not folds.teachers:
                raise ValueError(f'{folds.path} names no teachers, because they were not trained '
                                 'to the end; run tools/folds.py again, or write `teachers=`')
            entries = [dict(config=one.config, checkpoint=one.checkpoint) for one in folds.teachers]
        if len(entries) != folds.total:
            raise ValueError(f'`teachers` of mmkd.CrossFit has {len(entries)}, but {folds.path} '
                             f'has {folds.total} folds; write one teacher for each')
        self.teachers = [
            build_teacher(number, {**self._settings, **entry}, self.cache, self._of_cache)
            for number, entry in enumerate(entries)]
        parameter = next(student.parameters())
        for number, one in enumerate(self.teachers):
            one.prepare(student)
            one.is_prepared = True
            assert one.model is not None
            one.model.to(parameter.device, parameter.dtype)
            check_weights(folds, number, one)
            check_alike(self.teachers[0], number, one)
        first = self.teachers[0]
        self.model, self.classes, self.mapping = first.model, first.classes, first.mapping
        self.states_classes, self.zero_labels = first.states_classes, first.zero_labels

    def begin(self) -> None:
        """Apply the faster settings of each teacher, and open the caches."""
        for one in self.teachers:
            one.begin()
        self.model = self.teachers[0].model
        self._has_begun = True

    # --- every step -----------------------------------------------------------------------------

    def after_iter(self, iteration: int) -> None:
        """Call ``after_iter`` of each teacher."""
        for one in self.teachers:
            one.after_iter(iteration)

    def after_epoch(self, epoch: int) -> None:
        """Call ``after_epoch`` of each teacher."""
        for one in self.teachers:
            one.after_epoch(epoch)

    def provenance(self) -> Dict[str, Any]:
        """SHA-256 of the split, and of the weights of each teacher."""
        hashes = [one.provenance().get('checkpoint_hash') for one in self.teachers]
        return dict(super().provenance(), unseen=self.unseen, checkpoint_hashes=hashes,
                    folds='' if self.folds is None else self.folds.digest)

    def observe(self, inputs: Tensor, data_samples: Optional[Sequence],
                questions: Dict[str, Question]) -> Dict[str, Answers]:
        """Run each teacher on its images of the batch.

        Raises:
            ValueError: If the samples have no ``img_path``, or a question cannot be split by image.
        """
        if data_samples is None and not self._has_begun:  # a blank image, before training
            tried = [one.observe(inputs, None, questions) for one in self.teachers]
            return tried[0]
        parts = self.parts_of(data_samples)
        whole = list(range(len(inputs)))
        if len(parts) == 1 and parts[0].images == whole and set(parts[0].weights) == {1.}:
            return self.teachers[parts[0].teacher].observe(inputs, data_samples, questions)
        found: Dict[str, Answers] = {}
        places = {key: [places_of(one.at, part.images, len(inputs)) for part in parts]
                  for key, one in questions.items() if one.at is not None}
        answers = []
        for number, part in enumerate(parts):
            own = {key: one if one.at is None else one._replace(at=places[key][number].places)
                   for key, one in questions.items()}
            assert data_samples is not None
            answers.append(self.teachers[part.teacher].observe(
                torch.stack([inputs[n] for n in part.images]),
                [data_samples[n] for n in part.images], own))
        for key, question in questions.items():
            found[key] = {}
            for point in question.points:
                its = [one[key][point] for one in answers]
                if key not in places:
                    found[key][point] = by_image(its, parts, len(inputs), point)
                else:
                    assert question.at is not None
                    found[key][point] = by_place(its, parts, places[key], len(question.at))
        return found

    def parts_of(self, data_samples: Optional[Sequence]) -> List[Part]:
        """The images of each teacher in a batch.

        Args:
            data_samples (Sequence): The N samples.

        Raises:
            ValueError: If a sample has no ``img_path``.
        """
        assert self.folds is not None, 'prepare() comes first'
        parts: Dict[int, Part] = {}
        for number, sample in enumerate(data_samples or [{}]):
            path = sample.get('img_path')
            if path is None:
                raise ValueError(
                    'mmkd.CrossFit finds the teacher of an image by its `img_path`, which the '
                    'samples do not have; add it to `meta_keys` of the last transform of the '
                    'training pipeline')
            fold, count = self.folds.fold_of(str(path)), self.folds.total
            if fold is None and self.unseen == 'one':
                fold = zlib.crc32(os.path.basename(str(path)).encode()) % count
            for teacher in range(count) if fold is None else [fold]:
                part = parts.setdefault(teacher, Part(teacher, [], []))
                part.images.append(number)
                part.weights.append(1 / count if fold is None else 1.)
        return [parts[teacher] for teacher in sorted(parts)]

    def _apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        for one in self.teachers:
            one._apply(fn)


def build_teacher(number: int, settings: Dict[str, Any], cache: Optional[str],
                  of_cache: Dict[str, Any]) -> FrozenTeacher:
    """Build the teacher of a fold.

    Args:
        number (int): Number of the fold.
        settings (dict): Arguments of :class:`mmkd.FrozenTeacher`.
        cache (str, optional): Folder of the caches of all teachers.
        of_cache (dict): Further arguments of :class:`mmkd.CachedTeacher`.
    """
    kind = 'mmkd.FrozenTeacher'
    if cache is not None:
        kind = 'mmkd.CachedTeacher'
        settings = dict(settings, **of_cache, cache=os.path.join(cache, f'fold{number}'))
    teacher: FrozenTeacher = build_entry(
        settings, MODELS, f'teacher {number} of mmkd.CrossFit', FrozenTeacher, kind)
    return teacher


def check_weights(folds: Folds, number: int, teacher: FrozenTeacher) -> None:
    """Check that a teacher has the weights that were trained without its fold.

    Raises:
        ValueError: If it has not.
    """
    digest = teacher.provenance().get('checkpoint_hash')
    known = [one.digest for one in folds.teachers]
    if known and digest != known[number]:
        other = known.index(digest) if digest in known else None
        raise ValueError(
            f'teacher {number} of mmkd.CrossFit, {teacher.checkpoint}, ' +
            (f'was trained without fold {other}, so it has seen the images of fold {number}; '
             'write `teachers` in the order of the folds' if other is not None else
             f'is not the one that {folds.path} was written for (its SHA-256 differs); '
             'train it again by tools/folds.py'))


def check_alike(first: FrozenTeacher, number: int, teacher: FrozenTeacher) -> None:
    """Check that a teacher has the architecture and classes of the first one.

    Raises:
        ValueError: If it has not.
    """
    assert first.model is not None
    assert teacher.model is not None
    own, other = ({name: tuple(one.shape) for name, one in model.state_dict().items()}
                  for model in (first.model, teacher.model))
    if own != other or first.classes != teacher.classes:
        what = 'classes' if own == other else 'architectures'
        raise ValueError(f'teachers 0 and {number} of mmkd.CrossFit have different {what}, but '
                         'a batch needs the same points of all; train them with one config by '
                         'tools/folds.py')
