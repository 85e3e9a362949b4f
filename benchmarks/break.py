"""Inject a random fault into a small training run at a random moment, and check mmkd's guarantees.

    python benchmarks/break.py                        # 100 rounds, about half an hour on 2 cores
    python benchmarks/break.py --rounds 10 --seed 3
    python benchmarks/break.py --only flip truncate

Each round trains a small distilled RetinaNet on handwritten digits for three epochs with one of the
faults below, resumes, and checks:

- at most the last interval is lost: the run ends, at once or after it was resumed, with weights,
  optimizer and schedules bitwise equal to those of an undisturbed run; or
- there is an error: exit code 1, one to four lines, no traceback, and no checkpoint has changed;
- no code from a file runs.

A round can be repeated by its seed, which is printed. Exits with 1 if a guarantee is violated.
"""
import json
import os
import pickle
import random
import re
import resource
import runpy
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from itertools import count
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

import tools_on_path
import torch
from command import Parser, run
from kill_and_resume import COMPARED, differences
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, DefaultScope

import mmkd
from mmkd.files.archive import hash_of_file
from mmkd.files.latest import RUN, latest_whole
from mmkd.files.reading import read_file

TOOLS = tools_on_path.TOOLS
CONFIGS = os.path.join(os.path.dirname(TOOLS), 'configs', 'digits')
EPOCHS = 3

STUDENT = """
_base_ = ['{configs}/student.py']
model = dict(backbone=dict(base_channels={width}),
             neck=dict(in_channels=[{width}, 2 * {width}, 4 * {width}, 8 * {width}],
                       out_channels={channels}),
             bbox_head=dict(in_channels={channels}, feat_channels={channels}))
data_root = '{data}/'
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False,
                        dataset=dict(data_root=data_root))
val_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False,
                      dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs={epochs}, val_interval=1)
param_scheduler = [dict(type='MultiStepLR', milestones=[2], by_epoch=True)]
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=2))
randomness = dict(seed=0)
"""

DISTILL = """
_base_ = ['./student.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)
model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(config='{{{{ fileDirname }}}}/{config}',
                 checkpoint='{{{{ fileDirname }}}}/teacher.pth'{cache}),
    distill=[dict(type='mmkd.DISTLoss', on='cls', loss_weight={weight}),
             dict(type='mmkd.MSELoss', on='neck', connector='conv')],
    hooks=[dict(type='mmkd.ReseedHook')])
"""


class Broken(AssertionError):
    """A guarantee was violated."""


class Result(NamedTuple):
    """How a run ended."""
    code: int
    """Exit code, or the negative number of the signal that ended the run."""
    output: str

    @property
    def words(self) -> List[str]:
        """The last lines of the output: the error message."""
        lines = [line for line in self.output.splitlines() if line.strip()]
        begins = [n for n, line in enumerate(lines) if line.startswith('train.py: ')]
        return lines[begins[-1] if begins else 0:]


