"""Start a tool, and print errors of the user in a few lines; a bug keeps its traceback.

Every tool ends with ``run(main)`` and parses its options with :class:`Parser`.
"""
import argparse
import dis
import os
import re
import runpy
import sys
import time
from difflib import get_close_matches
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Callable, Iterator, NoReturn, Optional, Sequence

TOOLS = os.path.dirname(os.path.abspath(__file__))
KINDS = (ValueError, TypeError, OSError, LookupError, ImportError, FloatingPointError)
"""Errors that mmkd raises for wrong input. Any other error of its code is a bug."""
RANKS = 'RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'
PATIENCE = 30.
"""Seconds that processes other than the first one wait before they print an error. If all have the
same error, the launcher ends them in this time, because the first one has stopped."""
PATIENCE_WHEN_LOST = 10.
"""Seconds before a lost connection is reported. The launcher ends this process in that time, if the
other one is on the same machine, and has printed its own error."""
LOST = re.compile('|'.join((
    'Connection (closed|reset) by peer', 'Broken pipe', 'Timed out (waiting|after)', 'recvBytes',
    'remote process exited', 'failed to recv', 'Socket Timeout')), re.IGNORECASE)
"""What gloo, NCCL and torch's store say if another process does not answer."""
MOST_LINES = 4
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
FLAG = '--debug'


def _folder_of(package: str) -> str:
    spec = find_spec(package)
    return os.path.dirname(spec.origin) + os.sep if spec and spec.origin else os.devnull


OWN = TOOLS + os.sep, _folder_of('mmkd')
"""Folders in which a `raise` reports wrong input."""
LIBRARIES = tuple(map(_folder_of, ('mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain')))


