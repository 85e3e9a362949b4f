"""Errors of tools: a few lines for a user's mistake, a traceback for a bug."""
import importlib
import os
import re
import subprocess
import sys

import pytest
import torch
from conftest import detector_config, distiller, retinanet, save_teacher
from mmengine.config import Config
from support.tools import BENCHMARKS, TOOLS
from support.tools import run_tool as run

STUDENT = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'


@pytest.fixture
def command(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module('command')


@pytest.fixture
def refuse(command, monkeypatch, capsys, tmp_path):
    """Run a tool in this process; return its output and exit code."""
    def call(tool, *arguments):
        folder = TOOLS if os.path.exists(os.path.join(TOOLS, f'{tool}.py')) else BENCHMARKS
        monkeypatch.syspath_prepend(folder)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr('sys.argv', [f'{tool}.py', *map(str, arguments)])
        spec = importlib.util.spec_from_file_location(f'tool_{tool}',
                                                      os.path.join(folder, f'{tool}.py'))
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        with pytest.raises(SystemExit) as stopped:
            command.run(module.main)
        code = stopped.value.code
        said = capsys.readouterr().err if isinstance(code, int) else code
        assert 1 <= len(said.strip().splitlines()) <= 4, said
        assert said.startswith(f'{tool}.py: '), said
        return said

    return call


def caught(call, *args):
    with pytest.raises(BaseException) as info:  # noqa: PT011
        call(*args)
    return info.value


# --- which errors are a user's mistakes -----------------------------------------------------------


def test_only_errors_raised_by_mmkd_are_refusals(command):
    from mmkd import WeightedSampler
    from mmkd.inspection import entries_of
    error = caught(entries_of, 'dst', [])
    assert command.refusal_of(error) == str(error)
    assert command.refusal_of(caught(entries_of, 'dist', [3])) is None  # AttributeError
    assert command.refusal_of(caught(WeightedSampler, None, [1.])) is None  # TypeError of len()


def test_errors_of_python_and_torch_are_bugs(command):
    assert command.refusal_of(caught(int, 'x')) is None
    assert command.refusal_of(caught(torch.ones(2).reshape, 3)) is None
    assert command.refusal_of(caught({}.__getitem__, 'x')) is None

    def broken():
        raise ValueError('of nobody we know')

    assert command.refusal_of(caught(broken)) is None


def test_text_that_mmengine_adds_is_removed(command):
    from mmengine.hooks import Hook
    from mmengine.runner import Runner

    from mmkd import FrozenTeacher

    class Asks(Hook):
        def before_train(self, runner):
            FrozenTeacher(3)

    class Breaks(Hook):
        def before_train(self, runner):
            len(3)

    def call(hook):
        runner = Runner.__new__(Runner)
        runner._hooks = [hook]
        runner.call_hook('before_train')

    error = caught(call, Asks())
    assert 'Asks object' in str(error)
    assert command.refusal_of(error).startswith('`teacher.config` must be a path or a config, but ')
    assert command.refusal_of(caught(call, Breaks())) is None


def test_bug_that_follows_a_refusal_is_not_hidden(command):
    from mmkd.inspection import entries_of

    def broken():
        try:
            entries_of('dst', [])
        except ValueError:
            {}['no such key']

    assert command.refusal_of(caught(broken)) is None


def test_refusal_of_a_data_worker_is_shown(command):
    from torch._utils import ExceptionWrapper

    from mmkd.inspection import entries_of

    def as_worker(call, *args):
        try:
            call(*args)
        except Exception:
            return caught(ExceptionWrapper(where='in DataLoader worker process 0').reraise)

    found = command.refusal_of(as_worker(entries_of, 'dst', []))
    assert found == str(caught(entries_of, 'dst', []))
    assert found.startswith('no method `dst`; write `dist`, the closest, or import ')
    assert command.refusal_of(as_worker(entries_of, 'dist', [3])) is None


def test_long_refusals_are_cut_and_other_processes_wait(command, monkeypatch):
    slept = []
    monkeypatch.setattr(command.time, 'sleep', slept.append)
    monkeypatch.setattr('sys.argv', ['tools/train.py'])
    monkeypatch.setenv('RANK', '0')
    assert command.as_said('a\n\nb', ValueError()) == 'train.py: a\nb'
    assert not slept
    monkeypatch.setenv('RANK', '1')
    lines = command.as_said('\n'.join('abcdefg'), ValueError()).splitlines()
    assert lines == ['train.py: a', 'b', 'c', '... (4 more lines; --debug shows all)']
    assert slept == [command.PATIENCE]


@pytest.mark.parametrize(('words', 'named', 'shown'), [
    (['python', 'tools/train.py', 'a.py'], 'train.py', 'python tools/test.py A, or tools/train.py'),
    (['python', '-W', 'ignore', '-m', 'mmkd', 'train', 'a.py'], 'python -m mmkd train',
     'python -m mmkd test A, or python -m mmkd train'),
    (['python', '-m', 'pytest', 'mmkd', 'train'], 'train.py',
     'python tools/test.py A, or tools/train.py')])
def test_tools_are_named_as_the_user_calls_them(command, monkeypatch, words, named, shown):
    monkeypatch.setattr('sys.argv', ['/somewhere/tools/train.py', 'a.py'])
    monkeypatch.setattr('sys.orig_argv', words)
    assert command.program() == named
    said = command.as_said('run python tools/test.py A, or tools/train.py', ValueError())
    assert said == f'{named}: run {shown}'


# --- on the command line --------------------------------------------------------------------------


@pytest.mark.parametrize(('tool', 'arguments', 'says'), [
    ('train', ['--teacher', 'mmdet::_base_/models/retinanet_r50_fpn.py'],
     'no weights are published for --teacher mmdet::_base_.*write --teacher-checkpoint FILE.*none'),
    ('train', ['--teacher', 'teacher.pth'],
     '`teacher.pth` is not a config.*It is a checkpoint.*--teacher-checkpoint'),
    ('train', ['--teacher', 'broken.py'],
     r'`broken.py` cannot be read: /.*/broken.py, line 2: SyntaxError: .*never closed'),
    ('train', ['--teacher', 'child.py'],
     r'`child.py` cannot be read: /.*/broken.py, line 2: SyntaxError'),
    ('train', ['--teacher', 'name.py'], r'name.py, line 3: NameError: name .zz. is not defined'),
    ('train', ['--teacher', 'orphan.py'], r'orphan.py: FileNotFoundError: .*nosuch.py'),
    ('train', ['--teacher', 'import.py'], r"import.py: .*No module named 'no_such.*PYTHONPATH"),
    ('train', ['--teacher', 'nosuch.py'], 'no config `nosuch.py` .looked for /.*write the '
                                          'absolute'),
    ('train', ['--teacher', STUDENT, '--teacher-checkpoint', 'nosuch.pth'],
     '--teacher-checkpoint: no checkpoint at `nosuch.pth` .looked from /.*write the path'),
    ('train', ['--teacher', STUDENT, '--teacher-checkpoint', 'teacher.pt'],
     r'no checkpoint at `teacher.pt` \(looked from /.*; closest in its folder: teacher.pth\)'),
    ('train', ['--teacher', STUDENT, '--metod', 'kd'],
     r'unrecognized arguments: --metod .closest: --method.*--help'),
    ('train', ['--teacher', STUDENT, '--assistant', 'nosuch.py'], 'no config `nosuch.py`'),
    ('train', ['--resume', 'nosuch.pth'], '--resume: no checkpoint at `nosuch.pth`'),
    ('train', ['--resume', 'teacher.pth', '--generations', '2'],
     '--resume CHECKPOINT cannot be combined with --generations'),
    ('train', ['--cfg-options', 'a'], '--cfg-options must have values as key=value, but got `a`'),
    ('train', ['--cfg-options', 'load_from=nosuch.pth'], '`load_from` of the config: no check'),
    ('train', ['--cfg-options', 'model.type=RetinaNett'],
     'no type `RetinaNett` is registered as a model of mmdet .closest: `RetinaNet`.*custom'),
    ('train', ['--cfg-options', 'model.backbone.dpeth=3'],
     "unexpected keyword argument 'dpeth'; check the arguments of this type"),
    ('train', ['--cfg-options', 'train_cfg.max_epoch=4'],
     '`train_cfg`: EpochBasedTrainLoop has no argument `max_epoch` .closest: `max_epochs`.*write'),
    ('test', ['nosuch.pth'], 'no checkpoint at `nosuch.pth`'),
    ('inspect_pair', ['teacher.pth'], '`teacher.pth` is not a config'),
    ('inspect_pair', [STUDENT, '--teacher-checkpoint', 'nosuch.pth'], 'no checkpoint at `nosuch'),
    ('publish_student', ['nosuch.pth'], 'no checkpoint at `nosuch.pth`'),
    ('cache_teacher', [], r"has no mmkd.CachedTeacher; write teacher=dict\(type='mmkd.Cached"),
    ('compare', [], 'no teacher.py in mmdet::retinanet'),
    ('boost', ['--student', 'nosuch.py'], 'no config `nosuch.py`'),
    ('benchmark', ['--student', STUDENT], 'give distillation configs, or --student and --teacher'),
])
def test_mistakes_of_a_command_line(refuse, tmp_path, tool, arguments, says):
    (tmp_path / 'broken.py').write_text('x = 1\nmodel = dict(\n')
    (tmp_path / 'child.py').write_text("_base_ = './broken.py'\n")
    (tmp_path / 'name.py').write_text('x = 1\n\ny = zz + 1\n')
    (tmp_path / 'orphan.py').write_text("_base_ = './nosuch.py'\n")
    (tmp_path / 'import.py').write_text(
        "custom_imports = dict(imports=['no_such_module'], allow_failed_imports=False)\n")
    (tmp_path / 'teacher.pth').write_bytes(b'weights')
    said = refuse(tool, STUDENT, *arguments)
    assert re.search(says, said, re.DOTALL), said
    assert not list(tmp_path.glob('work_dirs/*/distill.py'))


def test_a_process_ends_with_1_and_debug_shows_the_traceback(tmp_path):
    (tmp_path / 'broken.py').write_text('x = 1\nmodel = dict(\n')
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', os.path.join(TOOLS, 'train.py'), 'broken.py'],
        cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith('train.py: the config `broken.py` cannot be read: ')
    assert 'Traceback' not in result.stderr
    result = run('train.py', 'broken.py', '--debug', cwd=tmp_path, check=False)
    assert result.returncode == 1
    assert 'Traceback' in result.stderr
    assert 'cannot be read' in result.stderr


def test_bugs_keep_their_traceback(command, monkeypatch):
    monkeypatch.setattr('sys.argv', ['train.py'])
    with pytest.raises(ZeroDivisionError):
        command.run(lambda: 1 / 0)


def test_missing_files_are_reported_before_building(
        refuse, shapes, tmp_path, monkeypatch):
    monkeypatch.setattr('mmengine.runner.Runner.from_cfg',
                        lambda config: pytest.fail('a Runner was built'))
    committee = dict(type='mmkd.Committee', members=[
        dict(config=STUDENT), dict(config=STUDENT, checkpoint='nosuch.pth')])
    partner = dict(config=STUDENT, checkpoint='nosuch.pth')
    for number, (teacher, more, says) in enumerate([
            (dict(config=STUDENT, checkpoint='nosuch.pth'), {},
             'no teacher checkpoint at `nosuch.pth`'),
            (dict(config='nosuch.py', checkpoint=None), {}, 'no config `nosuch.py`'),
            (dict(config='mmdet::_base_/models/retinanet_r50_fpn.py'), {},
             'has no published checkpoint; write `checkpoint=`'),
            (dict(config=STUDENT, checkpiont=None), {},
             '`model.teacher` has no argument `checkpiont` (closest: `checkpoint`)'),
            (committee, {}, '`model.teacher.members.1.checkpoint`'),
            (None, dict(companions=dict(other=partner)), '`model.companions.other.checkpoint`')]):
        model = dict(distiller(retinanet(), teacher), **more)
        detector_config(shapes, model, 'unused').dump(str(tmp_path / f'{number}.py'))
        assert says in refuse('train', f'{number}.py')


def test_random_weights_when_asked_for(shapes, tmp_path):
    for name, width in (('small.py', 8), ('big.py', 12)):
        config = detector_config(shapes, retinanet(width=width), 'unused', **{
            'train_cfg.val_interval': 10})
        config.pop('work_dir')
        config.dump(str(tmp_path / name))
    out = run('train.py', 'small.py', '--teacher', 'big.py', '--teacher-checkpoint', 'none',
              cwd=tmp_path)
    folder = tmp_path / 'work_dirs' / 'small_dist'
    assert Config.fromfile(str(folder / 'distill.py')).model.teacher.checkpoint is None
    assert 'random weights' in out.stdout + out.stderr
    assert (folder / 'epoch_1.pth').is_file()


@pytest.mark.slow
def test_only_the_first_process_prints(shapes, tmp_path):
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet(classes=4), classes='abcd')
    config = detector_config(shapes, distiller(retinanet(), teacher), 'unused')
    config.dump(str(tmp_path / 'config.py'))
    done = subprocess.run(
        ['bash', os.path.join(TOOLS, 'dist_train.sh'), 'config.py', '2', '--work-dir', 'two'],
        cwd=tmp_path, text=True, capture_output=True,
        env=dict(os.environ, PORT=str(20000 + os.getpid() % 10000), PATH=(
            os.path.dirname(sys.executable) + os.pathsep + os.environ['PATH'])))
    assert done.returncode != 0
    assert 'Traceback' not in done.stderr
    assert done.stderr.count("the teacher lacks 3 of the student's classes") == 1


