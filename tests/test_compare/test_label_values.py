"""Labels that a loss requests, for chosen or unpaired levels and for several anchors."""
from functools import wraps

import pytest
import torch
from conftest import build, distiller, retinanet, save_teacher, segmentor, step, two_stage
from loops import images, streets_of

from mmkd.compare.vocabulary import PROVIDERS
from mmkd.losses import LOSSES, DistillLoss

SEEN = []
LEFT_OUT = []


@pytest.fixture(autouse=True)
def asking():
    """Registers a loss that stores its arguments."""

    @LOSSES.register
    class AskingLoss(DistillLoss):

        def compare(self, student, teacher, weight=None, *, labels, label_weights, level,
                    left_out_labels=None, left_out_priors=None):
            SEEN.append((level, student.detach(), labels, label_weights))
            LEFT_OUT[:] = [left_out_labels, left_out_priors]
            return (student - teacher).abs().mean()

    SEEN.clear()
    yield AskingLoss
    del LOSSES.classes['AskingLoss']


def stepped(model, data, scope='mmdet'):
    """Run a step; return the model, the arguments of the loss, and those of mmdet's own loss."""
    torch.manual_seed(3)
    model = build(model, scope)
    model.init_weights()
    data = model.data_preprocessor(data, True)
    given = []
    for path in model.terms[0].student_point.criteria:
        module = model.student.get_submodule(path)
        forward = module.forward
        module.forward = lambda *args, own=forward, **kwargs: (
            given.append((args, kwargs)), own(*args, **kwargs))[1]
    SEEN.clear()
    step(model, data['inputs'], data['data_samples'])
    return model, list(SEEN), given


@pytest.mark.parametrize('levels', [None, [1], [2, 0]])
def test_labels_match_the_compared_levels(tmp_path, levels):
    """The student has P3 to P7, the teacher P2 to P5: P6 and P7 have no counterpart."""
    other = retinanet()
    other['neck'].update(start_level=0, add_extra_convs=False, num_outs=4)
    other['bbox_head']['anchor_generator'].update(strides=[4, 8, 16, 32])
    entry = dict(type='mmkd.AskingLoss', on='cls', **({} if levels is None else
                                                      dict(levels=levels)))
    _, seen, given = stepped(distiller(retinanet(), save_teacher(tmp_path / 't.pth', other),
                                       entry), images((0, 1)))
    assert len(given) == 5
    assert [level for level, *_ in seen] == (levels or [0, 1, 2])
    for level, student, labels, weights in seen:
        (_, target, weight, *_), _ = given[level]
        size = student.shape[2:]
        assert labels.shape == (2 * 9, *size)
        # in mmdet's order: image, height, width, anchor
        mine = labels.view(2, 9, *size).permute(0, 2, 3, 1).flatten()
        ours = torch.where(weight.flatten() == 0, -1, target.flatten())
        assert torch.equal(mine, ours)
        assert torch.equal(weights.view(2, 9, *size).permute(0, 2, 3, 1).flatten(),
                           weight.flatten())
    others = [given[number] for number in range(5) if number not in (levels or [0, 1, 2])]
    assert len(LEFT_OUT[0]) == len(LEFT_OUT[1]) == len(others)
    for labels, priors, ((_, target, *_), _) in zip(*LEFT_OUT, others):
        assert labels.numel() == target.numel() == 2 * len(priors)


def test_labels_of_rois(tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', two_stage(width=12))
    _, seen, given = stepped(distiller(two_stage(), teacher, dict(
        type='mmkd.AskingLoss', on='cls')), images((0, 1)))
    (_, student, labels, _), = seen
    (_, target, *_), _ = given[-1]
    assert torch.equal(labels, target)
    assert student.shape == (len(target), 4)


def test_labels_of_a_segmentor_are_at_the_size_of_its_logits(tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', segmentor(width=12, classes=4), list('abcd'),
                           scope='mmseg')
    data = streets_of((0, 1))
    data['data_samples'][0].gt_sem_seg.data[:, :32] = 255
    _, seen, _ = stepped(distiller(segmentor(classes=4), teacher, dict(
        type='mmkd.AskingLoss', on='cls')), data, 'mmseg')
    (_, student, labels, _), = seen
    step_of = 64 // student.shape[2]
    for image, sample in zip(labels, data['data_samples']):
        whole = sample.gt_sem_seg.data[0][::step_of, ::step_of]
        assert torch.equal(image, torch.where(whole == 255, -1, whole).to(image))


@pytest.mark.parametrize('point', ['boxes', 'reg'])
def test_boxes_have_the_labels_of_their_class_logits(tmp_path, point):
    """Each anchor has the labels of its class logits, which are a further point of the entry."""
    teacher = save_teacher(tmp_path / 't.pth', retinanet(width=12))
    entries = [dict(type='mmkd.AskingLoss', on='cls'),
               dict(type='mmkd.AskingLoss', on=point, also=['cls'], levels=[2, 0])]
    _, seen, _ = stepped(distiller(retinanet(), teacher, *entries), images((0, 1)))
    of_cls, of_boxes = seen[:5], seen[5:]
    assert [level for level, *_ in of_boxes] == [2, 0]
    for level, student, labels, weights in of_boxes:
        assert student.shape == (2 * 9, 4, *of_cls[level][1].shape[2:])
        assert torch.equal(labels, of_cls[level][2])
        assert torch.equal(weights, of_cls[level][3])
    assert (of_cls[0][2] != of_cls[0][2].flatten()[0]).any()


def test_boxes_without_class_logits_beside_them_have_no_labels(tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', retinanet(width=12))
    with pytest.raises(ValueError, match='requires `labels`, but no loss module of the student'):
        stepped(distiller(retinanet(), teacher, dict(type='mmkd.AskingLoss', on='boxes')),
                images((0, 1)))


def test_value_shared_by_all_levels_is_computed_once(tmp_path, monkeypatch):
    """Processes exchange the number of positives once, not once per level."""
    calls, find = [], PROVIDERS['num_positives']

    @wraps(find)
    def counted(context):
        calls.append(context)
        return find(context)

    monkeypatch.setitem(PROVIDERS, 'num_positives', counted)
    stepped(distiller(retinanet(), save_teacher(tmp_path / 't.pth', retinanet()),
                      dict(type='mmkd.BCKDLoss', on='cls')), images((0, 1)))
    assert len(calls) == 1
