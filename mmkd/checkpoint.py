"""Read weights: without running code from the file, and without letting a misfit pass."""
import functools
import glob
import hashlib
import json
import logging
import os
import re
import zipfile
from collections import OrderedDict
from typing import Any, Callable, Dict, List, Optional
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log
from mmengine.runner import CheckpointLoader
from mmengine.utils import digit_version
from torch import nn

from .build import explained
from .runner import current_runner

SWITCHES = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'
"""Torch's own: MMEngine's loaders hand no ``weights_only`` on to :func:`torch.load`."""

RAZOR = ('architecture.', 'teacher.', 'distiller.')
"""How the names of weights begin in a distilled checkpoint of MMRazor 1.0: the student's first."""

NOT_EXECUTED = """raise ValueError(
    'with mmkd imported, the text of a config inside of a checkpoint is not executed; '
    'give the config itself, for instance DetInferencer(model="CONFIG.py", weights=...)')
"""
"""Stands where a checkpoint has the text of its config."""

SHOWN = 5
"""How many keys an error lists before it counts the rest."""


def allow_mmengine_checkpoints() -> None:
    """Let torch read what MMEngine writes beside the weights, with ``weights_only=True``.

    MMEngine 0.10 stores its log history in every checkpoint and calls ``torch.load`` plainly, so
    since torch 2.6 it cannot read its own files (``resume``, ``load_from``). The types allowed here
    hold numbers and run no code.
    """
    if hasattr(torch.serialization, 'add_safe_globals'):
        torch.serialization.add_safe_globals(_number_types())


def _number_types() -> List[Any]:
    core = np._core if hasattr(np, '_core') else np.core  # renamed in NumPy 2
    reconstruct, scalar = core.multiarray._reconstruct, core.multiarray.scalar
    types: List[Any] = [HistoryBuffer, np.ndarray, np.dtype, reconstruct, scalar]
    types += [type(np.dtype(code)) for code in '?bBhHiIlLqQefd']
    if digit_version(torch.__version__) >= digit_version('2.6'):
        types += [
            # Files written under NumPy 1 or 2 name these two by other modules.
            (reconstruct, 'numpy.core.multiarray._reconstruct'),
            (reconstruct, 'numpy._core.multiarray._reconstruct'),
            (scalar, 'numpy.core.multiarray.scalar'),
            (scalar, 'numpy._core.multiarray.scalar'),
            (_statistic, 'builtins.getattr'),
        ]
    return types


def _statistic(owner: Any, name: str) -> Any:
    """What a checkpoint's log history may ask of ``getattr``: HistoryBuffer's own statistics."""
    if owner is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
        return getattr(owner, name)
    raise ValueError(f'Unsupported getattr({owner}, {name!r}) in a checkpoint')


def read_checkpoint(source: str, trust: bool = False, whose: str = 'teacher') -> Dict[str, Any]:
    """Read a checkpoint file onto the CPU.

    Args:
        source (str): Path, or http(s) address; a download is kept where torch.hub keeps its own.
        trust (bool): Read it as a pickle that may run code. Defaults to False.
        whose (str): For the message. Defaults to 'teacher'.

    Returns:
        dict: The checkpoint, its weights under ``'state_dict'``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no checkpoint, or holds more than weights and numbers.
    """
    path = local_path(source)
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f'no {whose} checkpoint at `{path}` (looked from {os.getcwd()}); '
            f'give `{whose}.checkpoint` the path or address of the weights')
    checkpoint = read_file(path, trust, 'beside `checkpoint`')
    if isinstance(checkpoint, dict) and 'state_dict' not in checkpoint:
        checkpoint = dict(state_dict=checkpoint.get('model', checkpoint))
    weights = checkpoint.get('state_dict') if isinstance(checkpoint, dict) else checkpoint
    if not isinstance(weights, dict) or not weights or not all(
            isinstance(name, str) and isinstance(value, torch.Tensor)
            for name, value in weights.items()):
        raise ValueError(f'`{path}` holds no weights: expected a dict with `state_dict`, tensors '
                         f'by name, but found {_described(weights)}; give the checkpoint of a '
                         'trained model')
    if not isinstance(checkpoint.get('meta'), dict):
        checkpoint['meta'] = {}
    return checkpoint


