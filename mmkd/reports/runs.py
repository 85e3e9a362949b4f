"""What does a work dir of MMEngine say of its run?"""
import glob
import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median
from typing import Any, Dict, List, Optional, Tuple

from mmengine.config import Config

from ..core.missing import looked_for
from ..files.archive import hash_of_file
from ..files.checkpoint import read_checkpoint
from ..files.history import KEY
from ..training.shares import SCALAR
from ..worth.scores import deciding
from .class_tables import class_table

NOT_SCORES = {'lr', 'base_lr', 'momentum', 'weight_decay', 'data_time', 'time', 'memory', 'epoch',
              'iter', 'step', 'grad_norm'}
OF_A_TEST = ('. For a teacher that was trained elsewhere, `python -m mmkd test TEACHER.py '
             'TEACHER.pth` makes one')
Points = List[Tuple[float, float]]


@dataclass
class Run:
    """A run, as its logs and its newest checkpoint describe it."""
    folder: str
    name: str
    config: Optional[Config] = None
    config_text: str = ''
    """As MMEngine wrote it."""
    training: List[Dict[str, Any]] = field(default_factory=list)
    """Lines of the log with losses, in order; ``step`` counts iterations."""
    validation: List[Dict[str, Any]] = field(default_factory=list)
    """Lines of the log with scores; ``step`` as in MMEngine: epochs or iterations."""
    measured: Dict[str, Points] = field(default_factory=dict)
    """Shares of gradients over iterations by the name of their scalar, see
    :mod:`mmkd.training.shares`."""
    tested: Dict[str, float] = field(default_factory=dict)
    """Scores of the newest test, for a work dir in which nothing was trained."""
    by_class: Dict[str, Dict[str, float]] = field(default_factory=dict)
    """Figures of the newest evaluation by class, in per cent."""
    checkpoint: str = ''
    record: Dict[str, Any] = field(default_factory=dict)
    """``meta['mmkd']`` of the checkpoint: teachers, terms and versions."""
    versions: Dict[str, str] = field(default_factory=dict)
    notes: List[str] = field(default_factory=list)
    """What could not be read, and why."""

    @property
    def is_distilled(self) -> bool:
        """Whether the run has terms."""
        model = (self.config or {}).get('model') or {}
        return bool(self.record.get('distill') or 'distill' in model)

    @property
    def losses(self) -> List[str]:
        """Names of the losses in the log, the total left out."""
        return list({key: None for line in self.training for key in line
                     if 'loss' in key and key != 'loss'})

    @property
    def terms(self) -> List[str]:
        """Names of the losses of distillation."""
        entries = ((self.config or {}).get('model') or {}).get('distill') or []
        own = [str(one.get('name')) for one in self.record.get('distill', [])] or [
            str(one.get('name') or f'loss_{on_of(one)}_') for one in entries]
        return [name for name in self.losses if any(
            name == one or name.startswith(one if one.endswith('_') else f'{one}_')
            for one in own)]

    def series(self, key: str) -> Points:
        """Values of the training by iteration."""
        return self.measured[key] if key in self.measured else [
            (line['step'], line[key]) for line in self.training
            if isinstance(line.get(key), (int, float))]

    @property
    def metric(self) -> str:
        """The metric that decides; '' without a validation."""
        return deciding(self.metrics)

    @property
    def metrics(self) -> List[str]:
        """Names of the scores of the validation."""
        return list({key: None for line in (*self.validation, self.tested)
                     for key, value in line.items()
                     if key not in NOT_SCORES and isinstance(value, (int, float))})

    def scores(self, metric: str) -> Points:
        """Values of a metric over epochs or iterations."""
        return [(line['step'], line[metric]) for line in self.validation if metric in line]

    def last(self, metric: str) -> Optional[float]:
        """The last value of a metric."""
        points = self.scores(metric)
        return points[-1][1] if points else self.tested.get(metric)

    @cached_property
    def checkpoint_hash(self) -> str:
        """SHA-256 of the checkpoint; '' without one."""
        return hash_of_file(self.checkpoint) if self.checkpoint else ''

    @property
    def seconds(self) -> Optional[float]:
        """Median of the seconds per iteration."""
        return median(line['time'] for line in self.training if 'time' in line) if any(
            'time' in line for line in self.training) else None

    @property
    def memory(self) -> Optional[float]:
        """Peak memory of the GPU in MiB."""
        return max((line['memory'] for line in self.training if 'memory' in line), default=None)

    @property
    def shares(self) -> List[str]:
        """Names of logged shares of gradients."""
        return list(self.measured)


def on_of(entry: Any) -> str:
    """The student's point of an entry of ``distill``."""
    on = entry.get('on', '')
    return str(on if isinstance(on, str) else on.get('student', ''))


