"""Files that are missing, truncated, damaged, of another kind, or in the way of a new file."""
import os
import pickle
import zipfile
from collections import OrderedDict
from typing import Any, Callable

import pytest
import torch
from catalogue import Parts, Row, must, refused, rows
from conftest import (
    build,
    detector_config,
    distiller,
    observe,
    retinanet,
    save_teacher,
    saved_at,
    train,
)
from mmengine.model import ExponentialMovingAverage
from mmengine.runner import Runner

from mmkd.files.checkpoint import read_checkpoint

MODEL = retinanet(width=12)
HINT = dict(type='mmkd.MSELoss', on='neck')


def saved(path: Any) -> dict:
    return torch.load(path, weights_only=False)


def changed(change: Callable[[dict], Any]) -> Callable[[Any], None]:
    """Return a function that reads a checkpoint, changes it, and writes it again."""
    def write(path: Any) -> None:
        checkpoint = saved(path)
        result = change(checkpoint)
        torch.save(checkpoint if result is None else result, path)

    return write


def cut(share: float) -> Callable[[Any], None]:
    def write(path: Any) -> None:
        content = path.read_bytes()
        path.write_bytes(content[:int(share * len(content))])

    return write


def flipped(path: Any) -> None:
    """Flip one bit of the weights."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 64
    path.write_bytes(content)


def folder(path: Any) -> None:
    path.unlink()
    path.mkdir()


def text(content: str) -> Callable[[Any], None]:
    return lambda path: path.write_text(content) and None


def zipped(path: Any) -> None:
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('readme.txt', 'nothing')


def old_pickle(path: Any) -> None:
    path.write_bytes(pickle.dumps(dict(state_dict={}), protocol=4))


def each(change: Callable[[torch.Tensor], Any]) -> Callable[[Any], None]:
    def change_all(checkpoint: dict) -> None:
        for key, value in checkpoint['state_dict'].items():
            checkpoint['state_dict'][key] = change(value)

    return changed(change_all)


def one(name: str, value: Any) -> Callable[[Any], None]:
    return changed(lambda checkpoint: checkpoint['state_dict'].update({name: value}))


def set_value(name: str, number: float) -> Callable[[Any], None]:
    def change(checkpoint: dict) -> None:
        checkpoint['state_dict'][name].view(-1)[0] = number

    return changed(change)


def set_dtype(name: str, kind: torch.dtype) -> Callable[[Any], None]:
    return changed(lambda checkpoint: checkpoint['state_dict'].update(
        {name: checkpoint['state_dict'][name].to(kind)}))


def meta(value: Any) -> Callable[[Any], None]:
    return changed(lambda checkpoint: checkpoint.update(meta=value))


def of_razor(weights: dict, teacher: dict) -> dict:
    """The state dict of a distilled student, as MMRazor 1.0 saves it."""
    return OrderedDict(
        [(f'architecture.{key}', value) for key, value in weights.items()] +
        [(f'teacher.{key}', value) for key, value in teacher.items()] +
        [('distiller.connectors.neck_s1.conv.weight', torch.ones(4, 4, 1, 1))])


def as_razor(path: Any) -> None:
    checkpoint = saved(path)
    other = build(retinanet(depth=50)).state_dict()
    checkpoint['state_dict'] = of_razor(checkpoint['state_dict'], other)
    checkpoint['meta'].update(mmengine_version='0.10.4', epoch=12, iter=100)
    torch.save(checkpoint, path)


def averaged(checkpoint: dict) -> None:
    """A checkpoint of a run with EMAHook, which has the average under its own key."""
    checkpoint['ema_state_dict'] = ExponentialMovingAverage(build(MODEL)).state_dict()


def distilled(checkpoint: dict) -> None:
    """A checkpoint of a Distiller, which has connectors in addition to the weights."""
    checkpoint['mmkd'] = dict(connectors={'loss_neck_mse': {'0.weight': torch.ones(2, 2)}})
    checkpoint['optimizer'] = dict(state={}, param_groups=[dict(lr=0.1, params=[0])])


FILE = r'`/[^`]*\.(pth|safetensors)`'
CUT = Parts(FILE, 'may be truncated', 'is not a readable checkpoint', '; download or save it again')
NONE = Parts(FILE, 'found list', 'contains no weights: expected a dict with `state_dict`',
             '; use the checkpoint of a trained model')
MISFIT = Parts(f'the checkpoint {FILE}', 'with other shapes', 'does not fit its config .RetinaNet.',
               '; use the config that this checkpoint was trained with')
CODE = Parts(FILE, 'contains more than weights', 'such a file can run code',
             'if you trust its source, write `trust_checkpoint=True` next to `checkpoint`')
BROKEN = Parts(f'the checkpoint {FILE}', 'in bbox_head.retina_cls.bias',
               'infinite or NaN values', 'use another checkpoint')
NO_FILE = Parts(f'no teacher checkpoint at {FILE}', 'looked from /', 'the path or address of',
                '; give `teacher.checkpoint`')


def none(found: str) -> Parts:
    return NONE._replace(found=found)


def misfit(found: str) -> Parts:
    return MISFIT._replace(found=found)


TEACHERS = [
    Row('missing', lambda path: path.unlink(), FileNotFoundError, NO_FILE),
    Row('a folder', folder, FileNotFoundError, NO_FILE),
    Row('empty', text(''), ValueError, CUT),
    Row('text', text('weights\n'), ValueError, CUT),
    Row('a page of the web', text('<!DOCTYPE html><html><body>404</body></html>'), ValueError, CUT),
    Row('a pointer of git lfs', text('version https://git-lfs.github.com/spec/v1\noid sha256:0\n'),
        ValueError, CUT),
    *(Row(f'cut at {share:.1%}', cut(share), ValueError, CUT)
      for share in (0.01, 0.5, 0.9, 0.999)),
    Row('one bit flipped', flipped, ValueError, Parts(
        FILE, 'does not match', 'is damaged', CUT.step)),
    Row('a zip of something else', zipped, ValueError, CUT),
    Row('a pickle of no weights', old_pickle, ValueError, CODE),
    Row('a list', changed(lambda checkpoint: list(checkpoint['state_dict'].values())), ValueError,
        none('found list')),
    Row('a tensor', changed(lambda checkpoint: torch.ones(3)), ValueError, none('found Tensor')),
    Row('a number', changed(lambda checkpoint: 3), ValueError, none('found int')),
    Row('an empty dict', changed(lambda checkpoint: {}), ValueError, none('a dict of nothing')),
    Row('no weights in it', changed(lambda checkpoint: checkpoint.update(state_dict={})),
        ValueError, none('a dict of nothing')),
    Row('lists for tensors', each(lambda value: value.tolist()), ValueError,
        none('str: int, str: list')),
    Row('numbers for names', changed(lambda checkpoint: dict(state_dict=dict(
        enumerate(checkpoint['state_dict'].values())))), ValueError, none('a dict of int: Tensor')),
    Row('an optimizer alone', changed(lambda checkpoint: dict(optimizer=dict(
        state={}, param_groups=[]))), ValueError, none('a dict of str: dict')),
    Row('a whole model', changed(lambda checkpoint: build(MODEL)), ValueError,
        CODE._replace(found='GLOBAL mmdet.models.detectors.retinanet.RetinaNet')),
    Row('of another depth', lambda path: save_teacher(path, retinanet(depth=50)), ValueError,
        misfit(r'other shapes .*\(8,\) in the file, \(12,\) in the model')),
    Row('of another width', lambda path: save_teacher(path, retinanet(width=16)), ValueError,
        misfit(r'other shapes .*\(16,\) in the file, \(12,\) in the model')),
    Row('of a backbone alone', changed(lambda checkpoint: checkpoint.update(state_dict={
        key.removeprefix('backbone.'): value for key, value in checkpoint['state_dict'].items()
        if key.startswith('backbone.')})), ValueError,
        misfit('missing in the file .*backbone.conv1.weight.*unknown to the model .bn1.bias')),
    Row('a weight is missing', changed(lambda checkpoint: checkpoint.update(state_dict={
        key: value for key, value in checkpoint['state_dict'].items() if 'bias' not in key})),
        ValueError, misfit('32 missing in the file .backbone.bn1.bias, .* and 24 more')),
    Row('a weight too many', one('extra', torch.ones(1)), ValueError,
        misfit('1 unknown to the model .extra.')),
    Row('not a number in it', set_value('bbox_head.retina_cls.bias', float('nan')), ValueError,
        BROKEN),
    Row('infinite variance', set_value('backbone.bn1.running_var', float('inf')), ValueError,
        BROKEN._replace(found='in backbone.bn1.running_var')),
    Row('overflown in half precision', changed(lambda checkpoint: checkpoint['state_dict'].update({
        'backbone.conv1.weight': (checkpoint['state_dict']['backbone.conv1.weight'] * 1e6).half()
    })), ValueError, BROKEN._replace(found='in backbone.conv1.weight')),
    Row('without values', each(lambda value: value.to('meta')), ValueError,
        misfit('backbone.bn1.bias: it has no values')),
    Row('integers', each(lambda value: value.to(torch.int8)), ValueError,
        misfit('torch.int8 in the file, torch.float32 in the model')),
    Row('one bool weight', changed(lambda checkpoint: checkpoint['state_dict'].update({
        'backbone.conv1.weight': checkpoint['state_dict']['backbone.conv1.weight'] > 0})),
        ValueError, misfit('backbone.conv1.weight: torch.bool in the file, torch.float32')),
    Row('classes that are none', meta(dict(dataset_meta=dict(classes=3))), ValueError, Parts(
        'the classes of the teacher', "'int' object is not iterable", 'cannot be read',
        '; check `dataset_meta` in its checkpoint')),
    Row('more classes than columns', meta(dict(dataset_meta=dict(classes=('a', 'b', 'c', 'd')))),
        ValueError, Parts("the teacher's head", 'names 4', 'has columns for 3 classes',
                          '; use the `metainfo`')),
    Row('MMRazor, and more', changed(lambda checkpoint: checkpoint.update(state_dict=dict(
        of_razor(checkpoint['state_dict'], {}), neck_of_ours=torch.ones(1)))), ValueError,
        misfit('unknown to the model .architecture.backbone')),
    Row('MMRazor of another student', changed(lambda checkpoint: checkpoint.update(
        state_dict=of_razor(build(retinanet()).state_dict(), checkpoint['state_dict']))),
        ValueError, misfit('104 with other shapes')),
    # Unusual, but valid.
    Row('prefix of a wrapper', changed(lambda checkpoint: checkpoint.update(
        state_dict={f'module.{key}': value for key, value in checkpoint['state_dict'].items()}))),
    Row('bare weights', changed(lambda checkpoint: dict(checkpoint['state_dict']))),
    Row('under "model"', changed(lambda checkpoint: dict(model=checkpoint['state_dict']))),
    Row('double precision', each(lambda value: value.double() if value.is_floating_point()
                                 else value)),
    Row('without meta', meta(None)),
    Row('meta of another kind', meta([1, 2])),
    Row('meta without names', meta(dict(dataset_meta=None, CLASSES=None))),
    Row('meta of mmdet 2', meta(dict(CLASSES=('disc', 'square', 'cross')))),
    Row('with an average', changed(averaged)),
    Row('of a Distiller', changed(distilled)),
    Row('of MMRazor', as_razor),
    Row('written before torch 1.6', lambda path: torch.save(
        saved(path), path, _use_new_zipfile_serialization=False)),
]


@rows(TEACHERS)
def test_checkpoint_of_a_teacher(row, tmp_path):
    entry = save_teacher(tmp_path / 'teacher.pth', MODEL)
    expected = saved(tmp_path / 'teacher.pth')['state_dict']
    row.input(tmp_path / 'teacher.pth')
    model = build(distiller(retinanet(), entry))
    if row.error is not None:
        with refused(row):
            model.init_weights()
        return
    model.init_weights()
    for name, value in model.teacher.model.state_dict().items():
        assert torch.equal(value, expected[name].to(value.dtype)), name


def test_half_precision_checkpoint_is_loaded(tmp_path):
    entry = save_teacher(tmp_path / 'teacher.pth', MODEL)
    expected = saved(tmp_path / 'teacher.pth')['state_dict']
    each(lambda value: value.half() if value.is_floating_point() else value)(
        tmp_path / 'teacher.pth')
    model = build(distiller(retinanet(), entry))
    model.init_weights()
    for name, value in model.teacher.model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-6)


def test_checkpoint_of_mmrazor_gives_the_students_outputs(tmp_path):
    entry = save_teacher(tmp_path / 'teacher.pth', MODEL)
    images = torch.randn(1, 3, 64, 64)
    said = []
    for change in (None, as_razor):
        if change:
            change(tmp_path / 'teacher.pth')
        model = build(distiller(retinanet(), entry))
        model.init_weights()
        _, told = observe(model.eval(), images)
        said.append(next(iter(told[''].values())).levels)
    assert all(torch.equal(a, b) for a, b in zip(*said))


# --- safetensors ----------------------------------------------------------------------------------

def safe(change: Callable[[bytes], bytes] = lambda content: content, **beside: str) -> Any:
    def write(path: Any) -> None:
        from safetensors.torch import save_file
        save_file(dict(saved(path)['state_dict']), path.with_suffix('.safetensors'), beside)
        path = path.with_suffix('.safetensors')
        path.write_bytes(change(path.read_bytes()))

    return write


SAFETENSORS = [
    Row('safetensors: as it should be', safe()),
    Row('safetensors: cut in the header', safe(lambda content: content[:100]), ValueError, CUT),
    Row('safetensors: cut in the weights', safe(lambda content: content[:-100]), ValueError, CUT),
    Row('safetensors: empty', safe(lambda content: b''), ValueError, CUT),
    Row('safetensors: a page of the web', safe(lambda content: b'<!DOCTYPE html>' * 9),
        ValueError, CUT),
    Row('safetensors: meta that is no JSON', safe(meta='{'), ValueError, Parts(
        f'`meta` of {FILE}', 'JSONDecodeError', 'cannot be read',
        '; write it as JSON, or leave it out')),
    Row('safetensors: meta that is a list', safe(meta='[]')),
]


@rows(SAFETENSORS)
def test_safetensors(row, tmp_path):
    entry = save_teacher(tmp_path / 'teacher.pth', MODEL)
    row.input(tmp_path / 'teacher.pth')
    entry['checkpoint'] = str(tmp_path / 'teacher.safetensors')
    model = build(distiller(retinanet(), entry))
    if row.error is not None:
        with refused(row):
            model.init_weights()
        return
    model.init_weights()
    assert model.teacher.model is not None


# --- configs in files -----------------------------------------------------------------------------

CONFIG = r'`/[^`]*\.py`'
NO_CONFIG = Parts(f'no config {CONFIG}', 'looked for /', 'the absolute path of a file', '; write')
NO_MODEL = Parts(f'{CONFIG}', r'its keys are \[\]', 'must contain a `model`',
                 '; use the config of a whole run')
UNREADABLE = Parts(f'the teacher config {CONFIG}', "SyntaxError: '.' was never closed",
                   r'cannot be read: /\S*teacher\.py', '; correct it there')
CONFIGS = [
    Row('config: missing', None, FileNotFoundError, NO_CONFIG),
    Row('config: name misspelt', ('teacher_a.py', 'model = {}'), FileNotFoundError,
        NO_CONFIG._replace(found='closest in its folder: teacher_a.py')),
    Row('config: a folder', ('teacher.py/x.py', ''), FileNotFoundError,
        NO_CONFIG._replace(found='it is a folder')),
    Row('config: empty', ('teacher.py', ''), ValueError, NO_MODEL),
    Row('config: does not parse', ('teacher.py', 'model = dict('), ValueError, UNREADABLE),
    Row('config: raises', ('teacher.py', 'model = dict(a=1 / 0)'), ValueError,
        UNREADABLE._replace(found='ZeroDivisionError: division by zero')),
    Row('config: imports what is not there', ('teacher.py', 'import no_such\nmodel = {}'),
        ValueError, Parts('the model of the teacher', 'but got {}', 'cannot be built',
                          '; check `model`')),
    Row('config: base is missing', ('teacher.py', "_base_ = 'no_such.py'"), ValueError,
        UNREADABLE._replace(found='FileNotFoundError: .*no_such.py')),
    Row('config: without model', ('teacher.py', 'optimizer = {}'), ValueError,
        NO_MODEL._replace(found=r"its keys are \['optimizer'\]")),
    Row('config: custom_imports that fail', (
        'teacher.py', "custom_imports = dict(imports=['no_such'])\nmodel = dict(type='A')"),
        ValueError, UNREADABLE._replace(
            found="Failed to import custom modules from {'imports': .'no_such'.",
            step='; `no_such` cannot be imported: if its name is spelt right, install the '
                 'package, or, where it is a module of your own, put its folder on PYTHONPATH$')),
    Row('config: a data set', ('teacher.py', "model = 'retinanet'"), ValueError,
        NO_MODEL._replace(found=r"its keys are \['model'\]|retinanet")),
]


@rows(CONFIGS)
def test_config_of_a_teacher(row, tmp_path):
    if row.input:
        path = tmp_path / row.input[0]
        path.parent.mkdir(exist_ok=True)
        path.write_text(row.input[1])
    model = build(distiller(retinanet(), dict(config=str(tmp_path / 'teacher.py'),
                                              checkpoint=None)))
    with refused(row):
        model.init_weights()


# --- where a run starts from ----------------------------------------------------------------------

NOTHING_FITS = Parts(f'no weight of the checkpoint in `load_from`, {FILE}', 'it contains fc',
                     'the student has backbone.bn1.bias, .*more',
                     '; set `load_from` to a checkpoint of the student')
STARTS = [
    Row('start: missing', lambda path: path.unlink(), FileNotFoundError, Parts(
        f'no checkpoint file at {FILE}', 'looked from /', '`load_from` and `init_cfg`',
        '; check')),
    Row('start: cut', cut(0.7), ValueError, CUT),
    Row('start: text', text('<html>'), ValueError, CUT),
    Row('start: of another model', lambda path: torch.save(dict(state_dict=dict(
        fc=torch.ones(3))), path), ValueError, NOTHING_FITS),
    Row('start: integers', each(lambda value: value.to(torch.int8)), ValueError, Parts(
        '/[^`]*pth`', 'torch.int8', 'not floating-point numbers', 'use float32')),
    Row('start: one bool parameter', set_dtype('bbox_head.retina_cls.bias', torch.bool),
        ValueError, Parts('/[^`]*pth`', 'retina_cls.bias: torch.bool', 'not floating-point numbers',
                          'use float32')),
    Row('start: no weights', lambda path: torch.save(dict(meta={}), path), ValueError,
        NOTHING_FITS._replace(found='it contains (meta|no weights)')),
    Row('start: a list', lambda path: torch.save([1], path), ValueError,
        NOTHING_FITS._replace(found='it contains no weights')),
    Row('start: not a number', set_value('bbox_head.retina_cls.bias', float('nan')), ValueError,
        BROKEN._replace(thing='the checkpoint `+/[^`]*pth`')),
]


@rows(STARTS)
@pytest.mark.parametrize('way', ['model', 'hook'])
def test_unsuitable_start_weights_are_refused(row, way, shapes, tmp_path):
    path = tmp_path / 'start.pth'
    save_teacher(path, retinanet())
    row.input(path)
    teacher = dict(config=dict(default_scope='mmdet', model=MODEL), checkpoint=None)
    model = distiller(retinanet(), teacher)
    hook = dict(type='mmkd.DistillHook', teacher=teacher, distill=model['distill'])
    config = detector_config(
        shapes, model if way == 'model' else retinanet(), str(tmp_path / 'run'),
        load_from=str(path), custom_hooks=[hook] if way == 'hook' else [])
    with refused(row):
        Runner.from_cfg(config).train()
    assert not list((tmp_path / 'run').glob('*.pth'))


STOPPED = Parts('/[^`]*pth`', 'where its training stopped', 'cannot be resumed',
                '; start from its weights by `load_from`, without `resume`')


def test_student_starts_from_the_student_of_mmrazor(shapes, tmp_path):
    save_teacher(tmp_path / 'start.pth', retinanet())
    expected = saved(tmp_path / 'start.pth')['state_dict']
    as_razor(tmp_path / 'start.pth')
    teacher = dict(config=dict(default_scope='mmdet', model=MODEL), checkpoint=None)
    runner = Runner.from_cfg(detector_config(
        shapes, distiller(retinanet(), teacher), str(tmp_path / 'run'),
        load_from=str(tmp_path / 'start.pth')))
    runner.load_or_resume()
    for name, value in runner.model.state_dict().items():
        assert torch.equal(value, expected[name]), name
    razor = detector_config(shapes, distiller(retinanet(), teacher), str(tmp_path / 'again'),
                            load_from=str(tmp_path / 'start.pth'), resume=True)
    with refused(Row('', None, ValueError, STOPPED)):
        Runner.from_cfg(razor).train()


# --- resume ---------------------------------------------------------------------------------------

def entry_of(folder: Any, *distill: dict, **teacher: Any) -> dict:
    return distiller(retinanet(), dict(dict(
        config=dict(default_scope='mmdet', model=retinanet(channels=24)), checkpoint=None),
        **teacher), *(distill or [HINT]))


@pytest.fixture(scope='module')
def stopped(shapes, tmp_path_factory):
    """Folder of a run with a connector, stopped after its first epoch."""
    folder = tmp_path_factory.mktemp('stopped')
    train(detector_config(shapes, entry_of(folder), str(folder)))
    return folder


def note(content: str) -> Callable[[Any], dict]:
    def write(folder: Any) -> dict:
        (folder / 'last_checkpoint').write_text(content)
        return {}

    return write


MEAN = dict(type='mmkd.MeanTeacher')
CONNECTORS = Parts(
    'the checkpoint has other connectors',
    r"only in the checkpoint: {'loss_neck_mse.0.weight': \(24, 16, 1, 1\)",
    'than the config',
    '; resume with the `distill` that it was trained with, or start from its weights')
NO_NOTE = Parts(r'no checkpoint file at `/no/such/epoch_9.pth`', 'looked from /',
                'for `resume`, `last_checkpoint`', '; check `load_from`')
RESUMED = [
    Row('resume: another point', lambda folder: dict(model=entry_of(folder, dict(
        HINT, on='backbone.layer4', connector='conv'))), ValueError, CONNECTORS._replace(
            expected=r"only in the config: {'loss_backbone_layer4_mse.0.weight'")),
    Row('resume: no connector any more', lambda folder: dict(model=entry_of(folder, dict(
        type='mmkd.KDLoss', on='cls'))), ValueError, CONNECTORS._replace(
            expected='only in the config: none')),
    Row('resume: connector of another width', lambda folder: dict(model=distiller(
        retinanet(), dict(config=dict(default_scope='mmdet', model=retinanet(channels=32)),
                          checkpoint=None), HINT)), ValueError, CONNECTORS._replace(
            expected=r"only in the config: {'loss_neck_mse.0.weight': \(32, 16, 1, 1\)")),
    Row('resume: a teacher that changes', lambda folder: dict(model=dict(
        entry_of(folder), companions=dict(mean=MEAN), distill=[HINT, dict(
            type='mmkd.KDLoss', on=dict(student='cls', teacher='mean:cls'))])), ValueError, Parts(
                'the checkpoint', r'contains the networks \[\]', r"the config has \['mean'\]",
                '; resume with the `teacher` and `companions`')),
    Row('resume: note points nowhere', note('/no/such/epoch_9.pth'), FileNotFoundError, NO_NOTE),
    Row('resume: note is half written', note('/no/su'), FileNotFoundError,
        NO_NOTE._replace(thing='no checkpoint file at `/no/su`')),
    Row('resume: note is empty', note(''), FileNotFoundError,
        NO_NOTE._replace(thing='no checkpoint file at ``')),
    Row('resume: weights without a run', lambda folder: torch.save(
        dict(state_dict=saved_at(folder / 'epoch_1.pth')['state_dict']),
        folder / 'epoch_1.pth') or {}, ValueError, STOPPED),
    Row('resume: cut', lambda folder: cut(0.8)(folder / 'epoch_1.pth') or {}, ValueError, CUT),
]


@rows(RESUMED)
def test_resume_with_another_config_or_file(row, stopped, shapes, tmp_path):
    for name in os.listdir(stopped):
        if name.endswith('.pth'):
            (tmp_path / name).write_bytes((stopped / name).read_bytes())
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_1.pth'))
    changes = row.input(tmp_path)
    before = (tmp_path / 'epoch_1.pth').read_bytes()
    config = detector_config(shapes, changes.get('model', entry_of(tmp_path)), str(tmp_path),
                             resume=True, train_cfg=dict(max_epochs=2))
    with refused(row):
        Runner.from_cfg(config).train()
    assert (tmp_path / 'epoch_1.pth').read_bytes() == before
    assert not (tmp_path / 'epoch_2.pth').exists()


# --- cache ----------------------------------------------------------------------------------------

NO_STORE = Parts('`/[^`]*cache`', 'Not a directory|File exists|Errno', 'is not a cache of',
                 '; use another folder')
CACHES = [
    Row('cache: a file in its place', lambda path: path.write_text('x') and str(path), ValueError,
        NO_STORE),
    Row('cache: below a file', lambda path: path.write_text('x') and str(path / 'x'), ValueError,
        NO_STORE._replace(thing='`/[^`]*cache/x`')),
    Row('cache: a device', lambda path: '/proc/no_such', ValueError,
        NO_STORE._replace(thing='`/proc/no_such`')),
    Row('cache: no path', lambda path: '', TypeError, must(
        'teacher.cache', 'must be the path of a folder', "''")),
    Row('cache: no words', lambda path: 3, TypeError, must(
        'teacher.cache', 'must be the path of a folder', '3')),
    Row('cache: of an earlier version', lambda path: path.mkdir() or ((
        path / 'data.mdb').write_bytes(b'x') and str(path)), ValueError, Parts(
            '`/[^`]*cache`', 'contains the LMDB file', 'not a cache of this '
                                                       'version', 'remove this one')),
    Row('cache: its description is spoilt', lambda path: path.mkdir() or ((
        path / 'description.json').write_text('{') and str(path)), ValueError, Parts(
            'description.json`', 'is damaged', 'the description of a cache',
            'remove the folder')),
]


@rows(CACHES)
def test_folder_of_a_cache(row, tmp_path):
    entry = dict(type='mmkd.CachedTeacher', cache=row.input(tmp_path / 'cache'), checkpoint=None,
                 config=dict(default_scope='mmdet', model=MODEL))
    with refused(row):
        model = build(distiller(retinanet(), entry))
        model.init_weights()
        model.distillation.begin()


def test_reading_does_not_change_a_file(tmp_path):
    save_teacher(tmp_path / 'teacher.pth', MODEL)
    before = (tmp_path / 'teacher.pth').read_bytes()
    read_checkpoint(str(tmp_path / 'teacher.pth'))
    assert (tmp_path / 'teacher.pth').read_bytes() == before
