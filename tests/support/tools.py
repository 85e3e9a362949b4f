"""Run a command-line tool or a benchmark in its own process.

A new Python process needs five seconds to import torch, mmdet and mmseg. Here, a server imports
them once and forks for every run. It does not import mmkd, because that import is also tested.
"""
import atexit
import gc
import os
import runpy
import signal
import sys
import tempfile
import traceback
from multiprocessing import get_context
from subprocess import CompletedProcess
from typing import Any, Dict, List, Mapping, Optional

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOLS, BENCHMARKS = (os.path.join(ROOT, folder) for folder in ('tools', 'benchmarks'))
READ_ONCE = ['torch', 'mmengine.runner', 'mmdet.apis', 'mmseg.apis']


def run_tool(tool: str, *args: Any, cwd: Any, check: bool = True,
             env: Optional[Mapping[str, str]] = None) -> CompletedProcess:
    """Run ``python TOOL ARGS`` as ``subprocess.run`` does; return its output as text.

    Args:
        tool (str): Name of a tool of mmkd, or path of a script.
        *args: Its arguments.
        cwd (str | Path): The working directory.
        check (bool): Whether a failure raises an error. Defaults to True.
        env (Mapping[str, str], optional): Environment variables in addition to the current ones.
    """
    context = get_context('forkserver')
    context.set_forkserver_preload(READ_ONCE)
    command = [os.path.join(TOOLS, tool), *map(str, args)]
    with tempfile.TemporaryDirectory() as folder:
        outputs = [os.path.join(folder, name) for name in ('stdout', 'stderr')]
        process = context.Process(target=_work, args=(
            command, str(cwd), {**os.environ, **(env or {})}, outputs))
        process.start()
        process.join(300)
        is_over = process.exitcode is not None
        if not is_over:
            process.kill()
            process.join()
        texts = []
        for path in outputs:
            with open(path, errors='replace') as file:
                texts.append(file.read())
    done = CompletedProcess(command, process.exitcode, *texts)
    assert is_over, f'{command} did not end: {done.stdout[-1000:]}{done.stderr[-2000:]}'
    assert not check or done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return done


def _work(command: List[str], folder: str, env: Dict[str, str], outputs: List[str]) -> None:
    for number, path in enumerate(outputs, 1):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.freeze()  # as in tests/conftest.py
    sys.argv = command
    own = [path for path in sys.path if path.startswith((sys.prefix, sys.base_prefix))]
    sys.path[:] = [os.path.dirname(command[0]),
                   *filter(None, env.get('PYTHONPATH', '').split(os.pathsep)), *own]
    code: Any = 0
    try:
        runpy.run_path(command[0], run_name='__main__')
    except SystemExit as end:
        code = end.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))