def read_file(path: str, trust: bool, where: str, map_location: Any = 'cpu') -> Any:
    """Whatever a .pth or .safetensors file holds, without running code from it.

    Args:
        path (str): The file.
        trust (bool): Read it as a pickle that may run code.
        where (str): Where the config says that it is trusted, for the message.
        map_location (Any): As of :func:`torch.load`. Defaults to 'cpu'.

    Raises:
        ImportError: If it is a .safetensors file and the package safetensors is not installed.
        ValueError: If it cannot be read, or holds more than weights and numbers.
    """
    if path.endswith('.safetensors'):
        return student_of_razor(_read_safetensors(path, map_location), path)
    allow_mmengine_checkpoints()  # once more: the forks' MMEngine takes it back after loading
    inflated = _inflated_part(path)
    if inflated:
        raise ValueError(f'`{path}` is no checkpoint as torch writes them: `{inflated}` in it is '
                         'compressed, and may grow without bound; save it anew by torch.save')
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=not trust)
    except Exception as error:  # torch raises half a dozen types for a file it cannot read
        # A page of an error, saved by its address, would be called dangerous, too.
        if not _is_of_torch(path) or (
                'weights_only' not in str(error) and 'Unsupported' not in str(error)):
            raise ValueError(f'`{path}` is not a readable checkpoint, it may be cut short: '
                             f'{_first_line(error)}; download or save it anew') from error
        raise ValueError(
            f'`{path}` holds more than weights and was not opened, because such a file can run '
            f'code ({_first_line(error)}); if you trust where it comes from, write '
            f'`trust_checkpoint=True` {where}') from error
    damaged = _damaged_part(path)  # torch does not compare the checksums that it wrote
    if damaged:
        raise ValueError(f'`{path}` has changed since it was written: `{damaged}` in it has '
                         'another checksum; download or save it anew')
    return student_of_razor(checkpoint, path)


def _is_of_torch(path: str) -> bool:
    """Whether a file begins as those of ``torch.save``: a zip, or before 1.6 a pickle."""
    with open(path, 'rb') as file:
        return file.read(2)[:1] in (b'P', b'\x80')


def _inflated_part(path: str) -> Optional[str]:
    try:
        with zipfile.ZipFile(path) as file:
            size = os.path.getsize(path)
            return next((part.filename for part in file.infolist() if part.file_size > size
                         or part.compress_type != zipfile.ZIP_STORED), None)
    except (OSError, zipfile.BadZipFile):
        return None  # no zip at all


def _damaged_part(path: str) -> Optional[str]:
    if not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as file:
            if not any(part.CRC for part in file.infolist()):
                return None  # written without, by torch.serialization.set_crc32_options(False)
            return file.testzip()
    except zipfile.BadZipFile as error:
        return str(error)


def _read_safetensors(path: str, map_location: Any) -> Dict[str, Any]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise ImportError(f'`{path}` is read by the package safetensors, which is not installed; '
                          'run `pip install safetensors`') from error
    try:
        with safe_open(path, 'pt') as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            beside = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f'`{path}` is not a readable checkpoint, it may be cut short: '
                         f'{_first_line(error)}; download or save it anew') from error
    if map_location is not None and not callable(map_location):
        weights = {name: tensor.to(map_location) for name, tensor in weights.items()}
    with explained(f'`meta` of `{path}` cannot be read', 'write it as JSON, or leave it out'):
        meta = json.loads(beside.get('meta', '{}'))
    return dict(state_dict=weights, meta=meta)


