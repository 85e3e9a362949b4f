"""Classifiers of mmpretrain are trained with a Runner, killed, resumed and exported."""
import pytest
import torch
from support.classifiers import CLASSES, config, folder_of_images, needs_mmpretrain, resnet, vit

needs_mmpretrain()

from conftest import build, distiller, save_teacher, saved_at, train  # noqa: E402

from mmkd import SoftTree  # noqa: E402

TERMS = (dict(type='mmkd.DKDLoss', on='cls', beta=0.5), dict(type='mmkd.KDLoss', on='cls', tau=4.,
                                                             alpha=0.5),
         dict(type='mmkd.MSELoss', on='backbone', levels=[-1]))


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return folder_of_images(tmp_path_factory.mktemp('images'))


def model_of(folder, *terms, student=None):
    teacher = save_teacher(folder / 'teacher.pth', resnet(12), CLASSES, scope='mmpretrain')
    return distiller(student or resnet(), teacher, *terms)


def test_a_resumed_run_is_the_same_to_the_bit(images, tmp_path):
    model = dict(model_of(tmp_path, *TERMS), hooks=[dict(type='mmkd.ReseedHook')])
    _, losses = train(config(images, model, tmp_path / 'whole', **{'train_cfg.max_epochs': 2}))
    assert len(losses) == 6
    assert all(0 < step[name] < 100 for step in losses
               for name in ('loss', 'loss_cls_dkd', 'loss_cls_kd', 'loss_backbone_mse'))
    train(config(images, model, tmp_path / 'parts'))
    _, rest = train(config(images, model, tmp_path / 'parts', **{
        'train_cfg.max_epochs': 2, 'resume': True}))
    assert rest == losses[3:]
    one, other = (saved_at(tmp_path / name / 'epoch_2.pth') for name in ('whole', 'parts'))
    assert one['meta']['dataset_meta']['classes'] == CLASSES
    for key, value in one['state_dict'].items():
        assert torch.equal(value, other['state_dict'][key]), key
    plain = build(resnet(), 'mmpretrain')
    plain.load_state_dict(one['state_dict'], strict=True)
    assert 'mmkd' in one  # the connector, which is not part of the student


def test_the_teacher_is_scored_by_its_accuracy(images, tmp_path):
    """The teacher's classes have another order, and Mixup is applied to the input of both models.
    """
    mixup = dict(batch_augments=dict(augments=[dict(type='Mixup', alpha=0.8)]))
    teacher = save_teacher(tmp_path / 'teacher.pth', resnet(12), CLASSES[::-1], scope='mmpretrain')
    model = dict(distiller(resnet(pre=mixup), teacher), hooks=[dict(type='mmkd.TeacherEvalHook')])
    runner, losses = train(config(images, model, tmp_path / 'run'))
    assert len(losses) == 3
    order, = [term.alignment.columns.order for term in runner.model.terms]
    assert order == [3, 2, 1, 0]
    log, = (tmp_path / 'run').rglob('*.log')
    assert 'Before training, accuracy/top1: teacher ' in log.read_text()


def with_tree(model):
    head = model['head']
    return dict(model, head=dict(head, type='mmkd.SoftTreeHead', head=head['type'],
                                 tree=dict(depth=2)))


def test_a_soft_tree_classifies_images(images, tmp_path):
    runner, losses = train(config(images, model_of(
        tmp_path, dict(type='mmkd.KDLoss', on='cls'), student=with_tree(resnet())),
        tmp_path / 'run'))
    assert isinstance(runner.model.student.head.fc, SoftTree)
    assert all({'loss', 'loss_tree', 'loss_cls_kd'} <= set(step) for step in losses)


@pytest.mark.parametrize(('model', 'path'), [
    (vit(), 'layers.head'), (resnet(head='StackedLinearClsHead', mid_channels=[6]), 'layers.1.fc'),
    (resnet(head='EfficientFormerClsHead', distillation=False), 'head')])
def test_a_soft_tree_replaces_the_last_layer_of_every_head(model, path):
    built = build(with_tree(model), 'mmpretrain').eval()
    tree = built.head.get_submodule(path)
    assert isinstance(tree, SoftTree)
    logits = built(torch.randn(2, 3, 64, 64), mode='tensor')
    torch.testing.assert_close(logits.exp().sum(1), torch.ones(2))  # log-probabilities


KD = dict(type='mmkd.KDLoss', on='cls', tau=4.)


@pytest.mark.parametrize('student', [
    resnet(), vit(size=32), resnet(head='MultiLabelLinearClsHead'), with_tree(resnet())],
    ids=['linear', 'vit', 'multi-label', 'tree'])
def test_images_without_labels_are_compared_as_those_with_labels(images, tmp_path, student):
    """Both streams have the same images. The student's own loss has none without labels."""
    teacher = save_teacher(tmp_path / 'teacher.pth', resnet(12, head=student['head'].get(
        'head', student['head']['type'].replace('VisionTransformer', 'Linear').replace(
            'mmkd.SoftTreeHead', 'LinearClsHead'))), CLASSES, scope='mmpretrain')
    model = dict(distiller(student, teacher, KD), unlabelled=images)
    found = config(images, model, tmp_path / 'run', **{
        'train_dataloader.batch_size': 12, 'train_cfg.val_interval': 9})
    del found.train_dataloader.dataset.pipeline[1:3]  # crop and flip
    _, (losses, ) = train(found)
    own = {name for name in losses if 'loss' in name}
    assert {name for name in own if 'unlabelled' in name} == {'unlabelled.loss_cls_kd'}
    assert losses['unlabelled.loss_cls_kd'] == pytest.approx(losses['loss_cls_kd'], rel=1e-4)
    assert losses['loss_cls_kd'] > 0


def test_a_folder_without_labels_is_cropped_and_mixed_as_the_config_says(images, tmp_path):
    """Mixup mixes images by their labels, so those without labels are not mixed."""
    mixup = dict(batch_augments=dict(augments=[dict(type='Mixup', alpha=0.8)]))
    model = dict(model_of(tmp_path, KD, dict(TERMS[2], images='unlabelled'),
                          student=resnet(pre=mixup)), unlabelled=images)
    _, losses = train(config(images, model, tmp_path / 'run'))
    assert all(step[name] > 0 for step in losses for name in (
        'loss', 'loss_cls_kd', 'unlabelled.loss_cls_kd', 'unlabelled.loss_backbone_mse'))


def test_pseudo_labels_of_classifiers_are_refused(tmp_path):
    """Before the teacher is read."""
    entry = dict(config='nowhere.py', checkpoint='nowhere.pth')
    with pytest.raises(ValueError, match=r'labels objects and pixels, but the student, '
                       r'ImageClassifier, is a classifier; leave the entry, or '
                       r'--pseudo-labels, out: mmkd.KDLoss'):
        build(dict(distiller(resnet(), entry, KD, dict(type='mmkd.PseudoLabels')), unlabelled='x'),
              'mmpretrain')
    with pytest.raises(ValueError, match='needs labels .*images=\'labelled\'.* in this entry$'):
        build(dict(distiller(resnet(), entry, TERMS[0]), unlabelled='x'), 'mmpretrain')
