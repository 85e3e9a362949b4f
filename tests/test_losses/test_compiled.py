"""Every loss trains in a plain torch loop, and returns the same values when compiled."""
import copy
import inspect
import shutil

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from mmkd.core.asking import asked_by, takes_positional
from mmkd.losses import LOSSES, PreparedLoss
from mmkd.losses.fast.pieces import PIECE

OF_SETS = {'DETRDistillLoss', 'DETRDistillFeatureLoss', 'DETRDistillGroupLoss', 'KDDETRLoss'}
"""Losses on sets of queries; those of DETRDistill assign queries on the CPU."""
NAMES = sorted(name for name, cls in LOSSES.classes.items()
               if cls.__module__.startswith('mmkd.') and name not in OF_SETS
               and not issubclass(cls, PreparedLoss))
"""All but those that need sets of queries, or the file of a first stage; these have tests of their
own."""
QUICK = {'CWDLoss', 'DISTLoss', 'KDLoss', 'PKDLoss'}
"""Losses that are not marked as slow; compiling one takes seconds."""

SHAPES = (2, 6, 4, 5), (2, 6, 2, 3)
"""(N, C, H, W) of two levels."""

CHANNELS = dict(BCKDBoxLoss=4, CrossKDBoxLoss=4, CrossKDBinsLoss=12, CrossKDCenternessLoss=1,
                LDLoss=12)
"""C where it has a meaning: boxes, bins of their sides, centerness."""
STEPS = dict(BCKDBoxLoss=1., CrossKDBoxLoss=1., CrossKDCenternessLoss=0.3)
"""Learning rates. Boxes are in pixels."""
ROUNDING = dict(DSDLoss=3e-5)
"""Absolute tolerance where it is not 1e-6: DSD has a weight of 1000."""
IMAGES = dict(RKDLoss=4, CKALoss=4)
"""Number of images; these losses are 0 for fewer than three."""