def student_of_razor(checkpoint: Any, path: str) -> Any:
    """Of a distilled checkpoint of MMRazor 1.0 the student, under its own names.

    MMRazor keeps the student as 'architecture', and the teacher and its connectors beside it; in a
    plain model MMEngine would load nothing of that, and say so in warnings only.

    Args:
        checkpoint (Any): What a file held.
        path (str): The file, for the log.

    Returns:
        Any: Of the checkpoint the student's weights, and what is known of its data; the optimizer
        trained more. The checkpoint as it was, if it is not of that shape.
    """
    weights = checkpoint.get('state_dict') if isinstance(checkpoint, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
        return checkpoint
    names = {name: name.removeprefix('module.') for name in weights}
    student = RAZOR[0]
    if not all(name.startswith(RAZOR) for name in names.values()) or not any(
            name.startswith(student) for name in names.values()):
        return checkpoint
    own = OrderedDict((name[len(student):], weights[whole]) for whole, name in names.items()
                      if name.startswith(student))
    # The version of each layer: some rename their keys when they load an older one.
    own._metadata = OrderedDict(  # type: ignore[attr-defined]
        (f'{name.removeprefix("module.")}.'[len(student):].rstrip('.'), value)
        for name, value in (getattr(weights, '_metadata', None) or {}).items()
        if f'{name.removeprefix("module.")}.'.startswith(student))
    print_log(f'{path} was saved by MMRazor; its student, `architecture`, is taken: {len(own)} of '
              f'{len(weights)} tensors', 'current')
    meta = checkpoint.get('meta')
    meta = meta if isinstance(meta, dict) else {}
    return dict(state_dict=own, meta={key: meta[key] for key in ('dataset_meta', 'CLASSES')
                                      if key in meta})


def guard_mmengine_loading() -> None:
    """Have MMEngine read checkpoints (``load_from``, ``resume``, ``init_detector``, pretrained
    backbones) as weights only, whatever the version of torch or of MMEngine.

    Those by path or http(s) address may be .safetensors; addresses of another kind
    (``torchvision://``, ``open-mmlab://``, ``s3://``) are read by MMEngine's own loaders.

    A config that says ``trust_checkpoint=True`` at its top level has its checkpoints read as
    pickles that may run code.
    """
    own = ('', 'http://', 'https://')
    for prefix, loader in CheckpointLoader._schemes.items():
        if prefix not in own:
            CheckpointLoader.register_scheme(prefix, _guarded(loader), force=True)
    CheckpointLoader.register_scheme(own, load_from_guarded, force=True)


def load_from_guarded(filename: str, map_location: Any = None, *args: Any, **kwargs: Any) -> Any:
    path = local_path(filename)
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f'no checkpoint file at `{path}` (looked from {os.getcwd()}); look at `load_from` and '
            '`init_cfg` in the config, and with `resume` at `last_checkpoint` in the work dir')
    checkpoint = read_file(path, is_trusted(), 'at the top level of the config', map_location)
    return checkpoint if is_trusted() else without_orders(checkpoint, path)


def without_orders(checkpoint: Any, path: str) -> Any:
    """A checkpoint without what MMEngine would do because a file says so.

    It executes the text of the config that a checkpoint holds (on resume, and in inferencers that
    are given weights alone), and removes the file that a checkpoint calls the best so far.

    Args:
        checkpoint (Any): What the file held; changed in place.
        path (str): The file: the best one lies beside it.
    """
    meta = _dict_in(checkpoint, 'meta')
    known = _dict_in(_dict_in(checkpoint, 'message_hub'), 'runtime_info')
    meta.pop('config', None)
    for holder in (meta, known):
        if 'cfg' in holder and current_runner() is None:
            holder['cfg'] = NOT_EXECUTED
        else:
            holder.pop('cfg', None)  # a run has its own
    for name in [name for name in known if str(name).startswith('best_ckpt')]:
        best = os.path.basename(str(known[name]))
        known[name] = os.path.join(os.path.dirname(path), best)
        if not best.startswith('best_'):
            del known[name]
    return checkpoint


def _dict_in(holder: Any, key: str) -> Dict[str, Any]:
    found = holder.get(key) if isinstance(holder, dict) else None
    return found if isinstance(found, dict) else {}


def _guarded(loader: Callable) -> Callable:
    @functools.wraps(loader)
    def load(*args: Any, **kwargs: Any) -> Any:
        allow_mmengine_checkpoints()
        kept = {name: os.environ.get(name) for name in SWITCHES}
        os.environ.update(zip(SWITCHES, ('0', '1') if is_trusted() else ('1', '0')))
        try:
            checkpoint = loader(*args, **kwargs)
            return checkpoint if is_trusted() else without_orders(checkpoint, '')
        finally:
            for name, value in kept.items():
                del os.environ[name]
                if value is not None:
                    os.environ[name] = value

    return load


def is_trusted() -> bool:
    """Whether the config of the run at work has checkpoints read as pickles that may run code."""
    runner = current_runner()
    return runner is not None and runner.cfg.get('trust_checkpoint', False) is True


