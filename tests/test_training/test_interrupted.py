"""A run with unlabelled images that is interrupted within an epoch goes on as if it was not."""
import json
import os
import signal

import cv2
import numpy as np
import pytest
from conftest import detector_config, distiller, retinanet, save_teacher, saved_at
from support.tools import run_tool
from test_hooks.test_validation import assert_equal

STOPPER = '''
import os
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class StopOnce(Hook):
    """Sends a signal to its own process within the second epoch, unless the mark is there."""

    def __init__(self, signal):
        self.signal = signal

    def after_train_iter(self, runner, *args, **kwargs):
        mark = os.path.join(runner.work_dir, 'mark')
        if runner.iter == 5 and not os.path.exists(mark):
            open(mark, 'w').close()
            os.kill(os.getpid(), self.signal)
'''
COMPARED = 'state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers', 'mmkd'


@pytest.fixture
def config(shapes, tmp_path):
    """Three epochs of four iterations, beside five unlabelled images in batches of three."""
    (tmp_path / 'stopper.py').write_text(STOPPER)
    (tmp_path / 'pictures').mkdir()
    rng = np.random.default_rng(7)
    for number in range(5):
        cv2.imwrite(str(tmp_path / 'pictures' / f'{number}.png'),
                    rng.integers(0, 255, (64, 96, 3), dtype=np.uint8))
    model = distiller(retinanet(), save_teacher(tmp_path / 't.pth', retinanet(channels=24)),
                      dict(type='mmkd.DISTLoss', on='cls'), dict(type='mmkd.MSELoss', on='neck'),
                      dict(type='mmkd.PseudoLabels', score_thr=0.))
    model.update(hooks=[dict(type='mmkd.ReseedHook'), dict(type='EMAHook', momentum=0.3)],
                 unlabelled=dict(folder=str(tmp_path / 'pictures'),
                                 dataloader=dict(batch_size=3, num_workers=1)))
    config = detector_config(shapes, model, 'unused', **{
        'train_cfg.max_epochs': 3, 'train_cfg.val_interval': 100,
        'train_dataloader.batch_size': 1, 'train_dataloader.num_workers': 1,
        'optim_wrapper.optimizer.momentum': 0.9,
        'default_hooks.checkpoint.type': 'mmkd.CheckpointHook',
        'custom_imports.imports': ['mmkd', 'stopper']})
    config.param_scheduler = [dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=9)]
    return config


@pytest.mark.slow
@pytest.mark.parametrize(('sent', 'code'), [(signal.SIGINT, 130), (signal.SIGTERM, -15)])
def test_interrupted_within_an_epoch_and_resumed_to_the_bit(config, tmp_path, sent, code):
    config.custom_hooks = [dict(type='StopOnce', signal=int(sent))]
    config.pop('work_dir')
    config.dump(str(tmp_path / 'run.py'))
    (tmp_path / 'whole').mkdir()
    (tmp_path / 'whole' / 'mark').touch()

    path = os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')])

    def go_on(name, *words):
        return run_tool('train.py', 'run.py', '--work-dir', name, *words, cwd=tmp_path,
                        check=False, env=dict(PYTHONPATH=path))

    assert go_on('whole').returncode == 0
    stopped = go_on('again')
    assert stopped.returncode == code
    assert 'Traceback' not in stopped.stderr
    if sent == signal.SIGINT:
        assert stopped.stderr.strip().splitlines()[-1] == (
            'train.py: interrupted; run the same command with --resume to continue from the last '
            'checkpoint')
    assert not (tmp_path / 'again' / 'epoch_2.pth').exists()
    done = go_on('again', '--resume')
    assert done.returncode == 0, done.stderr[-2000:]
    assert 'epoch_1.pth' in done.stdout + done.stderr
    one, other = (saved_at(tmp_path / name / 'epoch_3.pth') for name in ('whole', 'again'))
    for key in COMPARED:
        assert_equal(one[key], other[key], key)
    values = [scalars(tmp_path / name) for name in ('whole', 'again')]
    assert values[0] == values[1]
    assert len({line['unlabelled.loss_neck_mse'] for line in values[0].values()}) == 12


def scalars(folder):
    """The losses by iteration; those of the last run count."""
    found = {}
    for path in sorted(folder.glob('*/vis_data/scalars.json')):
        for line in map(json.loads, path.read_text().splitlines()):
            if 'loss' in line:  # not a validation, whose step is an epoch
                found[line['step']] = {key: value for key, value in line.items() if 'loss' in key}
    return found
