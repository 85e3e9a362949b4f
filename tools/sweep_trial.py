"""How is one trial of tools/sweep.py trained, watched and stopped?"""
import ctypes
import glob
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from chain import ENVIRONMENT, TRAIN_TOOL
from command import last_words

from mmkd.reports.runs import read_logs
from mmkd.worth.scores import deciding

POLL = 0.5
"""Seconds between two looks at the log of a trial."""
PATIENCE = 20.
"""Seconds in which a process that is told to stop must end."""
DONE, CUT, LATE, FAILED = 'finished', 'cut', 'interrupted', 'failed'
TOOLS = os.path.dirname(TRAIN_TOOL)
LIBRARY = ctypes.CDLL(None) if sys.platform.startswith('linux') else None
PARENT_DEATH = 1
"""PR_SET_PDEATHSIG of Linux."""
Curve = List[Tuple[int, float]]
"""Scores by epoch or iteration."""


class Outcome(NamedTuple):
    """How a trial ended."""
    state: str
    """:data:`DONE`, :data:`CUT` by the pruner, :data:`LATE` at the end of the budget, or
    :data:`FAILED`."""
    seconds: float
    """Of this process."""
    why: str = ''
    """The error of a failed trial."""


def run_trial(config: str, folder: str, is_over: Callable[[float], bool],
              is_bad: Callable[[Curve], bool], options: Sequence[str] = ()) -> Outcome:
    """Train a config by tools/train.py, or go on with it, until it ends or is stopped.

    Args:
        config (str): Path of the config.
        folder (str): Its work dir.
        is_over (Callable): Whether the budget is used up, by the seconds of this trial.
        is_bad (Callable): Whether the trial is cut; called after each validation with the scores
            so far.
        options (Sequence[str]): Further options of the tool. Defaults to ().
    """
    curve: Curve = []
    state = DONE

    def is_stopped(seconds: float, has_ended: bool) -> bool:
        nonlocal state
        found = curve_of(folder)
        is_new = len(found) > len(curve)
        curve[:] = found
        if is_new and is_bad(curve):
            state = CUT
        elif not has_ended and is_over(seconds):
            state = LATE
        return state != DONE

    log_path = os.path.join(folder, 'train.log')
    code, seconds = watched([TRAIN_TOOL, config, '--work-dir', folder, '--resume', *options],
                            log_path, is_stopped)
    if code is None:
        return Outcome(state, seconds)
    if code:
        with open(log_path, errors='replace') as log:
            return Outcome(FAILED, seconds, last_words(log.read()))
    if not curve:
        return Outcome(FAILED, seconds, 'no validation had a score: nothing was detected, or '
                                        '`val_interval` is longer than the schedule')
    return Outcome(DONE, seconds)


def watched(words: Sequence[str], log_path: str, is_stopped: Callable[[float, bool], bool]
            ) -> Tuple[Optional[int], float]:
    """Run a tool in a process of its own until it ends or is stopped.

    The process ends with this one, also if this one is killed.

    Args:
        words (Sequence[str]): Path of the tool, and its arguments.
        log_path (str): Path of a file to which its output is appended.
        is_stopped (Callable): Whether to stop it; called twice a second, and once after its end,
            with the seconds so far and whether it has ended.

    Returns:
        tuple[int | None, float]: The exit code, None if it was stopped, and the seconds.
    """
    start = time.monotonic()
    os.makedirs(os.path.dirname(log_path), exist_ok=True)
    with open(log_path, 'a') as log:
        process = subprocess.Popen(
            [sys.executable, '-W', 'ignore', *words], stdout=log, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, env=dict(os.environ, **ENVIRONMENT),
            preexec_fn=end_with_parent)
        try:
            while True:
                code = process.poll()
                looked = time.monotonic()
                is_late = is_stopped(looked - start, code is not None)
                now = time.monotonic()
                if code is not None:
                    return code, now - start
                if is_late:
                    return None, now - start
                # A long log takes time to read.
                time.sleep(max(POLL, 20 * (now - looked)))
        finally:
            stop(process)


def end_with_parent() -> None:
    """On Linux, ask the kernel to end this process when its parent ends."""
    if LIBRARY is not None:
        LIBRARY.prctl(PARENT_DEATH, signal.SIGKILL)


def stop(process: Any) -> None:
    """End a process of this one, if it still runs."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def curve_of(folder: str) -> Curve:
    """Scores of a run that is going on, or has ended, by the metric that decides."""
    run = read_logs(folder)
    return [(int(step), score) for step, score in run.scores(run.metric)] if run.metric else []


def seconds_of(folder: str) -> Optional[float]:
    """Median of the seconds per iteration of a run."""
    return read_logs(folder).seconds


def remove_checkpoints(folder: str) -> None:
    """Remove the checkpoints of a trial that is not needed any more."""
    for path in glob.glob(os.path.join(folder, '*.pth')):
        os.remove(path)


def fill(config: str, folder: str, is_over: Callable[[float], bool]) -> Outcome:
    """Store the teacher's outputs for all images, until they are complete or the budget is used up.

    Args:
        config (str): Path of the config.
        folder (str): Folder for the log.
        is_over (Callable): Whether the budget is used up, by the seconds of this process.

    Raises:
        ValueError: If tools/cache_teacher.py fails.
    """
    return tool(['cache_teacher.py', config], folder,
                'the outputs of the teacher could not be stored', is_over)


def score_again(config: str, checkpoint: str, folder: str) -> Dict[str, float]:
    """The scores of a checkpoint on the test data of a config.

    Raises:
        ValueError: If tools/test.py fails.
    """
    tool(['test.py', config, checkpoint], folder, f'{checkpoint} could not be tested')
    newest = max(glob.glob(os.path.join(folder, '*', '*.json')), key=os.path.getmtime)
    with open(newest) as file:
        found = json.load(file)
    return {key: value for key, value in found.items() if isinstance(value, (int, float))}


def main_score(scores: Dict[str, float]) -> float:
    """The score that decides, of several by name."""
    return scores[deciding(list(scores))]


def tool(words: Sequence[str], folder: str, failure: str,
         is_over: Callable[[float], bool] = lambda seconds: False) -> Outcome:
    """Run a tool until it ends or the budget is used up; its output goes to a log."""
    path = os.path.join(folder, f'{words[0].removesuffix(".py")}.log')
    code, seconds = watched(
        [os.path.join(TOOLS, words[0]), *words[1:], '--work-dir', folder], path,
        lambda seconds, has_ended: not has_ended and is_over(seconds))
    if code:
        with open(path, errors='replace') as log:
            raise ValueError(f'{failure}; the log is {path}:\n{last_words(log.read())}')
    return Outcome(LATE if code is None else DONE, seconds)
