"""The trial detects losses that are constant at their point, without false alarms."""
import pytest
import torch
from conftest import build, distiller, retinanet, segmentor

from mmkd.losses import LOSSES, CWDLoss, DistillLoss, DISTLoss, KDLoss, MSELoss
from mmkd.losses.trial import is_constant, limits_of
from mmkd.registry import MODELS


class OfTheConfident(DistillLoss):
    """Compares only positions where the teacher is confident."""

    def compare(self, student, teacher, weight):
        sure = teacher.softmax(1).amax(1, keepdim=True) > 0.9
        return ((student - teacher).square() * sure).mean()


class OfRoots(DistillLoss):
    """Requires values of 0 or more."""

    def compare(self, student, teacher, weight):
        return (student.sqrt() - teacher.sqrt()).square().mean()


class OfNorms(DistillLoss):
    """Normalisation leaves nothing to compare in a single channel."""

    def compare(self, student, teacher, weight):
        student, teacher = (one / one.norm(dim=1, keepdim=True) for one in (student, teacher))
        return (student.abs() - teacher.abs()).square().mean()


class OfPairs(DistillLoss):
    """Correlates the columns of a position; with two columns the correlation is 1 or -1."""

    def compare(self, student, teacher, weight):
        student, teacher = (one - one.mean(1, keepdim=True) for one in (student, teacher))
        norms = student.norm(dim=1) * teacher.norm(dim=1)
        return (1 - (student * teacher).sum(1) / norms).mean()


class Detached(DistillLoss):
    """Detaches the student by mistake."""

    def compare(self, student, teacher, weight):
        return (student.detach() - teacher).square().mean()


class Strange(DistillLoss):
    """Accepts only the values that its model returns."""

    def compare(self, student, teacher, weight):
        if (teacher < 0).any():
            raise ValueError('probabilities are 0 or more')
        return (student * 0).sum()


class Bank(MSELoss):
    """Stores every teacher output and changes a buffer."""

    def __init__(self):
        super().__init__()
        self.seen = []
        self.register_buffer('count', torch.zeros(()))

    def compare(self, student, teacher, weight):
        self.seen.append(teacher)
        self.count += torch.rand(())
        return super().compare(student, teacher, weight)


class NeverANumber(DistillLoss):
    """Divides by zero."""

    def compare(self, student, teacher, weight):
        return (student - teacher).abs().mean() * (student.sum() - student.sum()) / 0.


class RootOfZero(DistillLoss):
    """Has a finite value, whose gradient is always NaN."""

    def compare(self, student, teacher, weight):
        return (student - teacher).abs().mean() + (student - student).sum().sqrt()


class OfSeveralImages(DistillLoss):
    """Is NaN for a single image."""

    def compare(self, student, teacher, weight):
        student, teacher = (one.std(0) for one in (student, teacher))
        return (student - teacher).square().mean()


class OfVariances(DistillLoss):
    """Is NaN for a map of one position, as the last levels of a blank image have."""

    def compare(self, student, teacher, weight):
        return (student.flatten(2).var(2) - teacher.flatten(2).var(2)).square().mean()


class OfBoxes(DistillLoss):
    """Is NaN for boxes outside of the map."""

    def compare(self, student, teacher, weight, *, boxes, stride):
        sides = [torch.stack([one[number, :, int(y0 / stride):int(y1 / stride) + 1,
                                  int(x0 / stride):int(x1 / stride) + 1].mean()
                              for number, of_image in enumerate(boxes)
                              for x0, y0, x1, y1 in of_image.tolist()])
                 for one in (student, teacher)]
        return (sides[0] - sides[1]).square().mean()


class OfLogarithms(DistillLoss):
    """Requires values of 0 or less."""

    def compare(self, student, teacher, weight):
        return ((-student).log() - (-teacher).log()).square().mean()


