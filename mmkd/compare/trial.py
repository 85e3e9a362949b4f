"""Trial of a term on a blank image: levels, layers, and whether its loss has a gradient."""
import copy
import warnings
from dataclasses import replace
from typing import Any, Dict, List

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..core.asking import asked_by
from ..core.errors import said_by
from ..core.log import warn
from ..losses.trial import limits_of
from ..points import Answers, points_of
from ..points.recorder import Records, evaluating
from .alignment import Alignment
from .connectors import connect, set_up
from .fitting import Fitting, check_features, chosen_heads, fit, is_grid, resized
from .levels import Size, is_ambiguous, shown_strides, sizes_of
from .parts import shown_shapes
from .term import Term
from .vocabulary import Batch, Context, Untriable


def fit_term(term: Term, seen: Records, told: Dict[str, Answers], batch: Batch, model: nn.Module,
             image: Size) -> None:
    """Pair the levels of a term, create its layers, and evaluate its loss once.

    Args:
        term (Term): The term, after :meth:`Term.align`.
        seen (dict): Records of the student on a blank image.
        told (dict): Answers of the teacher, by the paths of :attr:`Term.asked`.
        batch (Batch): The blank image.
        model (nn.Module): The student.
        image (tuple[int, int]): Height and width of the image, in pixels.

    Raises:
        ValueError: If the levels cannot be compared, or the loss has no gradient for them, or
            no finite one.
    """
    assert term.alignment is not None, 'align() comes first'
    with torch.no_grad():
        _choose_heads(term, seen, told, image)
        term.fitting, (student, teacher) = fit(
            term.alignment, *term.alignment.read(seen, told, term.loss.pairs_queries), image,
            term.spec.levels)
        term.also_fittings = [_fit_also(term, one, seen, told, image) for one in term.also]
        if not term.student_point.is_prediction:
            check_features(term.alignment, student, teacher)
            _connect(term, student, teacher)
        if 'positions' in term.loss.must_match:
            term.fitting.notes += [
                f'the teacher\'s {_size(t)} interpolated to {_size(s)}'
                for s, t in zip(student, teacher) if resized(term.alignment, t, s) is not t]
        with evaluating(term.connectors):  # norms forget the blank image, and take one position
            context = term.context(seen, told, batch, model, is_trial=True)
        term.compared = [tuple(level.shape) for level in context.student]
        _make_layers(term, context)
    _try_loss(term, context)
    assert term.alignment is not None
    columns, shape = term.alignment.width, term.compared[0]
    if term.spec.replaces == 'background' and len(shape) == 4 and shape[1] != columns:
        raise ValueError(
            f"`replaces='background'`, but `{term.student_point.name}` of the student has "
            f'{shape[1] // (columns or 1)} anchors at a position, and each has its own label; '
            'write `per_anchor=True`')


def is_ambiguous_for(term: Term, seen: Records, told: Dict[str, Answers]) -> bool:
    """Whether a larger image is needed to pair the levels, judged by the sizes of the maps."""
    assert term.alignment is not None, 'align() comes first'
    with torch.no_grad():
        sides = term.alignment.read(seen, told)
    return is_grid(term.alignment, *sides) and is_ambiguous(*map(sizes_of, sides))


def _choose_heads(term: Term, seen: Records, told: Dict[str, Answers], image: Size) -> None:
    """Choose among several heads of one kind the one that has a partner."""
    assert term.alignment is not None
    one, other = term.alignment.student, term.alignment.teacher
    if one.choices or other.choices:
        mine, theirs = one.choices or (one, ), other.choices or (other, )
        found = chosen_heads(term.alignment, [point.levels(seen)[0] for point in mine],
                             [told[''][point].levels[0] for point in theirs], image)
        term.alignment = replace(term.alignment, student=mine[found[0]], teacher=theirs[found[1]])


def _fit_also(term: Term, further: Alignment, seen: Records, told: Dict[str, Answers],
              image: Size) -> Fitting:
    """Pair the levels of a further point, of which there must be as many."""
    read = further.read(seen, told, term.loss.pairs_queries)
    if further.student.queries is not None and term.student_point.queries is None:
        fitting, _ = fit(further, *read, image)
        fitting.is_of_all = True
        return fitting
    fitting, (student, _) = fit(further, *read, image, term.spec.levels)
    expected = len(term.fitting.shapes[0])
    if len(student) != expected:
        raise ValueError(f'`{term.name}`: `{further.student.name}` in `also` has {len(student)} '
                         f'levels to compare, but `{term.student_point.name}` has {expected}; '
                         'choose points with the same number of levels, or write `levels=[...]`')
    mine, theirs = term.fitting.strides[0], fitting.strides[0]
    if mine and theirs and mine != theirs:
        raise ValueError(f'`{term.name}`: the levels of `{further.student.name}` in `also` have '
                         f'the strides {shown_strides(theirs)}, but those of '
                         f'`{term.student_point.name}` have {shown_strides(mine)}; choose points '
                         'with the same strides, or write `levels=[...]`')
    return fitting


