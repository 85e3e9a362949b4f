"""Teachers with a text prompt: scores, boxes and labels for the student's classes.

Real models of mmdet with a tiny random BERT of `transformers`; nothing is downloaded.
"""
import re

import pytest
import torch
from conftest import (
    CLASSES,
    build,
    detector_config,
    distiller,
    retinanet,
    save_teacher,
    saved_at,
    train,
)
from mmengine.config import Config
from support.neighbours import needs
from support.queries import batch, detector
from support.rtmdet import rtmdet
from support.words import text_detector, write_bert

from mmkd import FrozenTeacher
from mmkd.inspection import inspect_pair
from mmkd.points import find_point, points_of
from mmkd.points.prompt import Prompt
from mmkd.points.recorder import recording

needs('transformers')


def dino():
    return dict(detector('dino', 20), test_cfg=dict(max_per_img=20))


KD = dict(type='mmkd.KDLoss', on='cls')


@pytest.fixture(scope='module')
def bert(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp('bert') / 'tiny')


@pytest.fixture(scope='module')
def entries(bert, tmp_path_factory):
    """The `teacher` entry of each kind, trained on other classes."""
    folder = tmp_path_factory.mktemp('teachers')
    found = {}
    for kind in ('grounding_dino', 'mm_grounding_dino', 'glip'):
        model = text_detector(kind, bert)
        model.get('encoder', {}).update(num_cp=0)
        entry = save_teacher(folder / f'{kind}.pth', model, classes='abcdefg')
        checkpoint = saved_at(entry['checkpoint'])
        generator = torch.Generator().manual_seed(3)
        # random boxes, and scores that depend on the text
        for name, tensor in checkpoint['state_dict'].items():
            if 'reg_branches' in name or 'text_feat_map' in name or 'projection_text' in name:
                tensor.copy_(torch.randn(tensor.shape, generator=generator) / (
                    20 if 'reg_branches' in name else 4))
            if 'reg_branches' in name and len(tensor) == 4 == tensor.numel():
                tensor[2:] += 1.  # large enough for a position of the student's map
        torch.save(checkpoint, entry['checkpoint'])
        model.get('encoder', {}).update(num_cp=6)  # as in mmdet's config; needs fairscale
        found[kind] = entry
    return found


def teacher_of(entry, student=None, **settings):
    teacher = FrozenTeacher(**entry, **settings)
    student = build(student or retinanet())
    teacher.prepare(student)
    teacher.set_student_classes(CLASSES)
    return teacher, student


def predicted_by_mmdet(model, inputs, samples, texts):
    for sample in samples:
        sample.set_metainfo(dict(text=tuple(texts), custom_entities=True))
    with torch.no_grad():
        return [one.pred_instances for one in model.predict(inputs, samples, rescale=False)]


def answer_of(teacher, inputs, samples, *names):
    from mmkd.networks import Question
    points = tuple(find_point(teacher.model, name, 'teacher') for name in names)
    told = teacher.observe(inputs, samples, {'': Question(points)})['']
    return [told[point].levels for point in points]


# --- class scores -----------------------------------------------------------------------------