def hash_of_file(path: str) -> str:
    """SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        for block in iter(lambda: file.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()


def is_whole(path: str) -> bool:
    """Whether a file of ``torch.save`` was written to its end and has not changed since."""
    try:
        if zipfile.is_zipfile(path):
            return _inflated_part(path) is None and _damaged_part(path) is None
        with open(path, 'rb') as file:
            if file.read(1) != b'\x80':
                return False
        read_file(path, False, '')  # as torch wrote them before 1.6
        return True
    except (OSError, ValueError) as error:
        return 'holds more than weights' in str(error)  # whole, and refused where it is loaded


def latest_whole(folder: str) -> Optional[str]:
    """The checkpoint from which a run that was cut off goes on.

    Of those that MMEngine has saved there, and the one that it names in ``last_checkpoint``, the
    one furthest in training that was written to its end.

    Args:
        folder (str): The work dir.

    Returns:
        str | None: Its path; None if there is none.
    """
    found = [path for kind in ('epoch', 'iter')
             for path in glob.glob(os.path.join(glob.escape(folder), f'{kind}_*.pth'))]
    named = _named_in(folder)
    if named:
        # The work dir may have been moved or copied, or be named from another folder.
        here = os.path.join(folder, os.path.basename(named))
        found += [here] if os.path.exists(here) or found else [named]
    for path in sorted(dict.fromkeys(found), key=_number_of, reverse=True):
        if os.path.isdir(path) and _number_of(path) >= 0:  # DeepSpeed's
            return path
        if os.path.isfile(path) and is_whole(path):
            return path
        if os.path.isfile(path):
            print_log(f'{path} was not written to its end, and is passed by', 'current',
                      logging.WARNING)
    others = set(glob.glob(os.path.join(glob.escape(folder), '*.pth'))) - set(found)
    if others:
        print_log(f'of {_shorten(sorted(others))} it is not known which is the last, so none is '
                  'resumed; name it by `--resume PATH`', 'current', logging.WARNING)
    return None


def _named_in(folder: str) -> str:
    note = os.path.join(folder, 'last_checkpoint')
    if not os.path.isfile(note):
        return ''
    with open(note, errors='replace') as file:
        return file.read(4096).strip().replace('\0', '')


def _number_of(path: str) -> int:
    found = re.search(r'_(\d+)\.pth$', path)
    return int(found.group(1)) if found else -1


def load_exactly(model: nn.Module, checkpoint: Dict[str, Any], source: str) -> None:
    """Load weights that must fit the model key by key and shape by shape.

    Args:
        model (nn.Module): Receives the weights.
        checkpoint (dict): As read by :func:`read_checkpoint`.
        source (str): Where it came from, for the message.

    Raises:
        ValueError: If keys are missing or unexpected, or shapes differ; the message lists them.
    """
    weights = OrderedDict((key.removeprefix('module.'), value)  # left by a model wrapper
                          for key, value in checkpoint['state_dict'].items())
    # The version of each layer: some rename their keys when they load an older one.
    weights._metadata = getattr(checkpoint['state_dict'], '_metadata', None)  # type: ignore
    own = model.state_dict()
    found = {key: misfit(weights[key], value) for key, value in own.items() if key in weights}
    misshapen = [f'{key}: {why}' for key, why in found.items() if why]
    missing, unexpected = list(own.keys() - weights.keys()), list(weights.keys() - own.keys())
    if not misshapen:
        missing, unexpected = model.load_state_dict(weights, strict=False)
    # Files older than `num_batches_tracked` are whole without it.
    missing = [key for key in missing if not key.endswith('num_batches_tracked')]
    # Some models (DDQ) give parameters a second name in training; nothing is lost by it.
    unexpected = [key for key in unexpected if not any(
        value.numel() and value.data_ptr() == weights[key].data_ptr()
        for other, value in weights.items() if other in own)]
    problems = [('with other shapes', misshapen), ('missing in the file', missing),
                ('unknown to the model', unexpected)]
    if any(found for _, found in problems):
        raise ValueError(
            f'the checkpoint `{source}` does not fit its config ({type(model).__name__}): ' +
            '; '.join(f'{len(found)} {what} ({_shorten(sorted(found))})'
                      for what, found in problems if found) +
            '; give the config that this checkpoint was trained with')
    check_finite(model, weights, source)


def misfit(given: torch.Tensor, own: torch.Tensor) -> str:
    """Why a tensor of a file cannot take the place of a model's; '' if it can.

    Args:
        given (Tensor): The file's.
        own (Tensor): The model's.
    """
    if given.is_meta:
        return 'it has no values; save it from a model that is on a device'
    if given.layout != own.layout or given.is_quantized != own.is_quantized or given.is_nested:
        return f'{given.layout}{", quantized" * given.is_quantized} in the file, {own.layout} in ' \
               'the model'
    if given.is_complex() and not own.is_complex():
        return f'{given.dtype} in the file, {own.dtype} in the model'
    if given.shape != own.shape:
        return f'{tuple(given.shape)} in the file, {tuple(own.shape)} in the model'
    return ''


def check_finite(model: nn.Module, weights: Dict[str, Any], source: str) -> None:
    """Look for numbers that are none, in what has been trained: other buffers may hold them.

    Args:
        model (nn.Module): Says what is trained.
        weights (dict): Tensors by the model's names, all of which fit.
        source (str): Where they came from, for the message.

    Raises:
        ValueError: If there are any; the message names the tensors.
    """
    trained = {name for name, _ in model.named_parameters()}
    broken = [key for key, value in weights.items()
              if (key in trained or key.endswith(('running_mean', 'running_var')))
              and value.is_floating_point() and not value.float().isfinite().all()]
    if broken:
        raise ValueError(f'the checkpoint `{source}` has values that are infinite or not a number, '
                         f'in {_shorten(broken)}; its training went wrong, give another one')


def check_start(model: nn.Module, checkpoint: Any, source: str) -> None:
    """Whether a checkpoint that a run starts from is one of its model at all.

    MMEngine loads what fits and warns of the rest, also where nothing fits.

    Args:
        model (nn.Module): The student.
        checkpoint (Any): What MMEngine is about to load into it.
        source (str): Where it came from, for the message.

    Raises:
        ValueError: If nothing of it fits, or it holds numbers that are none.
    """
    weights = checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, dict) else {}
    weights = {key.removeprefix('module.'): value for key, value in weights.items()
               if isinstance(key, str)} if isinstance(weights, dict) else {}
    own = model.state_dict()
    taken = {key: weights[key] for key, value in own.items()
             if isinstance(weights.get(key), torch.Tensor)}
    fitting = {key: value for key, value in taken.items() if not misfit(value, own[key])}
    odd = [f'{key}: {misfit(value, own[key])}' for key, value in taken.items()
           if value.shape == own[key].shape and key not in fitting]
    if odd:
        raise ValueError(f'{source} cannot be loaded into the student: {_shorten(odd)}; give '
                         'ordinary weights')
    if not fitting:
        raise ValueError(
            f'nothing of the checkpoint that the run starts from, {source}, fits the student '
            f'({type(model).__name__}): it holds {_shorten(sorted(weights)) or "no weights"}, the '
            f'student {_shorten(sorted(own))}; give `load_from` a checkpoint of the student, or '
            'leave it out')
    check_finite(model, fitting, source)


def local_path(source: str) -> str:
    """A path, with '~' written out; of an address, that of the download."""
    if urlparse(source).scheme in ('http', 'https'):
        return _download(source)
    return os.path.expanduser(source)


def _download(url: str) -> str:
    folder = os.path.join(torch.hub.get_dir(), 'checkpoints')
    name = os.path.basename(urlparse(url).path)
    # Published names end in a hash; another name may stand for several files.
    if not re.search(r'-[0-9a-f]{8}\.\w+$', name):
        name = f'{hashlib.sha256(url.encode()).hexdigest()[:8]}-{name}'
    path = os.path.join(folder, name)
    if not os.path.isfile(path):
        os.makedirs(folder, exist_ok=True)
        print_log(f'Downloading {url} to {path}', 'current')
        try:
            torch.hub.download_url_to_file(url, path)
        except OSError as error:
            raise FileNotFoundError(
                f'could not download the checkpoint {url}: {error}; download it by hand '
                'and give its path in place of the address') from error
    return path


def _described(weights: Any) -> str:
    if not isinstance(weights, dict):
        return type(weights).__name__
    kinds = {f'{type(key).__name__}: {type(value).__name__}' for key, value in weights.items()}
    return f'a dict of {_shorten(sorted(kinds)) or "nothing"}'


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines()
             if 'GLOBAL' in line or 'Unpickler error' in line] or [str(error)]
    return lines[0].strip()[:200]


def _shorten(items: List[str]) -> str:
    rest = len(items) - SHOWN
    return ', '.join(items[:SHOWN]) + (f' and {rest} more' if rest > 0 else '')


