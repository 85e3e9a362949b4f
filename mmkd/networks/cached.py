"""A frozen teacher that runs once for every image, with a cache of its answers."""
import hashlib
import logging
import sys
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from mmengine.logging import print_log
from torch import Tensor

from ..core.arguments import finite_number
from ..files.store import PRECISIONS, AnswerStore, Full, Record
from ..points import Answer, Answers, Point, family_of
from ..points.queries import Queries
from ..points.recorder import READING
from ..registry import MODELS
from ..version import __version__
from .fixed import FixedTeacher
from .frozen import FrozenTeacher
from .module import ModuleTeacher
from .observing import Question

ON_MISS = ('run', 'error')
REPORTED_EVERY = 1000
"""Number of iterations between reports, in addition to the reports of each epoch."""


class Caching(FixedTeacher):
    """A cache of a teacher's answers, before the teacher in the bases of a class.

    Ten of its methods are those of every teacher, so it has more than 15.

    Args:
        cache (str): See :class:`CachedTeacher`.
        stored_as (str): See :class:`CachedTeacher`. Defaults to 'float16'.
        on_miss (str): See :class:`CachedTeacher`. Defaults to 'run'.
        max_gb (float): See :class:`CachedTeacher`. Defaults to 100.
        **teacher: Arguments of the teacher.
    """

    def __init__(self, *args: Any, cache: str, stored_as: str = 'float16', on_miss: str = 'run',
                 max_gb: float = 100., **teacher: Any) -> None:
        super().__init__(*args, **teacher)
        if not isinstance(cache, str) or not cache:
            raise TypeError(f'`teacher.cache` must be the path of a folder, but got {cache!r}; '
                            'write for instance cache=\'work_dirs/answers\'')
        for name, value, known in (('stored_as', stored_as, PRECISIONS),
                                   ('on_miss', on_miss, ON_MISS)):
            if value not in known:
                raise ValueError(f'`teacher.{name}` must be one of '
                                 f'{", ".join(map(repr, known))}, but got {value!r}; write '
                                 'one of these')
        self.max_gb = finite_number('teacher.max_gb', max_gb, least=0)
        self.cache, self.stored_as, self.on_miss = cache, stored_as, on_miss
        self.store: Optional[AnswerStore] = None
        self.found = self.missed = 0
        self.is_full = False

    def begin(self) -> None:
        """Open the cache.

        Raises:
            ValueError: If it belongs to another teacher, or cannot be opened.
        """
        super().begin()
        if self.store is None:
            self.store = AnswerStore(self.cache, self._description(), self.stored_as)
            print_log(f"The teacher's outputs are cached in {self.store.folder}, which has "
                      f'{len(self.store)} of them, {self.store.bytes / 2**20:.0f} MiB', 'current')

    def observe(self, inputs: Tensor, data_samples: Optional[Sequence],
             questions: Dict[str, Question]) -> Dict[str, Answers]:
        """Return the answers from the cache; run the teacher for missing ones.

        Raises:
            LookupError: If an image is not in the cache, and ``on_miss='error'``.
            ValueError: If a question has places of the student, or the teacher does not return one
                answer per image.
        """
        if any(point.asked_at for question in questions.values() for point in question.points):
            raise ValueError("mmkd.CachedTeacher cannot predict for the student's RoIs, which "
                             'change in every step; compare `neck`, `backbone` or the RPN, or use '
                             'mmkd.FrozenTeacher')
        if any(question.through is not None for question in questions.values()):
            raise ValueError('`through` runs the teacher on values of the student, which change in '
                             'every step, but mmkd.CachedTeacher returns cached outputs; use '
                             'mmkd.FrozenTeacher')
        if self.store is None:  # a blank image, before training
            return super().observe(inputs, data_samples, questions)
        keys = self._keys(inputs, data_samples)
        answers = {key: self._quoted(keys, question.points, inputs)
                   for key, question in questions.items()}
        missing = sorted({n for found in answers.values() for one in found.values()
                          for n, answer in enumerate(one) if answer is None})
        self.found += len(keys) - len(missing)
        self.missed += len(missing)
        if missing and self.on_miss == 'error':
            raise LookupError(
                f'{len(missing)} of {len(keys)} images have no cached output in '
                f'{self.store.folder}: the data, the pipeline or the padding of the batch has '
                'changed since it was filled; fill it by tools/cache_teacher.py, or write '
                "`on_miss='run'`")
        if missing:
            self._ask(inputs, data_samples, questions, missing, keys, answers)
        return {key: {point: joined(one) for point, one in found.items()}
                for key, found in answers.items()}

    def _ask(self, inputs: Tensor, data_samples: Optional[Sequence],
             questions: Dict[str, Question], missing: List[int], keys: List[bytes],
             answers: Dict[str, Dict[Point, List[Optional[Answer]]]]) -> None:
        """Run the teacher for missing images, and add its answers to those from the cache.

        In eval mode the answer of an image depends on the other images of the batch only by
        rounding, and padding is part of the image, so the others need not run again.
        """
        # A compiled teacher is compiled for the size of the batch.
        rows = list(range(len(keys))) if 'compile' in self.fast.changes else missing
        samples = None if data_samples is None else [data_samples[n] for n in rows]
        # Stored answers are computed in float32, whatever the precision of the run.
        with torch.autocast(inputs.device.type, enabled=False):
            told = super().observe(inputs[rows], samples, questions)
        records: Dict[bytes, Record] = {}
        for key, found in told.items():
            for point, answer in found.items():
                if any(len(one) != len(rows) for one in answer.tensors()):
                    raise ValueError(
                        f'`{point.name}` of the teacher must have one output for each of '
                        f'{len(rows)} images, but has '
                        f'{[tuple(one.shape) for one in answer.tensors()]}; use mmkd.FrozenTeacher')
                for row, n in enumerate(rows):
                    if n in missing:
                        answers[key][point][n] = part_of(answer, row)
                        records[keys[n] + name_of(point)] = (
                            [one[row] for one in answer.tensors()],
                            dict(queries=[[queries.use_sigmoid, queries.coding]
                                          for queries in answer.queries]))
        self._keep(records)

    def after_iter(self, iteration: int) -> None:
        """Log the hit rate of the cache every ``REPORTED_EVERY`` iterations."""
        if iteration % REPORTED_EVERY == 0:
            self._report(is_first=iteration == REPORTED_EVERY)

    def after_epoch(self, epoch: int) -> None:
        """Log the hit rate of the cache."""
        self._report(is_first=epoch == 1)

    def _report(self, is_first: bool) -> None:
        asked = self.found + self.missed
        if not asked:
            return
        share = self.found / asked
        text = f'{share:.0%} of {asked} outputs of the teacher were read from the cache'
        if not is_first and share < 0.5:
            print_log(f'{text}: images are not the same in every epoch. Wrap the training pipeline '
                      'in mmkd.Replay, and pad or resize all images to one size', 'current',
                      logging.WARNING)
        else:
            print_log(text, 'current')
        self.found = self.missed = 0

    def _description(self) -> Dict[str, Any]:
        """Everything that an answer depends on, except the image."""
        assert self.model is not None
        weights = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            weights.update(name.encode())
            weights.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        # The version of torch is left out: it changes an answer by rounding, as another GPU does.
        return dict(weights=weights.hexdigest(), config=self.identity,
                    mmkd=__version__, reading=READING, family=type(family_of(self.model)).__name__,
                    package=package_of(self.model),
                    arithmetic=', '.join(self.fast.changes) or 'float32',
                    **({} if self.channels is None else dict(channels=self.channels)))

    def _keys(self, inputs: Tensor, data_samples: Optional[Sequence]) -> List[bytes]:
        """One key per image: a digest of the teacher's input."""
        images = self.renormalize(inputs, data_samples).detach().float().cpu().contiguous().numpy()
        keys = []
        for n, image in enumerate(images):
            digest = hashlib.blake2b(digest_size=16)
            digest.update(str(image.shape).encode())
            if data_samples is not None:  # the size without padding
                digest.update(str(tuple(data_samples[n].get('img_shape', ()))).encode())
            digest.update(image)
            keys.append(digest.digest())
        return keys

    def _quoted(self, keys: List[bytes], points: Tuple[Point, ...],
                like: Tensor) -> Dict[Point, List[Optional[Answer]]]:
        assert self.store is not None
        quoted: Dict[Point, List[Optional[Answer]]] = {}
        for point in points:
            records = self.store.find([key + name_of(point) for key in keys])
            quoted[point] = [None if record is None else as_answer(*record, like)
                             for record in records]
        return quoted

    def _keep(self, records: Dict[bytes, Record]) -> None:
        assert self.store is not None
        if self.is_full:
            return
        try:
            if self.store.bytes >= self.max_gb * 2**30:
                raise Full(f'it has reached `max_gb={self.max_gb:g}`')
            self.store.put(records)
        except Full as error:
            self.is_full = True
            print_log(f'No more outputs are cached in {self.store.folder}: {error}. Training '
                      'continues; the teacher runs for images without a cached output', 'current',
                      logging.WARNING)


