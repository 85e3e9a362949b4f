"""How does MMEngine read checkpoints without running code from them?"""
import functools
import os
from typing import Any, Callable, Dict, List

import mmengine.runner.checkpoint as mmengine_checkpoint
from mmengine.runner import CheckpointLoader

from ..core.missing import looked_for
from ..core.runner import current_runner, is_training
from .fit import check_numbers
from .reading import SWITCHES, read_file, read_open
from .safe_types import allow_mmengine_checkpoints
from .sources import OWN_SCHEMES, from_object_store, is_in_object_store, local_path
from .whole import wrong_with

NOT_EXECUTED = """raise ValueError(
    'with mmkd imported, the text of a config inside of a checkpoint is not executed; '
    'give the config itself, for instance DetInferencer(model="CONFIG.py", weights=...)')
"""
"""Replaces the text of a config in a checkpoint."""


def guard_mmengine_loading(check: Callable[[Any, str], None]) -> None:
    """Make MMEngine read checkpoints (``load_from``, ``resume``, ``init_detector``, pretrained
    backbones) as weights only, with every version of torch and of MMEngine.

    Paths and the addresses of :data:`mmkd.files.sources.SUPPORTED` are read like in
    :func:`mmkd.files.checkpoint.read_checkpoint`; other kinds (``mmcls://``, ``pavi://``) by
    MMEngine's own loaders.

    With ``trust_checkpoint=True`` at the top level of the config, checkpoints are read as pickles,
    which may run code.

    Args:
        check (Callable): Called with the content of a file and its name, before MMEngine gets it.
    """
    @functools.wraps(load_from_guarded)
    def load_checked(filename: str, *args: Any, **kwargs: Any) -> Any:
        _tell_of(filename)
        checkpoint = load_from_guarded(filename, *args, **kwargs)
        check(checkpoint, filename)
        return checkpoint

    for prefix, loader in CheckpointLoader._schemes.items():
        if prefix not in OWN_SCHEMES:
            CheckpointLoader.register_scheme(prefix, _guarded(loader, check), force=True)
    CheckpointLoader.register_scheme(OWN_SCHEMES, load_checked, force=True)
    # MMEngine's other loaders download with this function.
    mmengine_checkpoint.load_from_http = load_checked


_BEFORE_READING: List[Callable[[Any, str], None]] = []


def before_reading(tell: Callable[[Any, str], None]) -> None:
    """Register a function to call before a Runner that resumes reads a checkpoint.

    Args:
        tell (Callable): Called with the Runner and the name of the file.
    """
    _BEFORE_READING.append(tell)


def _tell_of(filename: str) -> None:
    runner = current_runner()
    if runner is not None and runner._resume and is_training(runner):
        for tell in _BEFORE_READING:
            tell(runner, filename)


def load_from_guarded(filename: str, map_location: Any = None, *args: Any, **kwargs: Any) -> Any:
    """Replacement for MMEngine's loaders. MMEngine strips the first ten letters of this function's
    name in its log."""
    where = 'at the top level of the config'
    if is_in_object_store(filename):
        path = filename
        checkpoint, _ = read_open(from_object_store(filename), path, is_trusted(), where,
                                  map_location, is_hashed=False)
    else:
        path = local_path(filename, wrong_with)
        if not os.path.isfile(path):
            raise FileNotFoundError(
                f'no checkpoint file at `{path}` {looked_for(path)}; check `load_from` '
                'and `init_cfg` in the config, and for `resume`, `last_checkpoint` in the work dir')
        checkpoint = read_file(path, is_trusted(), where, map_location)
    check_numbers(checkpoint, path)
    return checkpoint if is_trusted() else without_orders(checkpoint, path)


def is_trusted() -> bool:
    """Whether the config of the current run sets ``trust_checkpoint=True``."""
    runner = current_runner()
    return runner is not None and runner.cfg.get('trust_checkpoint', False) is True


def without_orders(checkpoint: Any, path: str) -> Any:
    """Remove from a checkpoint what would make MMEngine run code or delete files.

    MMEngine executes the config text of a checkpoint (on resume, and in inferencers that get only
    weights), and deletes the file that a checkpoint names as the best so far.

    Args:
        checkpoint (Any): Content of the file; changed in place.
        path (str): The file. The best checkpoint must be in the same folder.
    """
    meta = dict_in(checkpoint, 'meta')
    known = dict_in(dict_in(checkpoint, 'message_hub'), 'runtime_info')
    meta.pop('config', None)
    for holder in (meta, known):
        if 'cfg' in holder and current_runner() is None:
            holder['cfg'] = NOT_EXECUTED
        else:
            holder.pop('cfg', None)  # a run has its own config
    for name in [name for name in known if str(name).startswith('best_ckpt')]:
        best = os.path.basename(str(known[name]))
        known[name] = os.path.join(os.path.dirname(path), best)
        if not best.startswith('best_'):
            del known[name]
    return checkpoint


def dict_in(holder: Any, key: str) -> Dict[str, Any]:
    """The dict under a key of a file's content; {} if there is none."""
    found = holder.get(key) if isinstance(holder, dict) else None
    return found if isinstance(found, dict) else {}


def _guarded(loader: Callable, check: Callable[[Any, str], None]) -> Callable:
    @functools.wraps(loader)
    def load(filename: str, *args: Any, **kwargs: Any) -> Any:
        _tell_of(filename)
        allow_mmengine_checkpoints()
        kept = {name: os.environ.get(name) for name in SWITCHES}
        os.environ.update(zip(SWITCHES, ('0', '1') if is_trusted() else ('1', '0')))
        try:
            checkpoint = loader(filename, *args, **kwargs)
            checkpoint = checkpoint if is_trusted() else without_orders(checkpoint, '')
            check(checkpoint, filename)
            return checkpoint
        finally:
            for name, value in kept.items():
                del os.environ[name]
                if value is not None:
                    os.environ[name] = value

    return load