MAP = (1, 4, 8, 8)
NECK = [(1, 16, 16 // 2**level, 16 // 2**level) for level in range(5)]


@pytest.mark.parametrize(('loss', 'shapes'), [
    (KDLoss(use_sigmoid=False), [(1, 1, 8, 8)]),
    (KDLoss(tau=4.), [(2, 1)]),
    (DISTLoss(use_sigmoid=False), [(1, 1, 8, 8), (1, 1, 4, 4)]),
    (DISTLoss(gamma=0.), [(1, 2, 8, 8)]),
    (DISTLoss(gamma=0., use_sigmoid=True), [(1, 1, 8, 8)]),
    (DISTLoss(gamma=0., sync=True), [(1, 2, 8, 8)]),
    (CWDLoss(), [(1, 16, 1, 1)]),
    (CWDLoss(), [(2, 3, 1, 1), (2, 3, 1, 1)]),
    (OfNorms(), [(1, 1, 8, 8)]),
    (OfPairs(), [(1, 2, 8, 8)]),
    (Detached(), [MAP]),
])
def test_constant_by_construction(loss, shapes):
    assert is_constant(loss, shapes)


@pytest.mark.parametrize(('loss', 'shapes'), [
    (KDLoss(use_sigmoid=True), [(1, 1, 8, 8)]),
    (KDLoss(), [(1, 2, 8, 8)]),
    (DISTLoss(use_sigmoid=True), [(1, 1, 8, 8)]),
    (DISTLoss(), [(1, 2, 8, 8)]),
    (DISTLoss(use_sigmoid=True), [(1, 1, 1, 1)]),  # a larger batch has more positions
    (DISTLoss(), [(2, 2)]),
    (DISTLoss(tau=1e-3), [MAP]),
    (DISTLoss(loss_weight=0.), [MAP]),
    (KDLoss(tau=1e-3), [(1, 80, 8, 8)]),
    (KDLoss(tau=1e3, loss_weight=1e-20), [MAP]),
    (CWDLoss(), [(1, 16, 4, 4), (1, 16, 1, 1)]),
    (CWDLoss(), [(2, 100, 1, 2)]),
    (MSELoss(), [(1, 1, 1, 1)]),
    (MSELoss(), [(2, 7)]),
    (MSELoss(loss_weight=1e-30), [(1, 2000, 200, 200)]),
    (OfTheConfident(), [(1, 80, 8, 8)]),
    (OfRoots(), [MAP]),  # of rectified features
    (OfSeveralImages(), [MAP]),
    *((loss, [level]) for loss in (OfVariances(), OfBoxes()) for level in NECK),
    (OfLogarithms(), [MAP]),
    (OfNorms(), [MAP]),
    (OfPairs(), [MAP]),
    (Strange(), [MAP]),  # the trial raises an error, so the result is unknown
    (DISTLoss(), []),
])
def test_no_false_alarm(loss, shapes):
    assert not is_constant(loss, shapes)
    assert not limits_of(loss, shapes).is_broken


@pytest.mark.parametrize(('loss', 'what'), [(NeverANumber(), 'value'), (RootOfZero(), 'gradient')])
def test_numbers_that_are_never_finite(loss, what):
    found = limits_of(loss, [MAP])
    assert (found.is_constant, found.is_broken) == (False, True)
    assert found.notes[0].startswith(f'the {what} of {type(loss).__name__} is infinite or NaN for')


def test_trial_does_not_change_the_loss():
    loss, state = Bank(), torch.get_rng_state()
    assert not is_constant(loss, [MAP])
    assert torch.equal(torch.get_rng_state(), state)
    assert not loss.seen
    assert loss.count == 0
    one = DISTLoss(loss_weight=3., gamma=0., sync=True)
    assert is_constant(one, [(1, 2, 8, 8)])
    assert (one.loss_weight, one.sync) == (3., True)


def test_limits_name_what_to_use_instead():
    found = limits_of(CWDLoss(), [(1, 16, 1, 1)])
    assert found.is_constant
    assert found.notes == ['the gradient of CWDLoss is 0 for all predictions',
                           'use another loss, for instance mmkd.MSELoss, or another point; in a '
                           'loss of your own, check `compare` for `.detach()`, `argmax` and '
                           '`no_grad`']
    found = limits_of(KDLoss(), [(1, 1, 8, 8), (1, 1, 4, 4)])
    assert found.is_constant
    assert len(found.notes) == 2
    assert 'write `use_sigmoid=True`' in found.notes[1]
    found = limits_of(DISTLoss(), [(1, 2, 8, 8), (1, 2, 4, 4)])
    assert not found.is_constant
    assert len(found.notes) == 1
    assert limits_of(MSELoss(), [MAP]) == (False, [], False)


# --- in a model ---------------------------------------------------------------------------------


def prepared(model, entry, scope):
    torch.manual_seed(0)
    built = build(distiller(model, dict(config=dict(default_scope=scope, model=model),
                                        checkpoint=None), entry), scope)
    state = torch.get_rng_state()
    built.distillation.prepare()
    assert torch.equal(torch.get_rng_state(), state)
    return built


def test_single_position_maps_are_distinguished(monkeypatch):
    """DeepLabV3's pooled features always have one position; P7 has one only for small images."""
    with pytest.raises(ValueError, match=(
            r'`loss_decode_head_image_pool_cwd` gives no gradient at `decode_head.image_pool` '
            r'of the student \(1x16x1x1\): the gradient of CWDLoss is 0.*use another loss')):
        prepared(segmentor('deeplabv3'), dict(type='mmkd.CWDLoss', on='decode_head.image_pool'),
                 'mmseg')
    match, = prepared(retinanet(), dict(type='mmkd.CWDLoss', on='neck.fpn_convs.4'),
                      'mmdet').terms
    assert match.fitting.strides[0] == [(128, 128)]
    assert match.fitting.shapes[0][0][2] > 1


@pytest.mark.parametrize('loss', [NeverANumber, RootOfZero])
def test_a_loss_that_is_never_finite_is_refused(loss):
    LOSSES.register(loss)
    with pytest.raises(ValueError, match=(
            f'`loss_neck_.*` cannot be trained: the (value|gradient) of {loss.__name__} is '
            'infinite or NaN for all inputs.*look in `compare` for a division by 0')):
        prepared(retinanet(), dict(type=f'mmkd.{loss.__name__}', on='neck'), 'mmdet')
    del LOSSES.classes[loss.__name__], MODELS.module_dict[loss.__name__]


def test_left_out_parts_are_logged_once(monkeypatch):
    said = []
    monkeypatch.setattr('mmkd.compare.trial.warn', lambda text, *args: said.append(text)
                        if 'leaves out' in text else None)
    model = segmentor(classes=2)
    prepared(model, dict(type='mmkd.DISTLoss', on='cls'), 'mmseg')
    assert said == ['loss_cls_dist: DISTLoss leaves out its inter-class part, which is constant '
                    'over 2 columns, and only compares within classes; mmkd.KDLoss has no such '
                    'limit']
    said.clear()
    # The nine anchors of one class are nine columns, compared as by DIST's authors.
    prepared(retinanet(classes=1), dict(type='mmkd.DISTLoss', on='cls'), 'mmdet')
    assert not said
    prepared(retinanet(classes=1), dict(type='mmkd.DISTLoss', on='cls', per_anchor=True), 'mmdet')
    assert 'constant over 1 column,' in said[0]
    assert len(said) == 1
