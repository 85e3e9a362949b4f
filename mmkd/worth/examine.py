"""All figures of an examination of a pair, within a limit of time."""
import copy
import math
import time
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from ..compare.spec import TermSpec
from ..compare.term import Term
from ..core.build import build_model
from ..core.rng import seed_from
from ..data.overlap import overlap
from ..files.checkpoint import read_checkpoint
from ..files.classes import classes_of_config
from ..files.fit import load_exactly
from ..inspection import Pair, entries_of
from ..losses import METHODS
from ..losses.recommended import order_of
from ..networks import FrozenTeacher
from ..networks.frozen import model_config
from ..points import find_point, kinds_of, points_of
from ..training.distillation import Distillation
from ..training.probe import attempt
from .at_point import POINTS, standing_of, watching
from .costs import cache_costs
from .findings import Examination, Findings, MethodFinding
from .images import check_data, split_loader, training_batches, training_size
from .pull import alone, fill, lesson_of
from .scores import deciding, scores_of

MINUTES, IMAGES = 5., 200
"""Defaults: the limit of time, and images of each split."""
BATCHES, BATCH_SIZE = 2, 4
"""Batches for each method, and most images of a batch."""
SHARE_OF_IMAGES, SHARE_OF_SCORES, SHARE_OF_POINT, SHARE_OF_CACHE = 0.2, 0.3, 0.4, 0.1
"""The most that a part takes of the time that is left."""


def examine(student: Config, teacher: Config, checkpoint: Optional[str] = None,
            student_checkpoint: Optional[str] = None, classes: Optional[str] = None,
            images: int = IMAGES, minutes: float = MINUTES,
            methods: Optional[List[str]] = None,
            tell: Callable[[str], None] = lambda text: None) -> Examination:
    """Measure what can be known of a pair before training.

    Nothing is trained. Methods are measured in the order of
    :func:`mmkd.losses.recommended.order_of` until the time is up; the others are listed
    as not measured.

    Args:
        student (Config): The student's config, plain, with its data.
        teacher (Config): The teacher's config.
        checkpoint (str, optional): The teacher's weights. Defaults to None, random weights.
        student_checkpoint (str, optional): Weights of the student trained alone. Defaults to None:
            the weights with which training starts.
        classes (str, optional): Path of a mapping of classes. Defaults to None.
        images (int): Most images of each split. Defaults to :data:`IMAGES`.
        minutes (float): Limit of time. Defaults to :data:`MINUTES`.
        methods (list[str], optional): Methods to measure. Defaults to None, all that fit.
        tell (Callable): Called with the name of each part as it begins.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If the config has no data, or a checkpoint does not fit.

    Example:
        >>> examine(Config(), Config())  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: the config of the student has no `train_dataloader`, ...
    """
    start = time.monotonic()
    ends = start + 60 * minutes
    with _prepared(student, teacher, checkpoint, student_checkpoint, classes, images, tell) as work:
        work.attempt('the images', lambda: work.overlap(_after(SHARE_OF_IMAGES, ends)))
        work.attempt('the scores', lambda: work.scores(_after(SHARE_OF_SCORES, ends)))
        work.attempt('the point', lambda: work.point(_after(SHARE_OF_POINT, ends)))
        work.attempt('the methods', lambda: work.methods(
            methods, _after(1 - SHARE_OF_CACHE, ends)))
        work.attempt('the cache', lambda: work.cache(ends))
    work.found.seconds = time.monotonic() - start
    return Examination(work.found, work.examples, work.metainfo)


