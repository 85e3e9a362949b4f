"""A teacher that was trained on other classes teaches through a mapping, from file to score."""
import json
import math
import pathlib

import pytest
from conftest import detector_config, distiller, retinanet, train
from mmengine.config import Config

from mmkd.files.classes import classes_of_checkpoint
from mmkd.files.reading import read_file
from mmkd.inspection import inspect_pair

OTHERS = ('ball', 'box', 'plus')
NAMES = dict(disc='ball', square='box', cross='plus')
ONE = dict(student=('disc', 'square', 'cross'), classes=NAMES)
MANY = dict(student=('shape', 'plus'), classes=dict(shape=['ball', 'box']))
NONE = dict(student=('disc', 'square', 'cross'), classes=dict(NAMES, cross=None))


def labelled(shapes, folder, names):
    """The data set of shapes with its categories under other names; two of one name are merged."""
    content = json.loads(pathlib.Path(shapes, 'instances.json').read_text())
    known = list(dict.fromkeys(names.values()))
    old = {one['id']: one['name'] for one in content['categories']}
    content['categories'] = [dict(id=n, name=name) for n, name in enumerate(known, 1)]
    for one in content['annotations']:
        one['category_id'] = known.index(names[old[one['category_id']]]) + 1
    path = folder / f'{"_".join(known)}.json'
    path.write_text(json.dumps(content))
    return str(path)


def config_of(shapes, folder, names, model, work_dir, epochs):
    path = labelled(shapes, folder, names)
    config = detector_config(shapes, model, str(folder / work_dir), tuple(
        dict.fromkeys(names.values())), **{
            'train_cfg.max_epochs': epochs, 'train_cfg.val_interval': epochs,
            'optim_wrapper.optimizer': dict(_delete_=True, type='AdamW', lr=0.003),
            'val_evaluator.ann_file': path, 'test_evaluator.ann_file': path})
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.dataset.ann_file = path
    return config


@pytest.fixture(scope='module')
def teacher(shapes, tmp_path_factory):
    """A teacher that was trained on the classes ball, box and plus."""
    folder = tmp_path_factory.mktemp('teacher')
    model = retinanet(channels=24)
    train(config_of(shapes, folder, NAMES, model, 'run', 10))
    path = str(folder / 'run' / 'epoch_10.pth')
    assert classes_of_checkpoint(read_file(path, False, '')) == list(OTHERS)
    return dict(config=dict(default_scope='mmdet', model=model), checkpoint=path)


@pytest.mark.slow
@pytest.mark.parametrize(('case', 'columns', 'said', 'shown'), [
    (ONE, 3, 'disc=ball, square=box, cross=plus', '  square  box'),
    (MANY, 2, 'shape=ball+box', '  shape  ball + box'),
    (NONE, 2, 'disc=ball, square=box, cross=None', 'without teacher: cross')],
    ids=['one', 'many', 'none'])
def test_a_student_learns_through_a_mapping(shapes, teacher, tmp_path, case, columns, said, shown):
    (tmp_path / 'classes.json').write_text(json.dumps(case['classes']))
    names = dict(zip(NAMES, case['student'] if len(case['student']) == 3 else (
        'shape', 'shape', 'plus')))
    model = distiller(retinanet(classes=len(case['student'])),
                      dict(teacher, classes=str(tmp_path / 'classes.json')),
                      dict(type='mmkd.KDLoss', on='cls', loss_weight=10.))
    config = config_of(shapes, tmp_path, names, model, 'run', 8)
    plain = Config(dict(config.to_dict(), model=model['student']))
    pair = inspect_pair(plain, Config(teacher['config']), teacher['checkpoint'],
                        str(tmp_path / 'classes.json'))
    assert shown in pair.classes.splitlines()
    runner, losses = train(config)
    assert runner.model.terms[0].alignment.width == columns
    values = [one['loss_cls_kd'] for one in losses]
    assert all(map(math.isfinite, values))
    assert sum(values[-4:]) < 0.7 * sum(values[:4])
    log = next((tmp_path / 'run').rglob('*.log')).read_text()
    assert "the teacher's columns follow the mapping of `classes`" in log
    assert 'coco/bbox_mAP_50:' in log
    state = read_file(str(tmp_path / 'run' / 'epoch_8.pth'), False, '')
    assert classes_of_checkpoint(state) == list(case['student'])
    assert state['meta']['mmkd']['networks']['teacher']['classes'] == said
