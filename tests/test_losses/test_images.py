"""Common properties of the losses on relations between images; two processes equal one."""
import pytest
import torch
from support.processes import in_processes

from mmkd.losses import CKALoss, RKDLoss, SPLoss
from mmkd.losses.card import needs_of
from mmkd.losses.images import ImageRelationLoss
from mmkd.losses.method import METHODS
from mmkd.losses.trial import is_constant

KINDS = [SPLoss, RKDLoss, CKALoss]


def total(value):
    return sum(value.values()) if isinstance(value, dict) else value


def drawn(images, *sizes, seed=0):
    rng = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(images, *size, dtype=torch.float64, generator=rng)
                        for size in sizes)
    return student.requires_grad_(), teacher


@pytest.mark.parametrize('kind', KINDS)
def test_gradient_is_the_derivative(kind):
    student, teacher = drawn(4, (3, 2, 3), (5, 4, 4))
    assert torch.autograd.gradcheck(lambda x: total(kind(grid=2)(x, teacher)), student)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('grid', [None, 1, 2])
def test_rows_are_averages_of_the_maps(kind, grid):
    student, teacher = drawn(4, (3, 4, 6), (5, 2, 2))
    rows = [torch.stack([part.mean() if part.numel() else part.sum() for channel in image
                         for band in channel.tensor_split(side.shape[2] if grid is None else grid)
                         for part in band.T.tensor_split(side.shape[3] if grid is None else grid)])
            for side in (student, teacher) for image in side]
    found, expected = (total(loss) for loss in (
        kind(grid=grid)(student, teacher),
        kind()(torch.stack(rows[:4]), torch.stack(rows[4:]))))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('kind', KINDS)
def test_equal_relations_have_no_loss(kind):
    """Rotating and scaling features does not change their relations."""
    student, teacher = drawn(5, (4,), (4,))
    turn, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))
    assert total(kind()(3 * teacher @ turn[:4], teacher)).item() == pytest.approx(0, abs=1e-10)
    before, after = (total(kind()(x, teacher)) for x in (student, .2 * student @ turn[:4]))
    torch.testing.assert_close(after, before)
    assert before > 1e-3


@pytest.mark.parametrize('kind', [RKDLoss, CKALoss])
def test_a_common_offset_does_not_matter(kind):
    student, teacher = drawn(5, (4,), (3,))
    plain = total(kind()(student, teacher))
    torch.testing.assert_close(total(kind()(student + 7, teacher - 2)), plain)
    single = [total(kind()(side.float() + offset, teacher.float())).item()
              for side, offset in ((student, 0), (student, 1000))]
    assert single[1] == pytest.approx(single[0], rel=1e-2)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('images', [1, 2])
def test_too_few_images_have_a_loss_of_0_and_a_warning(kind, images):
    student, teacher = drawn(images, (3, 2, 2), (3, 2, 2))
    if images >= kind.least:
        assert total(kind()(student, teacher)) > 0
        return
    with pytest.warns(UserWarning, match=f'{kind.__name__} compares {kind.least} or more images '
                      f'.* the batch has {images}, so the loss is 0; increase the batch size, or '
                      'write `sync=True`'):
        value = kind(sync=False)(student, teacher)
    assert total(value) == 0
    assert isinstance(value, dict) is (kind is RKDLoss)
    total(value).backward()
    assert not student.grad.any()


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('grid', [None, 1, 2])
@pytest.mark.parametrize('size', [(0, 3, 4, 4), (4, 3, 0, 4), (0, 3)])
def test_nothing_to_compare(kind, grid, size, recwarn):
    student = torch.randn(size, requires_grad=True)
    value = total(kind(grid=grid)(student, torch.randn(size)))
    assert not recwarn
    assert value == 0
    value.backward()
    assert student.grad.shape == student.shape