class Parser(argparse.ArgumentParser):
    """Adds ``--debug``, and the examples of the docstring of the tool to its help; an error is one
    line, with the closest option if one is misspelled."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        examples = examples_of(sys._getframe(1).f_globals.get('__doc__') or '')
        if examples and examples.splitlines()[0] not in (kwargs.get('description') or ''):
            kwargs.setdefault('epilog', f'examples:\n{examples}')
        kwargs.setdefault('formatter_class', argparse.RawDescriptionHelpFormatter)
        kwargs.setdefault('prog', program())
        for name in ('description', 'epilog'):
            kwargs[name] = as_typed(kwargs.get(name) or '')
        super().__init__(*args, **kwargs)
        self.add_argument(FLAG, action='store_true',
                          help='show the traceback of an error, too')

    def error(self, message: str) -> NoReturn:
        unknown = re.findall(r'--[\w-]+', message) if 'unrecognized' in message else []
        for word in unknown:
            nearest = get_close_matches(word, list(self._option_string_actions), n=1)
            if nearest:
                message = message.replace(word, f'{word} (closest: {nearest[0]})', 1)
        self.exit(2, f'{self.prog}: {message}; `{self.prog} --help` lists the options\n')


def program() -> str:
    """How the user called this tool: `train.py`, or `python -m mmkd train`."""
    words = sys.orig_argv
    for number in range(1, len(words) - 2):
        if words[number:number + 2] == ['-m', 'mmkd']:
            return f'python -m mmkd {words[number + 2]}'
    return os.path.basename(sys.argv[0])


def as_typed(text: str) -> str:
    """A text about tools, with their names as the user writes them; see :func:`program`."""
    if not program().startswith('python -m mmkd'):
        return text
    from mmkd.__main__ import tools_of
    short = {os.path.basename(path)[:-3]: word for word, path in tools_of(TOOLS).items()}
    return re.sub(r'(?:python )?\btools/(\w+)\.py',
                  lambda found: f'python -m mmkd {short.get(found[1], found[1])}', text)


def examples_of(text: str) -> str:
    """The commands in the docstring of a tool: its indented paragraphs that begin with python."""
    return '\n'.join(part.strip('\n') for part in text.split('\n\n')
                     if part.strip('\n').startswith('    python '))


def run(main: Callable[[], Any], resume: str = '') -> None:
    """Call ``main`` of a tool, and exit with code 1 if it raises an error for wrong input.

    :func:`refusal_of` tells such errors from bugs. With ``--debug`` both show their traceback. If
    several processes fail, the first one prints the message, and all end. If the user interrupts it
    (Ctrl-C), it prints one line and exits with code 130.

    Args:
        main (Callable): The function.
        resume (str): How an interrupted run is continued, for the line. Defaults to '', it cannot
            be continued.
    """
    try:
        main()
    except KeyboardInterrupt:
        if FLAG in sys.argv:
            raise
        sys.stdout.flush()
        if not any(int(os.environ.get(name) or 0) for name in RANKS):
            print(f'\n{interrupted(resume)}', file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except (Exception, SystemExit) as error:
        text, ranks = refusal_of(error), RANKS
        if text is None:
            text, ranks = lost_process(error, resume), ('LOCAL_RANK', )
        if text is None or FLAG in sys.argv:
            raise
        raise SystemExit(as_said(text, error, ranks)) from None


def interrupted(resume: str = '') -> str:
    """The line for an interrupted run."""
    return (f'{program()}: interrupted; '
            f'{resume or "nothing was saved, run it again"}')


def lost_process(error: BaseException, resume: str = '') -> Optional[str]:
    """Message of an error because another process of the run has ended; None for other errors.

    The first process of each machine prints it, because the first one of all may have ended.
    """
    text = ' '.join(str(error).split())
    found = LOST.search(text)
    if not isinstance(error, RuntimeError) or 'RANK' not in os.environ or found is None:
        return None
    begin = text.rfind(' ', 0, found.start()) + 1
    said = text[begin:].partition('. ')[0][:100]
    time.sleep(PATIENCE_WHEN_LOST)
    return (f'process {os.environ["RANK"]} has lost the connection to another process of this run: '
            'that process or its machine has ended, or did not answer within '
            f'`env_cfg.dist_cfg.timeout` ({said}); see what it has printed, and then '
            f'{resume or "run the same command again"}')


def as_said(text: str, error: BaseException, ranks: Sequence[str] = RANKS) -> str:
    """Format the message of an error; waits if another process should print it first.

    Args:
        text (str): The message.
        error (BaseException): The error.
        ranks (Sequence[str]): Variables that are all 0 in the first process. Defaults to that of
            the whole run.
    """
    if any(int(os.environ.get(name) or 0) for name in ranks):
        time.sleep(PATIENCE)
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    if error.__cause__ is not None:
        lines.append(f'({FLAG} shows the traceback)')
    if len(lines) > MOST_LINES:
        left = len(lines) - MOST_LINES + 1
        lines[MOST_LINES - 1:] = [f'... ({left} more lines; {FLAG} shows all)']
    sys.stdout.flush()
    return f'{program()}: ' + as_typed('\n'.join(lines))


def last_words(output: str) -> str:
    """Why another tool failed: its error message, or else its last line of output."""
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    said = [number for number, line in enumerate(lines) if re.match(r'\w+\.py: ', line)]
    return '\n'.join(lines[said[-1]:][:MOST_LINES - 1] if said else lines[-1:])


def refusal_of(error: BaseException) -> Optional[str]:
    """Message of an error for wrong input, without the text that libraries add; None for a bug.

    Errors for wrong input are: those of :data:`KINDS` from a `raise` of this project; those from a
    `raise` of MMEngine, mmcv, mmdet, mmseg or mmpretrain that have a message; an argument that a
    type of the config does not take; a file that cannot be opened. Other errors of Python and
    torch, and failed assertions of this project, are bugs.

    Args:
        error (BaseException): The error that was caught.
    """
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, str) else None
    text, inner = text_of(error), error.__cause__ or error.__context__
    path, is_raise = place_of(error)
    is_own = path.startswith(OWN)
    if inner is not None and path.startswith(LIBRARIES) and text_of(inner) and (
            text.startswith(text_of(inner)) or text.endswith(text_of(inner))):
        # MMEngine raises the error again, and adds a hook or a class to its message.
        return refusal_of(inner)
    if is_own and is_raise and isinstance(error, KINDS):
        return text
    if text.startswith('Caught ') and 'Original Traceback' in text:  # from a data worker
        return _of_worker(text)
    if isinstance(error, ModuleNotFoundError) and (
            str(error.name).partition('.')[0] in ('torch', 'mmengine', 'mmcv')):
        said = _not_installed()
        if said is not None:  # else the package is there, and something else is wrong
            return said
    if isinstance(error, OSError) and error.filename is not None:
        return f'{error.strerror}: {error.filename}; check the paths in the config and the options'
    missing = re.match(r"'ConfigDict' object has no attribute '(\w+)'", text)
    if missing and isinstance(error, AttributeError):
        return f'the config has no `{missing.group(1)}`, which is needed here; add it'
    if path.startswith(LIBRARIES) and is_raise and text:
        home = next(folder for folder in LIBRARIES if path.startswith(folder))
        where = os.path.relpath(path, os.path.dirname(home.rstrip(os.sep)))
        return _unknown_type(error) or f'{text} ({where}, line {_innermost(error).tb_lineno})'
    if isinstance(error, TypeError) and path.endswith(os.path.join('registry',
                                                                   'build_functions.py')):
        return f'{text}; check the arguments of this type in the config'
    return None


def _not_installed() -> Optional[str]:
    """What is missing in this environment, with the commands that install it."""
    requirements = os.path.join(OWN[1], 'core', 'requirements.py')  # mmkd cannot be imported
    try:
        runpy.run_path(requirements)['check_installed']()
    except ImportError as error:
        return str(error)
    return None


def text_of(error: BaseException) -> str:
    """Message of an error; for a KeyError, without the quotes that Python adds."""
    if isinstance(error, KeyError) and len(error.args) == 1:
        return str(error.args[0])
    return str(error)


def place_of(error: BaseException) -> tuple:
    """Path of the file that raised the error, and whether by a `raise` or `assert`."""
    if error.__traceback__ is None:
        return '', False
    trace = _innermost(error)
    code = trace.tb_frame.f_code
    return (os.path.abspath(code.co_filename),
            code.co_code[trace.tb_lasti] == dis.opmap['RAISE_VARARGS'])


def _innermost(error: BaseException) -> TracebackType:
    *_, last = _traces(error)
    return last


def _traces(error: BaseException) -> Iterator[TracebackType]:
    trace = error.__traceback__
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _of_worker(text: str) -> Optional[str]:
    """Message of an error for wrong input from a data worker, given the text of its traceback."""
    frames = re.findall(r'File "(.+?)", line \d+, in .*\n(.*)', text)
    if not frames or not os.path.abspath(frames[-1][0]).startswith(OWN) or not (
            frames[-1][1].strip().startswith('raise ')):
        return None
    said = re.findall(r'^(?:\w+\.)*\w*(?:Error|Exception): (.*)', text, re.MULTILINE)
    return said[-1] if said else None


def _unknown_type(error: BaseException) -> Optional[str]:
    """MMEngine's error for a type that is not registered, in one line, with the closest name."""
    found = re.match(r'(\S+) is not in the (\S+)::(.+?) registry', text_of(error))
    if not found:
        return None
    name, scope, kind = found.groups()
    registry: Any = _innermost(error).tb_frame.f_locals.get('registry')
    known: list = []
    while registry is not None:
        known += registry.module_dict
        registry = registry.parent
    nearest = get_close_matches(name, known, n=1)
    return (f'no type `{name}` is registered as a {kind} of {scope}' +
            (f' (closest: `{nearest[0]}`)' if nearest else '') +
            '; check `type` in the config, and for a type of your own, `custom_imports`')


def _hook(kind: Any, error: BaseException, trace: Any) -> None:
    if isinstance(error, KeyboardInterrupt) and FLAG not in sys.argv:
        print(f'\n{interrupted()}', file=sys.stderr)
        return
    text = refusal_of(error)
    if text is None or FLAG in sys.argv:
        sys.__excepthook__(kind, error, trace)
    else:
        print(as_said(text, error), file=sys.stderr)


if os.path.dirname(os.path.abspath(sys.argv[0])) == TOOLS:
    sys.excepthook = _hook  # for errors while a tool is imported