def measure_shares(student: Config, teacher: Config, checkpoint: Optional[str] = None,
                   student_checkpoint: Optional[str] = None, classes: Optional[str] = None,
                   methods: Optional[List[str]] = None,
                   tell: Callable[[str], None] = lambda text: None) -> Findings:
    """Measure the shares of the terms of methods alone, see :mod:`mmkd.training.shares`.

    Args:
        student (Config): See :func:`examine`.
        teacher (Config): See :func:`examine`.
        checkpoint (str, optional): See :func:`examine`.
        student_checkpoint (str, optional): See :func:`examine`.
        classes (str, optional): See :func:`examine`.
        methods (list[str], optional): The methods. Defaults to None, those of
            :func:`mmkd.losses.recommended.order_of`.
        tell (Callable): See :func:`examine`.
    """
    with _prepared(student, teacher, checkpoint, student_checkpoint, classes, 0, tell) as work:
        work.methods(methods or list(order_of(work.found.kind)), math.inf)
    return work.found


@contextmanager
def _prepared(student: Config, teacher: Config, checkpoint: Optional[str],
              student_checkpoint: Optional[str], classes: Optional[str], images: int,
              tell: Callable[[str], None]) -> Iterator['_Work']:
    """Both networks, prepared to be measured inside the block."""
    check_data(student)
    found = Findings(str(student.filename or 'student'), str(teacher.filename or 'teacher'))
    # pycocotools prints.
    with DefaultScope.overwrite_default_scope(student.get('default_scope')), redirect_stdout(
            StringIO()):
        model = _student(student, student_checkpoint)
        found.is_trained = student_checkpoint is not None
        one = FrozenTeacher(teacher, checkpoint=checkpoint, classes=classes)
        one.prepare(model)
        assert one.model is not None
        one.is_prepared = True
        if torch.cuda.is_available():
            model.cuda()
            one.model.cuda()
        found.kind = kinds_of(model)[-1]
        found.classes = list(classes_of_config(student) or ())
        work = _Work(student, model, one, found, images, tell)
        tell('the pair')
        work.pair()
        yield work


def _after(share: float, ends: float) -> float:
    """The time at which a share of the time that is left is over."""
    now = time.monotonic()
    return now + share * (ends - now)


def _student(config: Config, checkpoint: Optional[str]) -> Any:
    seed_from(0)
    model: Any = build_model(model_config(config), 'student')
    if checkpoint is None:
        model.init_weights()
    else:
        load_exactly(model, read_checkpoint(checkpoint, whose='student'), checkpoint)
    return model