def _connect(term: Term, student: List[Tensor], teacher: List[Tensor]) -> None:
    if term.spec.connector is None or (
            'channels' not in term.loss.must_match and term.spec.connector == 'auto'):
        return
    connectors = connect(student, teacher, term.spec.connector, term.fitting.strides[0],
                         term.fitting.numbers)
    if any(not isinstance(one, nn.Identity) for one in connectors):
        term.connectors = connectors
        term.fitting.notes += [
            f'{type(one).__name__} {s.shape[1]} -> {t.shape[1]} on the student'
            for one, s, t in zip(connectors, student, teacher)
            if not isinstance(one, nn.Identity)]


def _make_layers(term: Term, context: Context) -> None:
    """Set up a loss with layers; with ``levels='each'``, one copy per level."""
    if not term.loss.has_setup:
        return
    student, teacher = ([one.shape[1] for one in side]
                        for side in (context.student, context.teacher))
    classes = None
    if 'num_classes' in asked_by(type(term.loss).setup).names:
        assert context.model is not None
        point = points_of(context.model).get('cls')
        classes = point.num_named or None if point else None
        if context.kept is not None:
            classes = len(context.kept)
    numbers = term.fitting.teacher_levels
    if term.loss.levels == 'all':
        set_up(term.loss, student, teacher, context.strides, -1, num_classes=classes,
               teacher_level=numbers)
    else:
        term.losses = nn.ModuleList(copy.deepcopy(term.loss) for _ in student)
        for number, (loss, one, other) in enumerate(zip(term.losses, student, teacher)):
            set_up(loss, one, other, context.strides, number, context.numbers[number],
                   num_classes=classes, teacher_level=numbers[number])
    term.losses.to(context.student[0].device, context.student[0].dtype)


def _try_loss(term: Term, context: Context) -> None:
    """Raise an error before the first batch if the loss fails or has no gradient."""
    # A loss that communicates is not evaluated: the model may still be on the CPU, and the
    # processes of GPUs (NCCL) cannot exchange tensors of a CPU.
    if not term.loss.communicates:
        kept = term.losses
        if term.loss.is_trained:  # a bank is to forget the blank image
            term.losses = copy.deepcopy(kept).eval()
        try:
            with torch.enable_grad(), warnings.catch_warnings():  # with gradient, as in training
                warnings.simplefilter('ignore')  # a single image may be too few
                context.student = [one.detach().requires_grad_() for one in context.student]
                term.value(context, is_trial=True)
        except Untriable as untriable:
            print_log(f'{term.name}: its loss is not checked before training, because {untriable}',
                      'current')
        except (TypeError, ValueError) as error:
            named = str(error) if f'`{term.name}`' in str(error) else f'`{term.name}`: {error}'
            raise type(error)(named) from error
        except Exception as error:
            raise ValueError(
                f'`{term.name}`: {type(term.loss).__name__} fails on the blank image of the check '
                f'before training: {said_by(error)}; {_step(term, context, error)}') from error
        finally:
            term.losses = kept
    teacher = [tuple(one.shape) for one in context.teacher]
    pairs: List[Any] = [(loss, term.compared[n:n + 1], teacher[n:n + 1]) for n, loss in enumerate(
        term.losses)] if len(term.losses) > 1 else [(term.losses[0], term.compared, teacher)]
    limits = [limits_of(*one) for one in pairs]
    notes = list(dict.fromkeys(note for one in limits for note in one.notes))
    if all(one.is_constant for one in limits):
        raise ValueError(
            f'`{term.name}` gives no gradient at `{term.student_point.name}` of the student '
            f'({shown_shapes(term.compared)}): {"; ".join(notes)}')
    # A loss that asks for labels or boxes may find none among the generated ones.
    if all(one.is_broken for one in limits) and not term.loss.asked().names:
        raise ValueError(f'`{term.name}` cannot be trained: {"; ".join(notes)}')
    for note in notes:
        warn(f'{term.name}: {note}')


def _step(term: Term, context: Context, error: Exception) -> str:
    """What to do about a loss that fails in the trial."""
    both = [(s.shape[1], t.shape[1]) for s, t in zip(context.student, context.teacher)]
    differing = [one for one in both if one[0] != one[1]]
    if differing and isinstance(error, RuntimeError) and not (
            'channels' in term.loss.must_match or term.loss.has_setup):
        return (f'the student has {differing[0][0]} channels, the teacher {differing[0][1]}; as '
                "`must_match` lacks 'channels' there is no connector: add it, or make a layer in "
                '`setup`')
    return 'check that its `compare` works with one image and with maps of one position'


def _size(level: Tensor) -> str:
    return 'x'.join(map(str, level.shape[2:]))
