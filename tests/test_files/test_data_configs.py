"""Configs in YAML and JSON never run code. Configs that MMEngine writes can be read."""
import json
import sys

import mmengine
import pytest
from conftest import build, detector_config, distiller, retinanet
from mmengine.config import Config
from support.tools import TOOLS

from mmkd.files.data_configs import read_config_file
from mmkd.files.zoo import published_checkpoint
from mmkd.networks.frozen import read_config


def prepared(path):
    model = build(distiller(retinanet(), dict(config=str(path), checkpoint=None)))
    model.prepare()
    return model


@pytest.mark.parametrize('suffix', ['yml', 'yaml', 'json'])
def test_what_mmengine_writes_is_read(tmp_path, suffix):
    path = tmp_path / f'teacher.{suffix}'
    config = Config(dict(default_scope='mmdet', model=retinanet(width=12),
                         custom_imports=dict(imports=['mmdet.models'],
                                             allow_failed_imports=False)))
    config.model.bbox_head.anchor_generator.strides = (8, 16, 32, 64, 128)  # YAML has no tuples
    config.dump(str(path))
    assert ('python/tuple' in path.read_text()) == (suffix != 'json')
    found = prepared(path).teacher.model
    assert type(found).__name__ == 'RetinaNet'
    assert found.backbone.conv1.out_channels == 12


def test_bases_of_a_package_and_of_data(tmp_path):
    (tmp_path / 'base.yml').write_text(
        '_base_: "mmdet::_base_/models/retinanet_r50_fpn.py"\ndefault_scope: mmdet\n')
    (tmp_path / 'teacher.json').write_text(json.dumps(
        dict(_base_=['./base.yml'], model=dict(bbox_head=dict(num_classes=3)))))
    config = read_config(str(tmp_path / 'teacher.json'), 'teacher')
    assert config.model.type == 'RetinaNet'
    assert config.model.bbox_head.num_classes == 3


def test_classes_by_their_paths(tmp_path):
    model = retinanet()
    model['type'] = 'mmdet.models.detectors.RetinaNet'
    model['backbone']['type'] = 'mmdet.ResNet'
    (tmp_path / 'teacher.json').write_text(json.dumps(dict(default_scope='mmdet', model=model)))
    assert type(prepared(tmp_path / 'teacher.json').teacher.model).__name__ == 'RetinaNet'


def called(mark):
    return dict(type='os.system', command=f'touch {mark}')


HOSTILE = {
    'apply.yml': lambda mark: f'model: !!python/object/apply:os.system ["touch {mark}"]',
    'new.yaml': lambda mark: f'x: !!python/object/new:os.system ["touch {mark}"]\nmodel: {{}}',
    'name.yml': lambda mark: 'model: {type: !!python/name:os.system }',
    'module.yml': lambda mark: 'model: !!python/module:antigravity ""',
    'type.json': lambda mark: json.dumps(dict(model=called(mark))),
    'type.yml': lambda mark: f'model: {{type: os.system, command: touch {mark}}}',
    'nested.json': lambda mark: json.dumps(dict(default_scope='mmdet', model=dict(
        retinanet(), backbone=dict(retinanet()['backbone'], plugins=[called(mark)])))),
    'behind.json': lambda mark: json.dumps(dict(model=dict(
        type='mmengine.utils.path.os.system', command=f'touch {mark}'))),
    'preprocessor.json': lambda mark: json.dumps(dict(
        default_scope='mmdet', model={k: v for k, v in retinanet().items()
                                      if k != 'data_preprocessor'},
        data_preprocessor=called(mark))),
    'popen.json': lambda mark: json.dumps(dict(model=dict(
        type='subprocess.Popen', args=['touch', str(mark)]))),
    'base.yml': lambda mark: '_base_: evil.py\nmodel: {}',
    'base.json': lambda mark: json.dumps(dict(_base_=['./evil.py'], model={})),
    'hidden.yml': lambda mark: '"{{$NO_SUCH_NAME:_base_}}": evil.py\nmodel: {}',
    'through.yml': lambda mark: '_base_: through.json\nmodel: {}',
    'import.yml': lambda mark: 'custom_imports: {imports: [evil]}\nmodel: {}',
}


@pytest.mark.parametrize('name', HOSTILE)
def test_no_file_of_data_runs_code(tmp_path, monkeypatch, name):
    mark, path = tmp_path / 'mark', tmp_path / name
    (tmp_path / 'evil.py').write_text(f'open({str(mark)!r}, "w")\nmodel = {{}}\n')
    (tmp_path / 'through.json').write_text(json.dumps(dict(_base_='evil.py')))
    path.write_text(HOSTILE[name](mark))
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=rf'(?s){name}` cannot be read: .*write it as .py'):
        prepared(path)
    assert not mark.exists()
    assert 'antigravity' not in sys.modules


def test_no_yaml_that_mmengine_reads_runs_code(tmp_path):
    """Also for students' configs, model indexes and annotations."""
    mark = tmp_path / 'mark'
    (tmp_path / 'any.yml').write_text(f'x: !!python/object/apply:os.system ["touch {mark}"]')
    for read in (mmengine.load, Config.fromfile):
        with pytest.raises(ValueError, match='is not a YAML file of numbers, strings, lists and '
                                             'dicts'):
            read(str(tmp_path / 'any.yml'))
    with pytest.raises(ValueError, match='is not a YAML file of numbers'):
        mmengine.fileio.load(str(tmp_path / 'any.yml'), backend_args=dict(backend='local'))
    assert not mark.exists()


def test_an_index_that_runs_code_is_refused(tmp_path, monkeypatch):
    mark = tmp_path / 'mark'
    (tmp_path / 'model-index.yml').write_text(
        f'Import: !!python/object/apply:os.system ["touch {mark}"]')
    monkeypatch.setattr('mmkd.files.zoo._mim_folder', lambda package: str(tmp_path))
    for text in ((tmp_path / 'model-index.yml').read_text(), 'Import: 3', '[1', ''):
        (tmp_path / 'model-index.yml').write_text(text)
        with pytest.raises(ValueError, match='index of `mmdet` cannot be read.*`checkpoint=`'):
            published_checkpoint('mmdet::a/b.py')
    assert not mark.exists()


@pytest.mark.parametrize(('content', 'message'), [
    (lambda mark: HOSTILE['apply.yml'](mark), 'is not a YAML file of numbers'),
    (lambda mark: json.dumps(dict(model={}, custom_hooks=[called(mark)])),
     "`type` of `custom_hooks.0` is 'os.system', but a data file may only name classes of torch or "
     "OpenMMLab")])
def test_no_config_given_to_a_tool_runs_code(tmp_path, monkeypatch, content, message):
    monkeypatch.syspath_prepend(TOOLS)
    from common import read_config as read_of_tools
    mark = tmp_path / 'mark'
    (tmp_path / 'student.yml').write_text(content(mark))
    with pytest.raises(ValueError, match=message):
        read_of_tools(str(tmp_path / 'student.yml'))
    assert not mark.exists()


def test_a_whole_config_that_mmengine_writes_is_read(tmp_path, shapes):
    config = detector_config(shapes, retinanet(), str(tmp_path / 'run'))
    config.optim_wrapper.optimizer.type = 'torch.optim.SGD'
    config.dump(str(tmp_path / 'student.yml'))
    assert read_config_file(str(tmp_path / 'student.yml')).to_dict() == config.to_dict()