@MODELS.register_module()
class CachedTeacher(Caching, FrozenTeacher):
    """A :class:`mmkd.FrozenTeacher` with a cache of its answers on disk, for repeated runs.

    The key of an answer is a digest of the pixels of the teacher's input, padding included: any
    change of an image, by its file, the pipeline or the padding in the batch, makes it another
    image. So random augmentations must repeat, as with :class:`mmkd.Replay`, and the hit rate is
    higher for images of equal size. A folder belongs to one teacher, identified by weights, config
    and settings; another teacher is refused.

    Answers at places that the student chooses in every step, such as RoIs, cannot be cached.

    Args:
        cache (str): Folder of the answers. Several processes and runs may share it.
        stored_as (str): 'float32', 'float16' or 'uint8'; see :class:`mmkd.files.store.AnswerStore`.
            Defaults to 'float16'.
        on_miss (str): For an image that is not in the cache: 'run', the teacher runs and its answer
            is stored; 'error', an error is raised. Defaults to 'run'.
        max_gb (float): Size on disk above which no more answers are stored. Defaults to 100.
        **teacher: Arguments of :class:`mmkd.FrozenTeacher`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``stored_as`` or ``on_miss`` is unknown, or ``max_gb`` out of range.

    Example:
        >>> teacher = CachedTeacher('mmdet::detr/detr_r50_8xb2-150e_coco.py', cache='answers')
    """


