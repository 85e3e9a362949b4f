"""Gives the commands of a page to the parsers of their tools, without running them."""
import functools
import inspect
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Set

from mmengine.config import Config
from mmengine.registry import DATASETS, LOOPS

from mmkd.__main__ import path_of, tools_of
from mmkd.files.zoo import config_path
from mmkd.losses.method import methods_of

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = 'python', 'make', 'mim', 'pip', 'git'
STUBS = ''.join(f'{name}() {{ printf "%s\\0" {name} "$@" $\'\\n\' >> "$SAID"; }}\n'
                for name in PROGRAMS) + 'cd() { :; }\nsource() { :; }\n'


def said(block: str, folder: Path) -> List[List[str]]:
    """The words of each command of a block, as the shell gives them to the program.

    Args:
        block (str): Text for a shell.
        folder (Path): The current folder of the shell, an empty one.
    """
    record = folder / 'said'
    record.write_bytes(b'')
    block = re.sub(r'^(\s*(?:[A-Z_]+=\S+ )*)(tools|benchmarks)/', r'\1python \2/', block,
                   flags=re.M)
    done = subprocess.run(['bash', '-eu', '-c', STUBS + 'configs=\n' + block], cwd=folder,
                          env=dict(os.environ, SAID=str(record)), capture_output=True, text=True)
    assert done.returncode == 0, f'{block}\n{done.stderr}'
    found: List[List[str]] = [[]]
    for word in record.read_text().split('\0')[:-1]:
        if word == '\n':
            found.append([])
        else:
            found[-1].append(word)
    return found[:-1]


@functools.cache
def _parser_of(script: str) -> Any:
    for folder in (str((ROOT / script).parent), str(ROOT / 'tools')):
        if folder not in sys.path:
            sys.path.append(folder)
    return runpy.run_path(str(ROOT / script)).get('parse_args')


def wrong(words: List[str]) -> str:
    """What of a command of the repository does not exist; '' if nothing."""
    if words[0] == 'make':
        targets = re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.M)
        return ', '.join(word for word in words[1:] if '=' not in word and word not in targets)
    if words[:1] == ['mim'] and words[1] in ('train', 'test') and words[2] == 'mmkd':
        # mim gives the value of `--checkpoint` as the second argument.
        words = ['python', f'tools/{words[1]}.py', *(
            word for word in words[3:] if word != '--checkpoint')]
    if words[0] != 'python' or len(words) < 2:
        return ''
    script, given = _script(words[1:])
    if script is None:
        return ''
    if not script or not (ROOT / script).is_file():
        return f'no {script or words[3]}'
    for word in given:
        if re.match(r'configs/[\w/.]+$', word) and not (ROOT / word).exists():
            return f'no {word}'
        if re.match(r'mm(det|seg)::', word):
            config_path(word)
    return _refusal(script, given) if script.endswith('.py') else ''


def _script(words: List[str]) -> Any:
    if words[:2] == ['-m', 'mmkd']:
        if len(words) == 2:
            return None, []
        path = path_of(words[2], tools_of(str(ROOT / 'tools')))
        return path and os.path.relpath(path, ROOT), words[3:]
    is_ours = re.match(r'(tools|benchmarks|docs)/', words[0])
    return (words[0], words[1:]) if is_ours else (None, [])


def _refusal(script: str, given: List[str]) -> str:
    parse = _parser_of(script)
    if parse is None:
        return f'{script} has no function parse_args' if given else ''
    for word in given:
        if re.search(r'\.(pth|safetensors)$|^CHECKPOINT$', word) and '://' not in word:
            Path(word).parent.mkdir(parents=True, exist_ok=True)
            Path(word).touch()  # what earlier commands write
    if script == 'tools/compare.py' and given and not Path(given[0]).exists():
        Path(given[0]).mkdir()  # a folder of the reader
        Path(given[0], 'teacher.py').touch()
    before, sys.argv = sys.argv, [script, *given]
    try:
        args = parse()
    except SystemExit as end:
        return f'{script} refuses {given}' if end.code else ''
    finally:
        sys.argv = before
    for option in ('--method', '--prepare', '--shares', '--only'):
        value = getattr(args, option[2:], None) if option in given else None
        for name in [value] if isinstance(value, str) else value or []:
            if isinstance(name, str) and name not in ('auto', 'METHOD', 'NAME'):
                methods_of(name)
    return _unknown_key(getattr(args, 'config', None), getattr(args, 'cfg_options', None))


def _unknown_key(path: Optional[str], options: Optional[Dict[str, Any]]) -> str:
    """A key of --cfg-options that the config does not have."""
    if not isinstance(options, dict) or not isinstance(path, str) or not (ROOT / path).is_file():
        return ''
    config: Any = Config.fromfile(ROOT / path)
    for key in options:
        if key in ('randomness.seed', 'randomness.deterministic'):
            continue  # an argument of the Runner, which a config need not have
        value, above = config, None
        for part in key.split('.'):
            if value is None:
                return f'{path} has no {key}'
            above = value
            value = value[int(part)] if part.isdigit() else value.get(part)
        if value is None and part not in _arguments(above, config.default_scope):
            return f'{path} has no {key}'
    return ''


def _arguments(entry: Any, scope: str) -> Set[str]:
    """Arguments of the type of an entry, and of its base classes."""
    for registry in (DATASETS, LOOPS):
        with registry.switch_scope_and_registry(scope) as own:
            kind = own.get(entry.get('type', ''))
        if kind is not None:
            break
    return {name for one in getattr(kind, '__mro__', ()) if '__init__' in vars(one)
            for name in inspect.signature(one).parameters}