def read_run(folder: str, name: str = '') -> Run:
    """Read a work dir. Resumed runs have several logs, which are joined.

    Args:
        folder (str): The work dir, of a training or of a test.
        name (str): Name in the report. Defaults to '', the path.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it has no log of MMEngine.
    """
    if not os.path.isdir(folder):
        raise FileNotFoundError(f'no work dir `{folder}` {looked_for(folder)}; write the '
                                f'folder that --work-dir named, or leave it out{OF_A_TEST}')
    logs = sorted(glob.glob(os.path.join(folder, '*', 'vis_data', 'scalars.json')))
    tests = sorted(glob.glob(os.path.join(folder, '*', '*.json')))
    if not logs and not tests:
        raise ValueError(f'`{folder}` is not a work dir of a run: it has neither the '
                         '*/vis_data/scalars.json of a training nor the */*.json of a test; write '
                         f'the folder that --work-dir named, or leave it out{OF_A_TEST}')
    run = read_logs(folder, name)
    run.config = _config(folder, (logs or tests)[-1], run)
    if not logs:
        with open(tests[-1], encoding='utf-8') as file:
            run.tested = json.load(file)
        _checkpoint_of_test(run)
        return run
    _by_class(run, folder)
    _checkpoint(run)
    return run


def read_logs(folder: str, name: str = '') -> Run:
    """The losses and scores of a run, also of one that is still going on; without its config and
    its checkpoint.

    Args:
        folder (str): The work dir.
        name (str): Name in the report. Defaults to '', the path.
    """
    run = Run(folder, name or os.path.normpath(folder))
    for path in sorted(glob.glob(os.path.join(folder, '*', 'vis_data', 'scalars.json'))):
        _join(run, _lines(path, run))
    return run


def _lines(path: str, run: Run) -> List[Dict[str, Any]]:
    lines = []
    with open(path, encoding='utf-8') as file:
        for number, text in enumerate(file, 1):
            try:
                one = json.loads(text)
            except ValueError:  # the run was killed while it wrote
                run.notes.append(f'line {number} of {path} is not complete and was left out')
                continue
            if isinstance(one, dict) and 'step' in one:
                lines.append(one)
    return lines


def _join(run: Run, lines: List[Dict[str, Any]]) -> None:
    """Add the lines of a log; they replace what an earlier one has from their first step on."""
    training = [one for one in lines if 'loss' in one]
    measured = [one for one in lines if any(key.startswith(SCALAR) for key in one)]
    validation = [one for one in lines if 'loss' not in one and one not in measured and
                  set(one) - NOT_SCORES]
    for old, new in ((run.training, training), (run.validation, validation)):
        if new:
            first = min(one['step'] for one in new)
            old[:] = [one for one in old if one['step'] < first] + new
    # A weight that was measured again from its first step on replaces no share of another term.
    for name in {key: None for one in measured for key in one if key.startswith(SCALAR)}:
        points = [(one['step'], one[name]) for one in measured if name in one]
        run.measured[name] = [one for one in run.measured.get(name, ())
                              if one[0] < points[0][0]] + points


def _config(folder: str, log: str, run: Run) -> Optional[Config]:
    """The config that MMEngine wrote next to the log."""
    for path in (os.path.join(os.path.dirname(log), 'config.py'),
                 *sorted(glob.glob(os.path.join(folder, '*.py')))):
        if os.path.isfile(path):
            try:
                with open(path, encoding='utf-8') as file:
                    run.config_text = file.read()
                return Config.fromfile(path, import_custom_modules=False)
            except Exception as error:
                run.notes.append(f'the config {path} cannot be read: {error}')
    return None


def _by_class(run: Run, folder: str) -> None:
    """Figures by class: of mmdet from the scalars, else from the last table of a log in text."""
    last = run.validation[-1] if run.validation else {}
    for key, value in last.items():
        if key.endswith('_precision'):
            run.by_class[key.rpartition('/')[2].removesuffix('_precision')] = {'AP': 100 * value}
    if run.by_class:
        return
    for path in sorted(glob.glob(os.path.join(folder, '*', '*.log')), reverse=True):
        with open(path, encoding='utf-8', errors='replace') as file:
            found = class_table(file.read())
        if found:
            run.by_class = found
            return


def _checkpoint(run: Run) -> None:
    """The record and the versions in the newest checkpoint."""
    try:
        with open(os.path.join(run.folder, 'last_checkpoint')) as file:
            path = file.read().strip()
    except OSError:
        return
    if not os.path.isfile(path):
        path = os.path.join(run.folder, os.path.basename(path))
    if not os.path.isfile(path):
        run.notes.append(f'the checkpoint {path} does not exist')
        return
    run.checkpoint = path
    try:
        meta = read_checkpoint(path, whose='student').get('meta') or {}
    except Exception as error:
        run.notes.append(f'the checkpoint {path} cannot be read: {error}')
        return
    record = meta.get(KEY)
    run.record = record if isinstance(record, dict) else {}
    run.versions = {
        **{key: str(run.record[key]) for key in ('mmkd', 'torch') if key in run.record},
        **{key.removesuffix('_version'): str(value) for key, value in meta.items()
           if key.endswith('_version') and isinstance(value, str)}}


def _checkpoint_of_test(run: Run) -> None:
    """The file that the config of a test names, if it is still there."""
    path = str((run.config or {}).get('load_from') or '')
    if os.path.isfile(path):
        run.checkpoint = path
    else:
        run.notes.append(f'the checkpoint {path} does not exist')