class Round:
    """One run in its own folder.

    Args:
        folder (str): The folder.
        data (str): The data set.
        teacher (str): Checkpoint of a teacher; it is copied.
        seed (int): Seed of the round.
        cached (bool): Whether the outputs of the teacher are cached. Defaults to False.
    """

    def __init__(self, folder: str, data: str, teacher: str, seed: int,
                 cached: bool = False) -> None:
        self.folder, self.data, self.random = folder, data, random.Random(seed)
        os.makedirs(folder)
        self.teacher = os.path.join(folder, 'teacher.pth')
        shutil.copy(teacher, self.teacher)
        self.work_dir = os.path.join(folder, 'run')
        self.cached = cached
        self.sentinel = os.path.join(folder, 'code_ran')
        self.write('teacher.py', student_text(data, width=8, channels=24))
        self.write('student.py', student_text(data))
        self.edit()

    def write(self, name: str, text: str) -> None:
        with open(os.path.join(self.folder, name), 'w') as file:
            file.write(text)

    def edit(self, weight: float = 1., config: str = 'teacher.py') -> None:
        """Write the distillation config."""
        cache = (f", type='mmkd.CachedTeacher', cache='{self.folder}/cache'"
                 if self.cached else '')
        self.write('distill.py', DISTILL.format(weight=weight, config=config, cache=cache))

    def start(self, *options: str, before: Optional[Callable[[], None]] = None) -> int:
        """Start a run in a child process; return the process id."""
        command = ['train.py', os.path.join(self.folder, 'distill.py'), '--work-dir',
                   self.work_dir, *options]
        process = os.fork()
        if process:
            return process
        code = 70
        try:
            os.setsid()
            log = os.open(self.log_of(os.getpid()), os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            if before is not None:
                before()
            sys.argv, sys.path[0] = command, TOOLS
            runpy.run_path(os.path.join(TOOLS, 'train.py'), run_name='__main__')
            code = 0
        except SystemExit as end:
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
            code = 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def log_of(self, process: int) -> str:
        return os.path.join(self.folder, f'{process}.log')

    def end_of(self, process: int, seconds: float = 120) -> Result:
        """Wait for a run.

        Raises:
            Broken: If it does not end.
        """
        for _ in range(int(seconds * 20)):
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                with open(self.log_of(process), errors='replace') as file:
                    return Result(os.waitstatus_to_exitcode(status), file.read())
            time.sleep(0.05)
        os.killpg(process, signal.SIGKILL)
        os.waitpid(process, 0)
        raise Broken(f'the run did not end within {seconds} s')

    def run(self, *options: str, before: Optional[Callable[[], None]] = None) -> Result:
        """Run a training to its end."""
        return self.end_of(self.start(*options, before=before))

    def event(self) -> int:
        """A random event of the undisturbed run."""
        return self.random.randrange(1, len(EVENTS))

    def cut_off(self) -> None:
        """Train, and kill the run after its first checkpoint."""
        self.run(before=lambda: at_event(self.random.randrange(
            len(EVENTS) // 2, len(EVENTS)), lambda: os.kill(os.getpid(), signal.SIGKILL)))

    def newest(self) -> str:
        """Return the path of the newest checkpoint."""
        path = latest_whole(self.work_dir)
        if path is None:
            raise Broken('no checkpoint survived')
        return path

    def files(self) -> Dict[str, str]:
        """Return the SHA-256 of every checkpoint, by name."""
        return {name: hash_of_file(os.path.join(self.work_dir, name))
                for name in sorted(os.listdir(self.work_dir)) if name.endswith('.pth')}


EVENTS: List[str] = []
"""Names of the events of the undisturbed run, in order."""
REFERENCE: Dict[str, Any] = {}
"""Content of its last checkpoint."""


def student_text(data: str, width: int = 4, channels: int = 16) -> str:
    return STUDENT.format(configs=CONFIGS, data=data, width=width, channels=channels,
                          epochs=EPOCHS)


def on_events(act: Callable[[int, str], None]) -> None:
    """Make the next run call a function at each event, with its number and name."""
    from mmdet.models import BaseDetector
    numbers = count(1)

    def counted(name: str, call: Callable) -> Callable:
        def counting(*args: Any, **kwargs: Any) -> Any:
            act(next(numbers), name)
            return call(*args, **kwargs)

        return counting

    for owner, name in ((torch, 'save'), (os, 'replace'), (os, 'remove'),
                        (mmkd.Distiller, 'train_step'), (BaseDetector, 'val_step')):
        setattr(owner, name, counted(name, getattr(owner, name)))


def at_event(number: int, act: Callable[[], Any]) -> None:
    """Make the next run call a function at the event with this number, counted from 1."""
    on_events(lambda n, name: act() if n == number else None)


# --- guarantees ---------------------------------------------------------------------------------


def check(holds: bool, problem: str, result: Optional[Result] = None) -> None:
    """Raise :class:`Broken` unless something holds."""
    if not holds:
        end = '' if result is None else '\n' + '\n'.join(result.output.splitlines()[-15:])
        raise Broken(problem + end)


def ends_as_if_alone(round: Round, result: Result) -> None:
    """Check that the run ended with the last checkpoint of the reference run."""
    check(result.code == 0, f'exit code {result.code}', result)
    path = os.path.join(round.work_dir, f'epoch_{EPOCHS}.pth')
    check(os.path.isfile(path), 'the last checkpoint is missing', result)
    saved = read_file(path, False, '')
    found = differences({key: saved.get(key) for key in COMPARED}, REFERENCE)
    check(not found, f'the last checkpoint differs from that of a run left alone at {found[:4]}',
          result)


def is_refused(round: Round, result: Result, *words: str) -> None:
    """Check that the run failed with an error of one to four lines that contain these words."""
    check(result.code == 1, f'exit code {result.code}, not 1', result)
    check('Traceback' not in result.output, 'a traceback', result)
    said = '\n'.join(result.words)
    check(1 <= len(result.words) <= 4, f'{len(result.words)} lines', result)
    for word in words:
        check(re.search(word, said) is not None, f'the message does not say `{word}`: {said}')
    check(not os.path.exists(round.sentinel), 'code from a file ran')


# --- faults -------------------------------------------------------------------------------------


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path, )


def kill(round: Round) -> None:
    """The run is killed at a random moment three times, and resumed."""
    for _ in range(3):
        moment, delay = round.event(), round.random.uniform(0, 0.02)

        def soon(delay: float = delay) -> None:
            signal.setitimer(signal.ITIMER_REAL, max(delay, 1e-6))  # ends the process

        round.run('--resume', before=lambda m=moment, s=soon: at_event(m, s))  # type: ignore
    ends_as_if_alone(round, round.run('--resume'))


def full_disk(round: Round) -> None:
    """The size limit of files is smaller than a checkpoint."""
    round.cut_off()
    size = os.path.getsize(round.newest())
    limit = round.random.randrange(size // 8, size - 1)

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    before = round.files()
    result = round.run('--resume', before=limited)
    if result.code:  # otherwise the run ended before the fault
        is_refused(round, result, r'\.pth', 'free|space|limit|large')
        after = round.files()
        check(all(after.get(name) == digest for name, digest in before.items()),
              'a checkpoint was lost', result)
    ends_as_if_alone(round, round.run('--resume'))


def flip(round: Round) -> None:
    """A bit of the newest checkpoint flips."""
    round.cut_off()
    path = round.newest()
    with open(path, 'r+b') as file:
        place = round.random.randrange(os.path.getsize(path))
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1 << round.random.randrange(8)]))
    result = round.run('--resume')
    ends_as_if_alone(round, result)


def truncate(round: Round) -> None:
    """The newest checkpoint is cut short."""
    round.cut_off()
    path = round.newest()
    os.truncate(path, round.random.randrange(os.path.getsize(path)))
    ends_as_if_alone(round, round.run('--resume'))


def _spoil(round: Round, path: str) -> str:
    """Remove, cut short or replace a file."""
    how = round.random.choice(['remove', 'cut', 'replace'])
    if how == 'remove':
        os.remove(path)
    elif how == 'cut':
        os.truncate(path, round.random.randrange(os.path.getsize(path)))
    else:
        with open(path, 'wb') as file:
            file.write(b'something else')
    return how


def teacher_changes_meanwhile(round: Round) -> None:
    """The teacher's files are removed, truncated or replaced during the run."""
    digest = hash_of_file(round.teacher)
    path = round.random.choice([round.teacher, os.path.join(round.folder, 'teacher.py')])
    first = EVENTS.index('train_step') + 1  # the teacher is built before the first step
    moment = round.random.randrange(first, len(EVENTS))
    result = round.run(before=lambda: at_event(moment, lambda: _spoil(round, path)))
    ends_as_if_alone(round, result)
    recorded = json.dumps(read_file(round.newest(), False, '')['meta']['mmkd'], default=str)
    check(digest in recorded, 'the hash of the teacher that taught is not recorded')


def teacher_changes_before_resume(round: Round) -> None:
    """The teacher's file is replaced by another one before the run is resumed."""
    round.cut_off()
    saved = torch.load(round.teacher, weights_only=True)
    saved['state_dict'] = {name: tensor * 1.5 if tensor.is_floating_point() else tensor
                           for name, tensor in saved['state_dict'].items()}
    torch.save(saved, round.teacher)
    result = round.run('--resume')
    check(result.code == 0, f'exit code {result.code}', result)
    check(re.search(r'teacher.*(hash|SHA|other|differ)', result.output) is not None or
          _is_over(round, result), 'not a word about the other teacher', result)


def distill_is_edited(round: Round) -> None:
    """`loss_weight` is changed before the run is resumed."""
    round.cut_off()
    round.edit(weight=200.)
    result = round.run('--resume')
    check(result.code == 0, f'exit code {result.code}', result)
    check('loss_weight' in result.output.split('Distiller')[-1] or '200' in result.output,
          'not a word about the other weight', result)
    check(re.search(r'loss_weight.*200', result.output) is not None,
          'not a word about the other weight', result)


def student_is_edited(round: Round) -> None:
    """The student's width is changed before the run is resumed."""
    round.cut_off()
    round.write('student.py', student_text(round.data, width=8))
    before = round.files()
    is_refused(round, round.run('--resume'), 'backbone')
    check(round.files() == before, 'a checkpoint has changed')


def hostile_checkpoint(round: Round) -> None:
    """The newest checkpoint is a pickle that runs code."""
    round.cut_off()
    path = round.newest()
    if round.random.random() < 0.5:
        torch.save(dict(state_dict={}, meta=Hostile(round.sentinel)), path)
    else:
        with open(path, 'wb') as file:
            pickle.dump(Hostile(round.sentinel), file)
    result = round.run('--resume')
    check(not os.path.exists(round.sentinel), 'code from a file ran', result)
    if result.code:
        is_refused(round, result, 'epoch_')
    else:
        ends_as_if_alone(round, result)


def hostile_teacher(round: Round) -> None:
    """The teacher's checkpoint or config is a file that runs code."""
    if round.random.random() < 0.5:
        torch.save(dict(state_dict={}, meta=Hostile(round.sentinel)), round.teacher)
        is_refused(round, round.run(), 'teacher.pth')
    else:
        round.write('teacher.yml', 'model: !!python/object/apply:os.mkdir '
                                   f'["{round.sentinel}"]\n')
        round.edit(config='teacher.yml')
        is_refused(round, round.run(), 'teacher.yml')


def second_writer(round: Round) -> None:
    """A second run starts in the work dir of a running one that is paused at a random moment."""
    moment = round.random.randrange(EVENTS.index('train_step') + 1, len(EVENTS))
    first = round.start(before=lambda: at_event(
        moment, lambda: os.kill(os.getpid(), signal.SIGSTOP)))
    while not os.waitpid(first, os.WUNTRACED | os.WNOHANG)[0]:
        time.sleep(0.05)
    before = round.files()
    second = round.run(*round.random.choice([(), ('--resume', )]))
    check(round.files() == before, 'the second run has changed a checkpoint', second)
    is_refused(round, second, str(first))
    os.kill(first, signal.SIGCONT)
    ends_as_if_alone(round, round.end_of(first))


def wrong_type(round: Round) -> None:
    """Values of the newest checkpoint have the wrong type."""
    round.cut_off()
    path = round.newest()
    saved = read_file(path, False, '')
    kind = round.random.choice(['epoch', 'weights', 'hub'])
    if kind == 'epoch':
        saved['meta']['epoch'] = round.random.choice(['3', None, 10**6, -1])
    elif kind == 'hub':
        saved['message_hub'] = round.random.choice([None, 7, [1], dict(log_scalars=3)])
    else:
        saved['state_dict'] = {name: tensor.int() for name, tensor in saved['state_dict'].items()}
    torch.save(saved, path)
    for name in os.listdir(round.work_dir):  # so that no earlier checkpoint can be chosen
        if name.endswith('.pth') and name != os.path.basename(path):
            os.remove(os.path.join(round.work_dir, name))
    is_refused(round, round.run('--resume', path), 'epoch_')


def another_run(round: Round) -> None:
    """The work dir holds a checkpoint of another run, with a higher number."""
    round.cut_off()
    saved = read_file(round.newest(), False, '')
    saved['meta'].update(epoch=9, iter=27, seed=5, experiment_name='another_20200101_000000',
                         time='20200101_000000')
    del saved['meta'][RUN]  # as MMEngine's own hook saves it
    if round.random.random() < 0.5:
        saved['meta'][RUN] = dict(started=1577836800.)
    saved['state_dict'] = {name: tensor * 0.9 if tensor.is_floating_point() else tensor
                           for name, tensor in saved['state_dict'].items()}
    path = os.path.join(round.work_dir, 'epoch_9.pth')
    torch.save(saved, path)
    os.utime(path, (1577836800, 1577836800))
    result = round.run('--resume')
    check('epoch_9.pth' in result.output, 'not a word about the other run', result)
    ends_as_if_alone(round, result)


def diverged(round: Round) -> None:
    """The newest checkpoint has NaN weights."""
    round.cut_off()
    path = round.newest()
    saved = read_file(path, False, '')
    name = round.random.choice([name for name, tensor in saved['state_dict'].items()
                                if tensor.is_floating_point() and 'weight' in name])
    saved['state_dict'][name].view(-1)[0] = round.random.choice([float('nan'), float('inf')])
    torch.save(saved, path)
    ends_as_if_alone(round, round.run('--resume'))


def overlapping_zip(round: Round) -> None:
    """The directory of the teacher's zip claims more bytes than the file has."""
    with zipfile.ZipFile(round.teacher) as file:
        parts = {info.filename: file.read(info) for info in file.infolist()}
    with zipfile.ZipFile(round.teacher, 'w', zipfile.ZIP_STORED) as file:
        for name, content in parts.items():
            file.writestr(name, content)
        body = max(file.infolist(), key=lambda info: info.file_size)
        for number in range(2000):
            twin = zipfile.ZipInfo(f'{body.filename}{number}')
            twin.header_offset, twin.CRC = body.header_offset, body.CRC
            twin.file_size = twin.compress_size = body.file_size
            file.filelist.append(twin)
            file.NameToInfo[twin.filename] = twin
        file._didModify = True  # type: ignore[attr-defined]
    is_refused(round, round.run(), 'teacher.pth')


def note_is_wrong(round: Round) -> None:
    """`last_checkpoint` is missing, or names a file that does not exist."""
    round.cut_off()
    path = os.path.join(round.work_dir, 'last_checkpoint')
    if round.random.random() < 0.5:
        os.remove(path)
    else:
        with open(path, 'w') as file:
            file.write(round.random.choice(['', '/nowhere/epoch_2.pth', '\0\0', 'epoch_7.pth']))
    ends_as_if_alone(round, round.run('--resume'))


def cache_is_removed(round: Round) -> None:
    """The folder of the teacher's cached outputs is removed during the run."""
    moment = round.event()
    result = round.run(before=lambda: at_event(
        moment, lambda: shutil.rmtree(os.path.join(round.folder, 'cache'), ignore_errors=True)))
    if result.code:
        is_refused(round, result, 'cache')
        result = round.run('--resume')
    check(result.code == 0, f'exit code {result.code}', result)


def cache_is_damaged(round: Round) -> None:
    """A file of the teacher's cached outputs has flipped bytes, or is truncated."""
    check(round.run().code == 0, 'the first run failed')
    folder = os.path.join(round.folder, 'cache')
    files = [os.path.join(where, name) for where, _, names in os.walk(folder) for name in names]
    for _ in range(round.random.choice([1, 4, 40])):
        path = round.random.choice(files)
        size = os.path.getsize(path)
        if not size:
            continue
        with open(path, 'r+b') as file:
            file.seek(round.random.choice([round.random.randrange(size),
                                           round.random.randrange(min(size, 16384))]))
            file.write(bytes([round.random.randrange(256)]))
    shutil.rmtree(round.work_dir)
    result = round.run()
    check(result.code >= 0, f'the process died by signal {-result.code}', result)
    if result.code:
        is_refused(round, result, 'cache')


BREAKS: Sequence[Callable[[Round], None]] = (
    kill, full_disk, flip, truncate, teacher_changes_meanwhile, teacher_changes_before_resume,
    distill_is_edited, student_is_edited, hostile_checkpoint, hostile_teacher, second_writer,
    wrong_type, another_run, diverged, overlapping_zip, note_is_wrong, cache_is_removed,
    cache_is_damaged)


def _is_over(round: Round, result: Result) -> bool:
    return 'to continue training' in result.output


# --- all rounds ---------------------------------------------------------------------------------


def in_child(act: Callable[[], None]) -> None:
    """Call a function in another process, so that no logger is left in this one."""
    process = os.fork()
    if not process:
        code = 1
        try:
            act()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    check(os.waitpid(process, 0)[1] == 0, 'data and teacher could not be made')


def make_digits(data: str) -> None:
    sys.argv = ['make_digits.py', data, '--train', '6', '--val', '2', '--size', '64']
    runpy.run_path(os.path.join(TOOLS, 'make_digits.py'), run_name='__main__')


def make_teacher(path: str) -> None:
    """Write a teacher with random weights."""
    config = Config.fromfile(path.replace('.pth', '.py'))
    torch.manual_seed(1)
    MMLogger.get_instance('teacher', log_level='ERROR')
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(config.model)
    model.init_weights()
    torch.save(dict(meta=dict(dataset_meta=dict(classes=tuple('0123456789'))),
                    state_dict=model.state_dict()), path)


def prepared(root: str) -> str:
    """Make the data and a teacher; return the teacher's path."""
    data, teacher = os.path.join(root, 'digits'), os.path.join(root, 'teacher.pth')
    in_child(lambda: make_digits(data))
    with open(teacher.replace('.pth', '.py'), 'w') as file:
        file.write(student_text(data, width=8, channels=24))
    in_child(lambda: make_teacher(teacher))
    return teacher


def reference(root: str, teacher: str) -> None:
    """Train the undisturbed run, and record its events."""
    alone = Round(os.path.join(root, 'alone'), os.path.join(root, 'digits'), teacher, 0)
    note = os.path.join(root, 'events')

    def write(number: int, name: str) -> None:
        with open(note, 'a') as file:
            file.write(f'{name}\n')

    result = alone.run(before=lambda: on_events(write))
    check(result.code == 0, 'the run that is left alone fails', result)
    with open(note) as file:
        EVENTS.extend(file.read().split())
    saved = read_file(os.path.join(alone.work_dir, f'epoch_{EPOCHS}.pth'), False, '')
    REFERENCE.update({key: saved.get(key) for key in COMPARED})


def main() -> None:
    parser = Parser(description='Hurt small runs, and check what mmkd promises')
    parser.add_argument('--rounds', type=int, default=100)
    parser.add_argument('--seed', type=int, default=0, help='of the first round; the others follow')
    names = [one.__name__ for one in BREAKS]
    parser.add_argument('--only', nargs='+', choices=names, default=names, metavar='BREAK',
                        help=f'of {", ".join(names)}')
    parser.add_argument('--keep', help='keep the folders of broken promises here')
    args = parser.parse_args()
    torch.set_num_threads(1)
    breaks = [one for one in BREAKS if one.__name__ in args.only]
    broken = 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as root:
        teacher = prepared(root)
        reference(root, teacher)
        print(f'a run has {len(EVENTS)} events', flush=True)
        for seed in range(args.seed, args.seed + args.rounds):
            hurt = breaks[seed % len(breaks)]
            folder = os.path.join(root, str(seed))
            began = time.monotonic()
            try:
                hurt(Round(folder, os.path.join(root, 'digits'), teacher, seed,
                           cached='cache' in hurt.__name__))
                outcome = 'holds'
            except Broken as error:
                broken += 1
                outcome = f'BROKEN: {error}'
                if args.keep:
                    shutil.copytree(folder, os.path.join(args.keep, str(seed)))
            print(f'{seed}: {hurt.__name__} ({time.monotonic() - began:.0f} s): {outcome}',
                  flush=True)
            shutil.rmtree(folder, ignore_errors=True)
    print(f'{args.rounds} rounds, {broken} broken promises')
    raise SystemExit(bool(broken))


if __name__ == '__main__':
    run(main)
