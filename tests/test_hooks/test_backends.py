"""TensorBoard and WandB get the losses, shares, scores and pictures of a distilled run."""
import json

import pytest
from conftest import detector_config, distiller, retinanet, save_teacher
from mmengine.runner import Runner
from support.neighbours import needs

KD = dict(type='mmkd.KDLoss', on='cls')
HOOKS = [dict(type='mmkd.GradientShareHook', interval=1), dict(type='mmkd.TeacherEvalHook')]
SHARE, TEACHER = 'gradient_share/loss_cls_kd', 'teacher/coco/bbox_mAP'


def run(shapes, tmp_path, *backends):
    """Two epochs with a validation; return MMEngine's own record, a row for each log."""
    teacher = save_teacher(tmp_path / 't.pth', retinanet())
    model = dict(distiller(retinanet(), teacher, KD), hooks=HOOKS)
    visual = dict(type='DetLocalVisualizer', name=f'visualizer of {tmp_path}', vis_backends=[
        dict(type='LocalVisBackend'), *backends])
    config = detector_config(shapes, model, str(tmp_path / 'run'), visualizer=visual)
    config.default_hooks.visualization = dict(type='DetVisualizationHook', draw=True, interval=1)
    runner = Runner.from_cfg(config)
    runner.train()
    runner.visualizer.close()
    path, = (tmp_path / 'run').rglob('scalars.json')
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_tensorboard(shapes, tmp_path):
    needs('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    rows = run(shapes, tmp_path, dict(type='TensorboardVisBackend'))
    path, = (tmp_path / 'run').rglob('events.out.tfevents*')
    found = EventAccumulator(str(path))
    found.Reload()
    for name in ('loss_cls_kd', SHARE, TEACHER, 'coco/bbox_mAP'):
        logged = [row[name] for row in rows if name in row]
        assert logged
        assert [one.value for one in found.Scalars(name)] == pytest.approx(logged)
    assert found.Tags()['images']


@pytest.mark.slow
def test_wandb(shapes, tmp_path, monkeypatch):
    """Offline, so nothing is sent."""
    wandb = pytest.importorskip('wandb')  # not in requirements/neighbours.txt: 40 packages
    monkeypatch.setattr(wandb, 'join', lambda: None)  # the end of a run empties its summary
    try:
        rows = run(shapes, tmp_path, dict(
            type='WandbVisBackend', init_kwargs=dict(project='mmkd', mode='offline')))
        found = dict(wandb.run.summary)
    finally:
        wandb.finish()
    for name in ('loss_cls_kd', SHARE, TEACHER, 'coco/bbox_mAP'):
        assert found[name] == pytest.approx([row[name] for row in rows if name in row][-1])
    assert any(isinstance(value, dict) and value.get('_type') == 'image-file'
               for value in map(dict, filter(lambda one: hasattr(one, 'keys'), found.values())))