def test_why_another_tool_has_ended(command):
    log = 'mmengine - INFO\nTraceback\n  File\nValueError: broken\n'
    assert command.last_words(log) == 'ValueError: broken'
    log = 'mmengine - INFO\ntrain.py: no config `x`\n(--debug shows the traceback)\n'
    assert command.last_words(log) == 'train.py: no config `x`\n(--debug shows the traceback)'


@pytest.mark.parametrize(('teacher', 'options', 'message'), [
    ('timm:vit', [], 'does not download the weights of --teacher timm:vit; write --teacher-check'),
    ('transformers:/no/dino', [], '--teacher transformers:/no/dino: no folder `/no/dino` .looked '
     'from .*; write the folder of a model, with its config.json'),
    ('transformers:without_weights', [], 'without_weights has no model.safetensors and no '
     'pytorch_model.bin; write --teacher-checkpoint FILE'),
    ('timm:vit', ['--teacher-checkpoint', 'none', '--classes', 'c.json'],
     '--classes c.json, but --teacher timm:vit has only features and no classes; leave out '
     '--classes'),
    ('teacher.py', ['--classes', 'c.json'], '`--classes`: no file at `c.json` .looked from'),
    ('teacher.py', ['--classes', 'RBC=cell'], '--classes must be a .json, .yaml, .yml, .py file '
     'with a mapping of classes, but got `RBC=cell`; write a file')])
def test_wrong_teacher_and_class_options(tmp_path, monkeypatch, teacher, options, message):
    monkeypatch.syspath_prepend(TOOLS)
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'without_weights').mkdir()
    common = importlib.import_module('common')
    given = dict(zip(options[::2], options[1::2]))

    def read():
        common.check_classes(teacher, given.get('--classes'))
        common.read_teacher(teacher, given.get('--teacher-checkpoint'))

    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read()


def test_interrupted_tool_names_the_resume_option(command, monkeypatch, capsys):
    def main():
        raise KeyboardInterrupt

    monkeypatch.setattr('sys.argv', ['train.py'])
    with pytest.raises(SystemExit) as stopped:
        command.run(main, 'run it with --resume')
    assert stopped.value.code == 130
    assert capsys.readouterr().err == '\ntrain.py: interrupted; run it with --resume\n'
    monkeypatch.setenv('RANK', '1')  # only the first process prints
    with pytest.raises(SystemExit):
        command.run(main, 'run it with --resume')
    assert capsys.readouterr().err == ''
    monkeypatch.setattr('sys.argv', ['train.py', '--debug'])
    with pytest.raises(KeyboardInterrupt):
        command.run(main)