class _Work:
    """The parts of an examination; each may fail without the others."""

    def __init__(self, config: Config, model: Any, teacher: FrozenTeacher, found: Findings,
                 images: int, tell: Callable[[str], None]) -> None:
        self.config, self.model, self.teacher, self.found = config, model, teacher, found
        self.images, self.tell = images, tell
        self.examples: List[Dict[str, Any]] = []
        self.metainfo: Dict[str, Any] = {}
        self.batches: List[Any] = []
        self.entries: Dict[str, List[Dict[str, Any]]] = {}

    def attempt(self, what: str, part: Callable[[], None]) -> None:
        self.tell(what)
        try:
            part()
        except Exception as error:  # other parts are useful without it
            self.found.problems.append(f'{what}: {type(error).__name__}: {error}')

    def distillation(self, entries: List[Dict[str, Any]]) -> Distillation:
        return Distillation(self.model, self.teacher, entries, config=self.config)

    def pair(self) -> None:
        """Try all points, and find the one that is compared with labels."""
        first = next(iter(points_of(self.model, 'student')))
        distillation = self.distillation([dict(type='mmkd.MSELoss', on=first)])
        distillation.probe.tell_classes()
        self.inspected = Pair(distillation)
        reasons = {}
        for name in POINTS:
            point = points_of(self.model, 'student').get(name)
            if point is None or not point.criteria:
                continue
            tried = attempt(distillation, watching(name))
            if isinstance(tried, Term):
                self.found.point = name
                return
            reasons[name] = str(tried)
        self.found.problems += [f'the point `{name}`: {text}' for name, text in reasons.items()]

    def overlap(self, ends: float) -> None:
        """Find validation images that are among the training images."""
        train, val = (DATASETS.build(copy.deepcopy(loader.dataset))
                      for loader in (self.config.train_dataloader, self.config.val_dataloader))
        try:
            self.found.seen = overlap(train, val, ends=ends)
        except TimeoutError:
            self.found.problems.append('training and validation images: not compared; the time was '
                                       'up; allow more by --minutes')

    def scores(self, ends: float) -> None:
        scored = scores_of(self.config, self.model, self.teacher, self.found.classes, self.images,
                           ends)
        self.found.images['scored'] = scored.images
        self.found.scores = scored.scores
        self.found.metric = deciding(list({key: None for one in scored.scores.values()
                                           for key in one}))
        self.found.by_class, self.examples = scored.by_class, scored.examples
        self.metainfo = scored.metainfo
        if scored.agreement.images:
            self.found.agreement = scored.agreement.result(self.found.classes or [
                str(number) for number in range(scored.agreement.counts.shape[1])])

    def point(self, ends: float) -> None:
        if not self.found.point:
            return
        distillation = self.distillation([watching(self.found.point)])
        distillation.prepare()
        loaders = {split: split_loader(self.config, split, self.images)
                   for split in ('train', 'held_out')}
        self.found.standings, self.found.advantage = standing_of(distillation, loaders, ends)
        self.found.images.update({
            split: getattr(self.found.standings['teacher'], split).get('images', 0)
            for split in loaders})

    def methods(self, names: Optional[List[str]], ends: float) -> None:
        self.batches = training_batches(self.config, BATCHES, BATCH_SIZE)
        seconds, memory = alone(self.model, self.batches)
        self.found.alone = dict(
            seconds=seconds, memory=memory, images=training_size(self.config),
            batch=min(BATCH_SIZE, self.config.train_dataloader.batch_size),
            epochs=(self.config.get('train_cfg') or {}).get('max_epochs'))
        for name in names or ordered(self.found.kind):
            is_late = time.monotonic() > ends
            if is_late and not names and name not in order_of(self.found.kind):
                self.found.problems.append('further methods: the time was up; allow more by '
                                           '--minutes')
                break
            one = MethodFinding(name)
            try:
                entries = entries_of(name, self.inspected)
            except ValueError as error:
                if names:
                    one.problem = str(error)
                    self.found.methods.append(one)
                continue
            self.found.methods.append(one)
            self.entries[name] = entries
            one.on, one.kinds = points_compared(self.model, entries)
            if is_late:
                one.is_left_out = True
                continue
            self.tell(f'the method {name}')
            self._measure(one, entries)

    def _measure(self, one: MethodFinding, entries: List[Dict[str, Any]]) -> None:
        try:
            distillation = self.distillation(entries)
            distillation.prepare()
            device = next(self.model.parameters()).device
            distillation.side_modules._apply(lambda tensor: tensor.to(device))
            distillation.begin()
            fill(one, lesson_of(distillation, self.batches), distillation)
        except Exception as error:
            one.problem = f'{type(error).__name__}: {error}'

    def cache(self, ends: float) -> None:
        """Measure the cache for the first method whose outputs it can store."""
        for one in self.found.methods:
            if one.problem or one.is_left_out or time.monotonic() > ends:
                continue
            try:
                costs = cache_costs(
                    self.model, self.teacher, self.entries[one.name], self.batches, self.config,
                    self.found.alone['images'])
            except ValueError:  # its outputs cannot be cached
                continue
            self.found.cache = dict(costs, method=one.name)
            return


def points_compared(student: Any, entries: List[Dict[str, Any]]) -> Tuple[List[str], List[str]]:
    """The student's points of entries, and whether each is a 'prediction' or a 'feature'."""
    names = [TermSpec.of(entry).on_student for entry in entries]
    return names, ['prediction' if find_point(student, name, 'student').is_prediction else 'feature'
                   for name in names]


def ordered(kind: str) -> List[str]:
    """Names of all methods, those with evidence for a family first.

    Example:
        >>> ordered('dense')[0]
        'dist'
    """
    first = order_of(kind)
    return [*first, *sorted(set(METHODS) - set(first))]