@pytest.mark.parametrize('kind', KINDS)
def test_equal_images_have_finite_gradients(kind):
    """All features are equal, on one side or both, or two images are equal."""
    for seed in range(3):
        student, teacher = (one.detach().float() for one in drawn(4, (3,), (5,), seed=seed))
        for own, other in ((student[:1], teacher), (student, teacher[:1]),
                           (student[:1], teacher[:1]), (student[[0, 0, 1, 2]], teacher),
                           (0 * student, teacher), (student, 0 * teacher)):
            own = own.expand(4, -1).clone().requires_grad_()
            value = total(kind()(own, other.expand(4, -1)))
            value.backward()
            assert value.isfinite()
            assert own.grad.isfinite().all()
            assert own.grad.abs().max() < 1e4


@pytest.mark.parametrize('kind', KINDS)
def test_half_precision_is_computed_in_single(kind):
    student, teacher = (one.detach().half() for one in drawn(4, (3, 2, 2), (5, 2, 2)))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = total(kind()(student, teacher))
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(total(kind()(student.double(), teacher.double())).item(),
                                         rel=1e-4)


@pytest.mark.parametrize('kind', KINDS)
def test_teacher_gets_no_gradient(kind):
    student, teacher = drawn(4, (3,), (5,))
    total(kind()(student, teacher.requires_grad_())).backward()
    assert teacher.grad is None


@pytest.mark.parametrize('kind', KINDS)
def test_single_blank_image_is_accepted(kind, recwarn):
    assert not is_constant(kind(), [(1, 8, 4, 4)], [(1, 6, 2, 2)])
    assert not recwarn


def test_loss_without_gradient_is_detected():
    class Nothing(ImageRelationLoss):
        def relate(self, student, teacher):
            return student.sum() * 0
    assert is_constant(Nothing(1, True, 1.), [(1, 8, 4, 4)])


def test_what_is_wrong_is_named():
    for settings, message in ((dict(grid=0), '`grid` must be 1 or more'),
                              (dict(grid=2.), '`grid` must be a whole number'),
                              (dict(sync=1), '`sync` must be True or False, but got 1')):
        for kind in KINDS:
            with pytest.raises((TypeError, ValueError), match=message):
                kind(**settings)
    assert 'exchange between processes' in needs_of(METHODS['sp'])


# --- several processes --------------------------------------------------------------------------


BATCH = [(3, 2), (2, 3), (4, 1), (1, 1)]
"""Images of each process; the last pair is too few for some in each process, or together."""


def in_one_process_of(rank, world):
    found = []
    for counts in BATCH:
        for kind in KINDS:
            for sync in (True, False):
                student, teacher = drawn(sum(counts), (3, 4, 4), (5, 2, 2))
                own = slice(sum(counts[:rank]), sum(counts[:rank + 1]))
                mine = student.detach()[own].clone().requires_grad_()
                value = total(kind(sync=sync)(mine, teacher[own]))
                value.backward()
                found.append([value.item(), mine.grad])
    return found, refused_sizes(rank)


def refused_sizes(rank):
    """Return the error messages for maps whose size differs between processes."""
    said = []
    for kind in KINDS:
        maps = torch.ones(2, 3, 2 + rank, 2)
        try:
            kind(grid=None)(maps, maps)
        except ValueError as error:
            said.append(str(error))
        kind(grid=2)(maps, maps)
    return said


def test_two_processes_equal_one_with_the_whole_batch(tmp_path):
    found, said = zip(*in_processes(in_one_process_of, 2, tmp_path))
    for one in said:
        assert len(one) == len(KINDS)
        assert all('use the same dtype and shape in all processes' in line for line in one)
    cases = [(counts, kind, sync) for counts in BATCH for kind in KINDS for sync in (True, False)]
    for number, (counts, kind, sync) in enumerate(cases):
        values, gradients = zip(*(one[number] for one in found))
        student, teacher = drawn(sum(counts), (3, 4, 4), (5, 2, 2))
        if sync:
            value = total(kind()(student, teacher))
            value.backward()
            expected = student.grad
            # A distributed wrapper averages gradients over processes.
            assert values == pytest.approx([value.item()] * 2, rel=1e-9)
            torch.testing.assert_close(torch.cat(gradients) / 2, expected)
        else:
            each = zip(student.detach().split(counts), teacher.split(counts))
            assert values == pytest.approx([total(kind()(*one)).item() for one in each], rel=1e-9)