@pytest.fixture(autouse=True)
def compiler():
    """Functions compiled by other tests count towards torch's recompilation limit."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def losses(name):
    """Return the loss with default arguments, and with other temperatures and activations.

    With several temperatures, torch traces the temperature as a dynamic value.
    """
    cls = LOSSES.classes[name]
    known = inspect.signature(cls).parameters
    made = [cls()]
    if 'tau' in known:
        made.append(cls(tau=2.))
    if 'use_sigmoid' in known and not getattr(made[0], 'needs_softmax', False):
        made.append(cls(use_sigmoid=True, **(dict(tau=3.) if 'tau' in known else {})))
    for loss in made:
        if loss.is_trained:
            channels = SHAPES[0][1] if loss.levels == 'each' else [one[1] for one in SHAPES]
            known = dict(num_classes=6)
            loss.setup(channels, channels, **{
                key: known[key] for key in asked_by(cls.setup).names if key in known})
    return made


def logits(n, c, *size):
    return [torch.randn(n, c, *size)]


def classes_and_boxes(n, c, height, width):
    """Return logits of three classes, and one box per position."""
    corners = torch.rand(n, 2, height, width) * 20
    return [torch.randn(n, 3, height, width), torch.cat([corners, corners + 9], dim=1)]


def anchors(n, c, height, width):
    return torch.cat([centres(n, c, height, width) + side for side in (-12., 12.)], dim=1)


def centres(n, c, height, width):
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    return torch.stack([x, y], dim=2).reshape(-1, 2) * 8. + 4


OF_LEVEL = dict(labels=lambda n, c, *size: torch.randint(0, c, (n, *size)),
                label_weights=lambda n, c, *size: torch.rand(n, *size),
                stride=lambda *shape: (8., 8.), level=lambda *shape: 0,
                student_also=logits, teacher_also=logits, priors=centres)
OF_LD = dict(OF_LEVEL, priors=anchors)
OF_BATCH = dict(boxes=lambda: [torch.tensor([[2., 2., 22., 20.]]), torch.zeros(0, 4)],
                box_labels=lambda: [torch.tensor([1]), torch.zeros(0, dtype=torch.int64)],
                iteration=lambda: 0, num_positives=lambda: torch.tensor(3.),
                label_map=lambda: torch.randint(0, 6, (2, 8, 10)),
                num_classes=lambda: 6, input_size=lambda: (32, 40),
                image_sizes=lambda: torch.tensor([[32, 40]] * 2))


def named_values(loss, shapes):
    """Return the named arguments of the loss, as a list if they are per level."""
    asked = loss.asked().required
    missing = set(asked) - {*OF_LEVEL, *OF_BATCH}
    assert not missing, f'{type(loss).__name__} asks for {missing}; give it here'
    of_level = dict(OF_LD if type(loss).__name__ == 'LDLoss' else OF_LEVEL)
    if loss.also == ('cls', 'boxes'):
        of_level.update(teacher_also=classes_and_boxes)
    return {name: [of_level[name](*shape) for shape in shapes] if name in OF_LEVEL
            else OF_BATCH[name]() for name in asked}


def arguments(loss, is_list, has_weight):
    """Return student, teacher, weights or None, and the named arguments."""
    torch.manual_seed(0)
    shapes = SHAPES if is_list or loss.levels == 'all' else SHAPES[:1]
    name = type(loss).__name__
    shapes = [(IMAGES.get(name, n), CHANNELS.get(name, c), *size) for n, c, *size in shapes]
    are_boxes = CHANNELS.get(type(loss).__name__) == 4
    make = (lambda *shape: classes_and_boxes(*shape)[1]) if are_boxes else torch.randn
    student, teacher = ([make(*shape) for shape in shapes] for _ in range(2))
    # A weight of 0 stands for a position that a mask excludes.
    weight = [torch.rand(n, *size).sub(0.2).clamp(min=0) for n, _, *size in shapes]
    named = named_values(loss, shapes)
    if not is_list and loss.levels == 'each':
        student, teacher, weight = student[0], teacher[0], weight[0]
        named = {name: value[0] if name in OF_LEVEL else value for name, value in named.items()}
    has_weight = has_weight and takes_positional(type(loss).compare, 4)
    return student, teacher, weight if has_weight else None, named


def summed(found):
    """Sum the result of a loss: a scalar, or nested dicts and lists of scalars."""
    if isinstance(found, dict):
        found = list(found.values())
    return sum(map(summed, found)) if isinstance(found, list) else found


def value_and_gradients(function, loss, student, teacher, weight, named):
    """Return the value, and the gradients of the student's levels and of the loss's parameters."""
    leaves = [one.clone().requires_grad_()
              for one in (student if isinstance(student, list) else [student])]
    given = leaves if isinstance(student, list) else leaves[0]
    value = summed(function(given, teacher, weight, **named))
    gradients = torch.autograd.grad(value, [*leaves, *loss.parameters()], allow_unused=True)
    assert all(one.abs().sum() > 0 for one in gradients[:len(leaves)])
    return [value.detach(), *(one for one in gradients if one is not None)]


def agree(loss, backend, is_list, has_weight):
    given = arguments(loss, is_list, has_weight)
    same = copy.deepcopy(loss)  # a bank changes with each call
    plain = value_and_gradients(same, same, *given)
    compiled = value_and_gradients(torch.compile(loss, backend=backend), loss, *given)
    torch.testing.assert_close(compiled, plain, rtol=1e-5, atol=ROUNDING.get(
        type(loss).__name__, 1e-6))
    assert plain[0] > 0


@pytest.mark.parametrize(('is_list', 'has_weight'), [
    (True, True), pytest.param(False, False, marks=pytest.mark.slow)])
@pytest.mark.parametrize('name', [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in NAMES])
def test_compiled_losses_are_equal(name, is_list, has_weight):
    """Compiled with AOTAutograd, without code generation."""
    counter = CompileCounterWithBackend('aot_eager')
    for loss in losses(name):
        agree(loss, counter, is_list, has_weight)
    assert counter.frame_count  # otherwise nothing was compiled


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which('g++') and not shutil.which('clang++'),
                    reason='machine code for a CPU needs a compiler of C++')
@pytest.mark.parametrize('name', NAMES)
def test_losses_compiled_with_inductor_are_equal(name):
    """Compiled with Inductor, torch's default backend."""
    agree(losses(name)[-1], 'inductor', is_list=True, has_weight=True)


@pytest.mark.parametrize('name', NAMES)
def test_losses_decrease_in_a_plain_loop(name):
    """With an optimizer of torch, for a single map and for several levels."""
    for loss in losses(name):
        for is_list in (False, True):
            student, *given, named = arguments(loss, is_list, has_weight=True)
            levels = student if isinstance(student, list) else [student]
            levels = [one.requires_grad_() for one in levels]
            optimizer = torch.optim.Adam([*levels, *loss.parameters()],
                                         STEPS.get(name, 0.05))
            values = []
            for _ in range(4):
                value = summed(loss(student, *given, **named))
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                values.append(value.item())
            # The teacher's entropy is part of the value of NKD and does not decrease.
            assert values[-1] < (0.99 if name == 'NKDLoss' else 0.95) * values[0], values


@pytest.mark.slow
def test_pieces_are_not_traced(monkeypatch):
    """The number of traced operations must not depend on the number of pieces."""
    for name in ('CWDLoss', 'DISTLoss', 'KDLoss'):
        counts = []
        for size in (1 << 18, 20):
            monkeypatch.setitem(PIECE, 'cpu', size)
            torch._dynamo.reset()
            counter = CompileCounterWithBackend('eager')
            agree(LOSSES.classes[name](), counter, is_list=False, has_weight=False)
            counts.append(counter.op_count)
        assert counts[0] == counts[1] < 30, (name, counts)
