"""The teacher is evaluated once, as in its own test, without any effect on training."""
import json

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
    segmentor,
    segmentor_config,
    train,
)
from mmengine.runner import Runner

from mmkd.points import family_of

HOOK = dict(type='mmkd.TeacherEvalHook')


def seg_classes():
    from mmseg.datasets import CityscapesDataset
    return CityscapesDataset.METAINFO['classes']


def hook_of(runner):
    return next(h for h in runner.hooks if type(h).__name__ == 'TeacherEvalHook')


def test_score_is_that_of_the_teacher_tested_alone(shapes, tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', retinanet(width=12))
    config = detector_config(shapes, distiller(retinanet(), teacher), str(tmp_path / 'run'),
                             custom_hooks=[HOOK])
    runner, _ = train(config)
    alone = Runner.from_cfg(detector_config(
        shapes, retinanet(width=12), str(tmp_path / 'alone'),
        load_from=teacher['checkpoint'])).test()
    scores = hook_of(runner).scores
    assert scores['teacher'] == alone
    assert scores['student'].keys() == alone.keys()
    lines = [json.loads(line) for line in next(
        (tmp_path / 'run').glob('*/vis_data/scalars.json')).read_text().splitlines()]
    assert lines[0]['teacher/coco/bbox_mAP'] == alone['coco/bbox_mAP']


def test_training_is_the_same_with_and_without(shapes, tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', retinanet(width=12))
    runs = [train(detector_config(shapes, distiller(retinanet(), teacher), str(tmp_path / name),
                                  custom_hooks=hooks, **{'train_cfg.max_epochs': 2}))
            for name, hooks in (('with', [HOOK]), ('without', []))]
    assert runs[0][1] == runs[1][1]


def warnings_of(monkeypatch, config, scores):
    """Return the hook's warnings for given scores of both models."""
    import mmkd.hooks.teacher_eval as module
    lines, answers = [], iter(scores)
    monkeypatch.setattr(module, 'score', lambda *args: next(answers))
    monkeypatch.setattr(module, 'print_log',
                        lambda text, logger, level=20: lines.append(text) if level >= 30 else None)
    train(config)
    return lines


@pytest.mark.parametrize(('scores', 'expected'), [
    ((0.4, 0.0), []),
    ((0.004, 0.0), ['than chance']),
    ((0.3, 0.35), ['than the student before training']),
    ((0.0, 0.0), ['than chance', 'than the student before training']),
])
def test_warns_of_a_poor_teacher(shapes, tmp_path, monkeypatch, scores, expected):
    teacher = save_teacher(tmp_path / 't.pth', retinanet())
    config = detector_config(shapes, distiller(retinanet(), teacher), str(tmp_path / 'run'),
                             custom_hooks=[HOOK])
    lines = warnings_of(monkeypatch, config, [{'coco/bbox_mAP': score} for score in scores])
    assert len(lines) == len(expected)
    assert all(part in line for part, line in zip(expected, lines))


@pytest.mark.slow
def test_models_without_detections_have_no_score(shapes, tmp_path, monkeypatch):
    """mmdet's metric returns no figures then. The hook must warn about such a teacher."""
    silent = retinanet()
    silent['test_cfg'] = dict(silent['test_cfg'], score_thr=0.99)
    teacher = save_teacher(tmp_path / 't.pth', retinanet())
    mute = save_teacher(tmp_path / 'm.pth', silent)
    for one, student, expected in ((teacher, silent, []), (mute, retinanet(), ['than chance']),
                                   (mute, silent, ['no metrics for the teacher'])):
        lines = []
        monkeypatch.setattr('mmkd.hooks.teacher_eval.print_log',
                            lambda text, *args, lines=lines: lines.append(text))
        runner, _ = train(detector_config(shapes, distiller(student, one), str(tmp_path / 'run'),
                                          custom_hooks=[HOOK]))
        assert all(any(part in line for line in lines) for part in expected)
        assert bool(hook_of(runner).scores['teacher']) is (one is teacher)


def test_constant_segmentor_is_no_better_than_chance(streets, tmp_path, monkeypatch):
    from mmengine.logging import print_log as real
    teacher = save_teacher(tmp_path / 't.pth', segmentor(), seg_classes(), scope='mmseg')
    saved = saved_at(teacher['checkpoint'])
    saved['state_dict']['decode_head.conv_seg.bias'][2] = 1e3
    torch.save(saved, teacher['checkpoint'])
    lines = []

    def watch(text, logger=None, level=20):
        lines.append((level, text))
        real(text, logger, level)

    monkeypatch.setattr('mmkd.hooks.teacher_eval.print_log', watch)
    runner, _ = train(segmentor_config(
        streets, segmentor(), str(tmp_path / 'run'), custom_hooks=[
            dict(type='mmkd.DistillHook', teacher=teacher,
                 distill=[dict(type='mmkd.DISTLoss', on='cls')]),
            HOOK]))
    assert 0 < hook_of(runner).scores['teacher']['mIoU'] < 100 / 3
    assert any('teacher' in text and 'mIoU' in text for _, text in lines)


def test_teacher_predictions_are_mapped_to_student_classes():
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData
    prediction = DetDataSample()
    prediction.pred_instances = InstanceData(
        labels=torch.tensor([0, 1, 2, 3]), scores=torch.tensor([.9, .8, .7, .6]))
    adapter = family_of(build(retinanet()))
    # Teacher: cross, extra, disc, square. Student: disc, square, cross.
    got = adapter.relabel(prediction, [2, 3, 0]).pred_instances
    assert got.labels.tolist() == [2, 0, 1]
    assert got.scores.tolist() == pytest.approx([.9, .7, .6])

    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample
    sample = SegDataSample()
    sample.seg_logits = PixelData(data=torch.tensor([[3., 0.], [9., 9.], [1., 2.]])[:, None])
    sample.pred_sem_seg = PixelData(data=torch.tensor([[[1, 1]]]))
    got = family_of(build(segmentor(), 'mmseg')).relabel(sample, [2, 0])
    assert got.pred_sem_seg.data.tolist() == [[[1, 0]]]


def test_classes_in_another_order_score_the_same(shapes, tmp_path):
    """The teacher's columns and names are permuted alike, so its score does not change."""
    teacher = save_teacher(tmp_path / 't.pth', retinanet(width=12))
    saved = saved_at(teacher['checkpoint'])
    order = [2, 0, 1]
    for name in ('weight', 'bias'):
        value = saved['state_dict'][f'bbox_head.retina_cls.{name}']
        saved['state_dict'][f'bbox_head.retina_cls.{name}'] = value.unflatten(
            0, (9, 3))[:, order].flatten(0, 1)
    saved['meta']['dataset_meta']['classes'] = tuple(CLASSES[i] for i in order)
    other = dict(teacher, checkpoint=str(tmp_path / 'other.pth'))
    torch.save(saved, other['checkpoint'])
    scores = [hook_of(train(detector_config(
        shapes, distiller(retinanet(), one), str(tmp_path / name), custom_hooks=[HOOK]))[0]
    ).scores['teacher'] for name, one in (('a', teacher), ('b', other))]
    assert scores[0] == scores[1]


@pytest.mark.parametrize(('changes', 'model', 'message'), [
    (dict(val_dataloader=None, val_cfg=None, val_evaluator=None), 'distilled',
     'has no `val_dataloader`'),
    ({}, 'plain', 'finds no teacher: the model is not a mmkd.Distiller'),
    (dict(custom_hooks=[dict(HOOK, metric='coco/AP')]), 'distilled',
     'no metric `coco/AP` in the validation, whose metrics are coco/bbox_mAP'),
])
def test_mistakes_are_named(shapes, tmp_path, changes, model, message):
    teacher = save_teacher(tmp_path / 't.pth', retinanet())
    model = distiller(retinanet(), teacher) if model == 'distilled' else retinanet()
    config = detector_config(shapes, model, str(tmp_path / 'run'),
                             **{'custom_hooks': [HOOK], **changes})
    for name, value in changes.items():
        if value is None:
            config.pop(name)
    with pytest.raises(ValueError, match=message):
        Runner.from_cfg(config).train()


def test_resumed_run_does_not_evaluate_again(shapes, tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', retinanet())
    configs = [detector_config(shapes, distiller(retinanet(), teacher), str(tmp_path / 'run'),
                               custom_hooks=[HOOK], **{'train_cfg.max_epochs': epochs},
                               resume=epochs > 1) for epochs in (1, 2)]
    train(configs[0])
    runner, _ = train(configs[1])
    assert hook_of(runner).scores == {}