@MODELS.register_module()
class CachedModuleTeacher(Caching, ModuleTeacher):
    """A :class:`mmkd.ModuleTeacher` with a cache of its answers; see :class:`mmkd.CachedTeacher`.

    Args:
        cache (str): Folder of the answers.
        **teacher: Arguments of :class:`mmkd.ModuleTeacher`, and the others of
            :class:`mmkd.CachedTeacher`.

    Example:
        >>> teacher = CachedModuleTeacher('torch.nn.Identity', checkpoint=None, cache='answers')
    """


def package_of(model: Any) -> str:
    """The package that the class of a model comes from, with its version where it states one.

    Example:
        >>> package_of(torch.nn.Linear(1, 1)) == f'torch {torch.__version__}'
        True
    """
    name = type(model).__module__.split('.')[0]
    return f'{name} {getattr(sys.modules.get(name), "__version__", "")}'.strip()


def name_of(point: Point) -> bytes:
    """Digest of a point, the end of a key."""
    return hashlib.blake2b(repr((point.name, point.paths)).encode(), digest_size=8).digest()


def part_of(answer: Answer, row: int) -> Answer:
    """The answer of one image of a batch; float32, as from :func:`as_answer`."""
    return Answer([level[row].float() for level in answer.levels],
                  [Queries(queries.logits[row].float(), queries.where[row].float(), *queries[2:])
                   for queries in answer.queries])


def as_answer(tensors: List[Tensor], beside: Dict[str, Any], like: Tensor) -> Answer:
    """The answer of one image from its record, on the device of the images."""
    if like.is_cuda:  # pinned, so that the CPU does not wait
        tensors = [one.pin_memory() for one in tensors]
    tensors = [one.to(like.device, non_blocking=True).float() for one in tensors]
    kinds = beside['queries']
    levels = tensors[:len(tensors) - 2 * len(kinds)]
    rest = tensors[len(levels):]
    return Answer(levels, [Queries(rest[2 * i], rest[2 * i + 1], *kind)
                           for i, kind in enumerate(kinds)])


def joined(answers: Sequence[Optional[Answer]]) -> Answer:
    """The answer of a batch from those of its images."""
    one: List[Answer] = [answer for answer in answers if answer is not None]
    levels = [torch.stack(same) for same in zip(*(answer.levels for answer in one))]
    queries = [Queries(torch.stack([each.logits for each in same]),
                       torch.stack([each.where for each in same]), *same[0][2:])
               for same in zip(*(answer.queries for answer in one))]
    return Answer(levels, queries)
