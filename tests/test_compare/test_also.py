"""`also`: further points of an entry, whose values the loss requests by name."""
import pytest
import torch
from conftest import CLASSES, build, distiller, observe, retinanet, save_teacher, segmentor

from mmkd.losses import LOSSES, DistillLoss

SEEN = []


@pytest.fixture(autouse=True)
def asking():
    @LOSSES.register
    class FurtherLoss(DistillLoss):

        def compare(self, student, teacher, weight=None, *, student_also=None, teacher_also=None):
            SEEN.append((student_also, teacher_also))
            return (student - teacher).square().mean()

    SEEN.clear()
    yield
    del LOSSES.classes['FurtherLoss']


def prepared(student, teacher, entry, scope='mmdet'):
    torch.manual_seed(3)
    model = build(distiller(student, teacher, dict(entry, type='mmkd.FurtherLoss')), scope)
    model.init_weights()
    SEEN.clear()
    return model.eval()


def compared(model, inputs):
    from mmkd.compare.vocabulary import Batch
    seen, told = observe(model, inputs)
    model.terms[0].compare(seen, [told], model.student, Batch(inputs, None))
    return list(SEEN)


def test_values_are_those_of_the_same_level(tmp_path):
    model = prepared(retinanet(), save_teacher(tmp_path / 't.pth', retinanet(width=12)),
                     dict(on='neck', also=['cls', 'reg'], levels=[-1, 0]))
    inputs = torch.randn(2, 3, 64, 64)
    seen = compared(model, inputs)
    assert len(seen) == 2
    for (mine, theirs), level in zip(seen, (4, 0)):
        for found, network in ((mine, model.student), (theirs, model.teacher.model)):
            expected = network.bbox_head(network.extract_feat(inputs))
            assert len(found) == 2
            for one, side in zip(found, expected):
                torch.testing.assert_close(one, side[level])


def test_values_have_the_students_columns_and_size(tmp_path):
    names = ['a', 'b', 'c', 'd']
    teacher = save_teacher(tmp_path / 't.pth', segmentor(width=12, classes=4), names[::-1],
                           scope='mmseg')
    config = segmentor(classes=4)
    config['backbone'].update(strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1))
    model = build(dict(distiller(config, teacher, dict(
        type='mmkd.FurtherLoss', on='cls', also=['cls'])), classes=names), 'mmseg')
    model.init_weights()
    SEEN.clear()
    inputs = torch.randn(1, 3, 64, 64)
    ((mine, ), (theirs, )), = compared(model.eval(), inputs)
    assert mine.shape == theirs.shape
    network = model.teacher.model
    with torch.no_grad():
        raw = network.decode_head(network.extract_feat(inputs))[:, [3, 2, 1, 0]]
    torch.testing.assert_close(theirs, torch.nn.functional.interpolate(
        raw, size=mine.shape[2:], mode='bilinear', align_corners=False))


def test_none_where_the_entry_names_no_point(tmp_path):
    model = prepared(retinanet(), save_teacher(tmp_path / 't.pth', retinanet(width=12)),
                     dict(on='neck'))
    assert set(compared(model, torch.randn(1, 3, 64, 64))) == {(None, None)}


def test_other_numbers_of_levels_are_refused(tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', retinanet(width=12))
    with pytest.raises(ValueError, match='`backbone` in `also` has 4 levels to compare, '
                       'but `cls` has 5; choose points'):
        prepared(retinanet(), teacher, dict(on='cls', also=['backbone']))


def test_unknown_class_names_of_a_further_point_warn(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr('mmkd.compare.unknown_names.warn', said.append)
    teacher = save_teacher(tmp_path / 't.pth', retinanet(width=12))
    prepared(retinanet(), teacher, dict(on='neck', also=['cls']))
    assert len(said) == 1
    assert 'The class names of the student are not known' in said[0]
    model = build(dict(distiller(retinanet(), teacher, dict(
        type='mmkd.FurtherLoss', on='neck', also=['cls'])), classes=list(CLASSES)))
    model.init_weights()
    assert len(said) == 1