@pytest.mark.parametrize('kind', ['grounding_dino', 'mm_grounding_dino'])
def test_classes_and_boxes_are_those_that_mmdet_predicts(entries, kind):
    """All queries and classes, with texts of several tokens. The second call uses stored texts."""
    prompts = dict(square='a red square', cross='x')
    teacher, _ = teacher_of(entries[kind], prompts=prompts)
    model = teacher.model
    model.bbox_head.test_cfg.max_per_img = 60
    inputs, samples = batch()
    expected = predicted_by_mmdet(model, inputs, samples, ['disc', 'a red square', 'x'])
    for _ in range(2):
        (logits, ), (boxes, ) = answer_of(teacher, inputs, samples, 'cls', 'reg')
        for one, its, places in zip(expected, logits, boxes):
            scores, order = its.sigmoid().T.flatten().sort(descending=True)
            torch.testing.assert_close(scores, one.scores)
            cx, cy, w, h = (96 * places[:, order // 3])
            got = torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 1).clamp(0, 96)
            # Equal scores may have another order.
            key = [sorted(zip(labels.tolist(), *box.round(decimals=2).T.tolist()))
                   for labels, box in ((order % 3, got), (one.labels, one.bboxes))]
            torch.testing.assert_close(torch.tensor(key[0]), torch.tensor(key[1]), rtol=0,
                                       atol=0.02)
    assert expected[0].scores.std() > 1e-4


def test_classes_of_glip_are_those_that_mmdet_predicts(entries):
    """Position by position, with mmdet's conversion of token scores."""
    from mmdet.models.dense_heads.atss_vlfusion_head import convert_grounding_to_cls_scores
    texts = ['a disc', 'square', 'ab']
    teacher, _ = teacher_of(entries['glip'], prompts=texts)
    inputs, samples = batch()
    with recording(teacher.model, ['bbox_head']) as seen:
        predicted_by_mmdet(teacher.model, teacher.renormalize(inputs, samples), samples, texts)
    levels, = answer_of(teacher, inputs, samples, 'cls')
    tokens, boxes, _ = seen['bbox_head'][0].output
    assert [one.shape[2:] for one in levels] == [one.shape[2:] for one in boxes]
    maps = [one.token_positive_map for one in samples]
    for level, one in zip(levels, tokens):
        expected = convert_grounding_to_cls_scores(one.sigmoid(), maps)
        torch.testing.assert_close(level.sigmoid().flatten(2).transpose(1, 2), expected)


def test_text_is_encoded_once_and_scores_are_finite(entries):
    teacher, _ = teacher_of(entries['grounding_dino'])
    model, calls = teacher.model, []
    model.language_model.register_forward_pre_hook(lambda *_: calls.append(1))
    for count in (1, 2):
        inputs, samples = batch()
        answer_of(teacher, inputs[:count], samples[:count], 'cls', 'reg')
    assert len(calls) <= 3  # the first batch, and a search for idle modules at each point
    before = len(calls)
    answer_of(teacher, *batch(), 'cls', 'reg')
    assert len(calls) == before
    prompt = Prompt(model, ['disc', 'ab'])
    tokens = torch.tensor([[0., -1e4, 0., 1e4, 80., 0.]])
    assert prompt.tokens == ((1, ), (3, 4))
    assert prompt.class_logits(tokens).isfinite().all()
    by_hand = torch.tensor([0.2, -3.]).sigmoid().mean()
    torch.testing.assert_close(prompt.class_logits(torch.tensor([0., 1., 0., .2, -3.])).sigmoid(),
                               torch.stack([torch.tensor(1.).sigmoid(), by_hand]))


# --- training ---------------------------------------------------------------------------------


@pytest.mark.parametrize('kind', ['grounding_dino', pytest.param(
    'mm_grounding_dino', marks=pytest.mark.slow)])
def test_student_with_queries_learns_classes_and_boxes(entries, shapes, tmp_path, kind):
    model = distiller(dino(), entries[kind], KD,
                      dict(type='mmkd.MSELoss', on='reg'), dict(type='mmkd.MSELoss', on='neck'))
    runner, losses = train(detector_config(shapes, model, str(tmp_path / 'run'),
                                           **{'train_cfg.val_interval': 100}))
    for one in losses:
        assert one['loss_cls_kd'] > 0
        assert one['loss_reg_mse'] > 0
        assert one['loss_neck_mse'] > 0
    assert runner.model.teacher.classes == list(CLASSES)
    assert saved_at(tmp_path / 'run' / 'epoch_1.pth')['state_dict'].keys() == build(
        dino()).state_dict().keys()


@pytest.mark.slow
def test_student_with_a_dense_head_learns_classes_of_glip(entries, shapes, tmp_path):
    from mmdet.models.dense_heads import ATSSHead  # noqa: F401
    student = retinanet()
    student['bbox_head'] = dict(
        type='ATSSHead', num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1,
        norm_cfg=dict(type='BN'),
        anchor_generator=dict(type='AnchorGenerator', ratios=[1.], octave_base_scale=8,
                              scales_per_octave=1, strides=[8, 16, 32, 64, 128]),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True), loss_bbox=dict(type='GIoULoss'),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'))
    student['train_cfg'] = dict(assigner=dict(type='ATSSAssigner', topk=9), allowed_border=-1,
                                pos_weight=-1)
    _, losses = train(detector_config(shapes, distiller(student, entries['glip'], KD),
                                      str(tmp_path / 'run'), **{'train_cfg.val_interval': 100}))
    assert all(one['loss_cls_kd'] > 0 for one in losses)


@pytest.mark.parametrize('kind', ['grounding_dino', pytest.param('glip', marks=pytest.mark.slow)])
def test_pseudo_labels_train_another_family(entries, shapes, tmp_path, kind):
    """Grounding DINO and GLIP label images for an RTMDet."""
    model = dict(distiller(rtmdet(), dict(entries[kind], prompts=['a disc', 'square', 'cross']),
                           dict(type='mmkd.PseudoLabels', score_thr=0., per_class=4)),
                 unlabelled=shapes)
    _, losses = train(detector_config(shapes, model, str(tmp_path / 'run'),
                                      **{'train_cfg.val_interval': 100}))
    for name in ('unlabelled.loss_cls', 'unlabelled.loss_bbox'):
        assert sum(one[name] for one in losses) > 0


@pytest.mark.parametrize('chunked', [-1, 2])
def test_pseudo_labels_are_what_mmdet_predicts(entries, bert, chunked):
    """Also with `chunked_size`, where mmdet predicts two classes at a time."""
    from mmkd import PseudoLabels
    entry = dict(entries['grounding_dino'])
    model = dict(entry['config']['model'])
    model['test_cfg'] = dict(model['test_cfg'], chunked_size=chunked)
    teacher, student = teacher_of(dict(entry, config=dict(default_scope='mmdet', model=model)))
    labels = PseudoLabels(score_thr=0.)
    labels.prepare(teacher, student, CLASSES, (96, 96))
    inputs, samples = batch()
    found = labels.truth(teacher, student, inputs, samples)
    for number, one in enumerate(found):
        expected, = predicted_by_mmdet(teacher.model, inputs[number:number + 1],
                                       samples[number:number + 1], CLASSES)
        usable = ((expected.bboxes[:, 2:] - expected.bboxes[:, :2]) >= 1).all(1)
        torch.testing.assert_close(one.gt_instances.scores.sort()[0],
                                   expected.scores[usable].sort()[0])
        assert sorted(one.gt_instances.labels.tolist()) == sorted(expected.labels[usable].tolist())
    assert (chunked < 0) == ('cls' in points_of(teacher.model))
    if chunked > 0:
        with pytest.raises(ValueError, match=r'`chunked_size` of its `test_cfg` splits 3 classes '
                           r"into 2 prompts.*compare 'neck'"):
            find_point(teacher.model, 'cls', 'teacher')


def test_mapping_sets_the_prompts(entries):
    teacher, _ = teacher_of(entries['grounding_dino'],
                            classes=dict(disc=['ring', 'ball'], square=None))
    assert teacher.classes == ['ring', 'ball', 'cross']
    assert points_of(teacher.model)['cls'].num_classes == 3
    assert teacher.provenance()['prompts'] == ['ring', 'ball', 'cross']
    listed, _ = teacher_of(entries['grounding_dino'], classes=['cross', 'disc', 'square', 'dog'])
    assert points_of(listed.model)['cls'].num_classes == 4


@pytest.mark.slow
def test_table_of_a_pair_lists_classes_and_boxes(entries, shapes):
    student = detector_config(shapes, dino(), 'unused')
    found = inspect_pair(student, Config(entries['grounding_dino']['config']))
    able = {one.point for one in found if one.term}
    assert {'cls', 'reg', 'cls.0', 'backbone', 'neck'} <= able
    dense = inspect_pair(detector_config(shapes, retinanet(), 'unused'),
                         Config(entries['grounding_dino']['config']))
    problems = {one.point: one.problem for one in dense}
    assert re.search("predicts for .* compare 'neck' or 'backbone'", problems['cls'])


# --- bad input --------------------------------------------------------------------------------


LONG = dict(disc='round ' * 7)
"""35 letters; with two words, three dots and the tokens of both ends 42 tokens."""


def test_too_long_prompts_are_refused_before_training(entries, shapes, tmp_path):
    model = distiller(dino(), dict(entries['grounding_dino'], prompts=LONG), KD)
    with pytest.raises(ValueError, match='the prompts of 3 classes have 42 tokens, but the text '
                       'encoder of GroundingDINO reads 32; write shorter `prompts`') as info:
        train(detector_config(shapes, model, str(tmp_path / 'run')))
    assert '\n' not in str(info.value)
    assert '`neck`' in str(info.value)


@pytest.mark.slow
def test_features_of_a_teacher_do_not_need_a_prompt(entries, shapes, tmp_path):
    model = distiller(dino(), dict(entries['grounding_dino'], prompts=LONG),
                      dict(type='mmkd.MSELoss', on='neck'))
    _, losses = train(detector_config(shapes, model, str(tmp_path / 'run'),
                                      **{'train_cfg.val_interval': 100}))
    assert all(one['loss_neck_mse'] > 0 for one in losses)


@pytest.mark.parametrize(('prompts', 'said'), [
    (LONG, 'the prompts of 3 classes have 42 tokens'),
    (['a', 'b'], '`teacher.prompts` has 2 texts, but there are 3 classes'),
    (dict(disk='round'), "`teacher.prompts` names disk.*closest: `disc`.*correct the name"),
    (dict(disc=3), '`teacher.prompts` must be a text for each class.*write for instance'),
    ([], '`teacher.prompts` is empty'),
    (dict(disc='(x)'), r"the prompt '\(x\)' has no token.*write another one"),
    (dict(disc='Cross (red)'), r"the prompts 'Cross \(red\)' and 'cross' are one text for "
     "GroundingDINO, 'cross'; write different `prompts`"),
])
def test_bad_prompts(entries, prompts, said):
    """Also for a teacher that makes pseudo-labels."""
    from mmkd import PseudoLabels

    def asked():
        teacher, student = teacher_of(entries['grounding_dino'], prompts=prompts)
        with pytest.raises(ValueError, match=said):
            PseudoLabels().prepare(teacher, student, CLASSES, (96, 96))
        find_point(teacher.model, 'cls', 'teacher')

    with pytest.raises((ValueError, TypeError), match=said) as info:
        asked()
    assert '\n' not in str(info.value)


def test_prompts_of_a_teacher_without_text(tmp_path):
    with pytest.raises(ValueError, match='`teacher.prompts` is for detectors with a text prompt, '
                       'but the teacher is a RetinaNet; leave it out'):
        teacher_of(save_teacher(tmp_path / 't.pth', retinanet()), prompts=['a'])


def test_missing_package_is_named_with_the_command(entries, monkeypatch):
    monkeypatch.setattr('mmdet.models.language_models.bert.AutoTokenizer', None)
    with pytest.raises(ValueError, match='transformers is not installed.*pip install'):
        teacher_of(entries['grounding_dino'])
