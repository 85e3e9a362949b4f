"""Which teachers trained a student, in which iterations?"""
import inspect
import logging
from typing import Any, Dict, List, Optional

import torch
from mmengine.logging import print_log

from ..core.source import digest_of_code
from ..version import __version__

KEY = 'mmkd'
"""Key of the record in ``meta`` of a checkpoint, and of mmkd's state in the checkpoint itself."""

VERSIONS = ('mmkd', 'torch')

SETTINGS = ('learner', 'source', 'per_anchor', 'stage', 'region', 'connector', 'alpha', 'replaces',
            'levels', 'also')
"""Settings of an entry of ``distill`` other than the arguments of its loss."""


def record_of(distillation: Any) -> Dict[str, Any]:
    """Describe how the student is trained: its teachers, the comparisons, the versions.

    Args:
        distillation (Distillation, optional): None for a student without distillation.

    Returns:
        dict: Strings and numbers: versions, entries of ``distill``, networks except the student.
    """
    record: Dict[str, Any] = dict(mmkd=__version__, torch=str(torch.__version__), distill=[],
                                  networks={})
    if distillation is not None:
        record.update(
            distill=[entry_of(term) for term in distillation.terms],
            networks={name: dict(network.provenance())
                      for name, network in distillation.networks.items()
                      if network is not distillation.itself})
    return record


def entry_of(term: Any) -> Dict[str, Any]:
    """What is compared by one entry of ``distill``, with all settings."""
    settings = {name: getattr(term.spec, name) for name in SETTINGS}
    for name in inspect.signature(type(term.loss).__init__).parameters:
        if name in vars(term.loss) and name != 'loss_weight':
            settings[name] = getattr(term.loss, name)
    if getattr(term.spec, 'auto', None) is not None:  # its weight is measured
        settings['auto'] = list(term.spec.auto)
    for layers in list(getattr(term, 'losses', ()))[:1]:
        if getattr(layers, 'file_digest', ''):  # of a first stage
            settings['file_hash'] = layers.file_digest
    code = digest_of_code(type(term.loss))
    if code:  # of a loss of the user
        settings['code_hash'] = code
    if getattr(term, 'weights', None) is not None:  # of a committee's members
        settings['weights'] = list(term.weights)
    return dict(name=term.name, loss=type(term.loss).__name__,
                loss_weight=term.loss.loss_weight, student=term.spec.on_student,
                teacher=term.spec.on_teacher,
                settings={name: _plain(value) for name, value in settings.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


class History:
    """The records of a run, each valid for a range of iterations.

    ``meta['mmkd']`` of a checkpoint is the newest record, with its iterations ``'from'`` and
    ``'to'``; earlier ones are in its ``'history'``, the oldest first.
    """

    def __init__(self) -> None:
        self.earlier: List[Dict[str, Any]] = []
        self.since = 0

    def go_on(self, meta: Dict[str, Any], own: Dict[str, Any]) -> List[str]:
        """Continue the history of the checkpoint that a run resumes.

        Args:
            meta (dict): ``meta`` of the checkpoint.
            own (dict): Record of the current run.

        Returns:
            list[str]: A line for each difference between the two.

        Raises:
            ValueError: If the record is damaged.
        """
        saved, iteration = meta.get(KEY), meta['iter']
        if saved is None:
            if not own['networks'] and not own['distill']:
                return []
            saved = dict(distill=[], networks={})
        saved = checked(saved)
        lines = differences(saved, own)
        self.earlier = list(saved.get('history', []))
        self.since = saved.get('from', 0)
        if lines or any(saved.get(key) != own[key] for key in VERSIONS):
            last = {key: value for key, value in saved.items() if key != 'history'}
            self.earlier.append({**last, 'from': self.since, 'to': iteration})
            self.since = iteration
        return lines

    def of(self, own: Dict[str, Any], iteration: int) -> Optional[Dict[str, Any]]:
        """The record for a checkpoint; None if the student was never distilled.

        Args:
            own (dict): Record of the current run.
            iteration (int): Number of finished iterations.
        """
        if not (own['networks'] or own['distill'] or self.earlier):
            return None
        return {**own, 'from': self.since, 'to': iteration,
                **(dict(history=self.earlier) if self.earlier else {})}


def warn_of(lines: List[str], iteration: int) -> None:
    """Log the differences between the record of a checkpoint and the run that resumes it."""
    for line in lines:
        print_log(f'this run differs from the checkpoint that it resumes at iteration {iteration}: '
                  f'{line}', 'current', logging.WARNING)


def checked(saved: Any) -> Dict[str, Any]:
    """Check the format of a record read from a file, and return a copy.

    Raises:
        ValueError: If it does not have the format that mmkd writes.
    """
    is_record = isinstance(saved, dict) and isinstance(saved.get('history', []), list)
    if is_record:
        for one in (saved, *saved.get('history', [])):
            is_record = is_record and isinstance(one, dict) and isinstance(
                one.get('distill'), list) and isinstance(one.get('networks'), dict) and all(
                    isinstance(entry, dict) and isinstance(entry.get('name'), str)
                    for entry in one['distill']) and all(
                        isinstance(entry, dict) for entry in one['networks'].values()) and all(
                            type(one.get(key, 0)) is int for key in ('from', 'to'))
    if not is_record:
        raise ValueError(f"`meta['{KEY}']` has an unknown format: expected a dict with the lists "
                         '`distill` and `history` and the dict `networks`')
    return dict(saved)


def differences(saved: Dict[str, Any], own: Dict[str, Any]) -> List[str]:
    """Differences between two records, one line each; settings in only one of them are left out.

    Args:
        saved (dict): Record of a checkpoint.
        own (dict): Record of the current run.
    """
    lines = []
    for name in [*saved['networks'], *(one for one in own['networks']
                                       if one not in saved['networks'])]:
        lines += _of_network(name, saved['networks'].get(name), own['networks'].get(name))
    entries = [{one['name']: one for one in record['distill']} for record in (saved, own)]
    for name in [*entries[0], *(one for one in entries[1] if one not in entries[0])]:
        before, now = entries[0].get(name), entries[1].get(name)
        if before is None or now is None:
            lines.append(f'the entry `{name}` of `distill` ' + (
                'is new' if before is None else 'is not in the config any more'))
            continue
        lines += [f'the module of the loss of the entry `{name}` has changed'
                  if key == 'code_hash' else
                  f'`{key}` of the entry `{name}` was {one!r} and is {other!r} now'
                  for key, one, other in _changed(_flat(before), _flat(now))]
    return lines


def _of_network(name: str, before: Optional[Dict[str, Any]],
                now: Optional[Dict[str, Any]]) -> List[str]:
    if before is None or now is None:
        one = now if before is None else before
        assert one is not None
        return [f'the network `{name}` ({_called(one)}) ' + (
            'is new' if before is None else 'is not in the config any more')]
    lines = []
    for key in ('checkpoint', 'config'):
        hashes = before.get(f'{key}_hash'), now.get(f'{key}_hash')
        if None not in hashes and hashes[0] != hashes[1]:
            names = [(one.get(key) or NAMELESS[key]) + (f' ({value[:8]})' if value else '')
                     for one, value in zip((before, now), map(str, hashes))]
            same = ', of the same name but another content,' if (
                before.get(key) and before.get(key) == now.get(key)) else ''
            lines.append(f'the {key} of `{name}` was {names[0]} and is {names[1]}{same} now')
    told = {'checkpoint', 'config', 'checkpoint_hash', 'config_hash'}
    lines += [f'`{key}` of `{name}` was {one!r} and is {other!r} now'
              for key, one, other in _changed(before, now) if key not in told]
    return lines


NAMELESS = dict(checkpoint='none', config='a config in place')


def _called(record: Dict[str, Any]) -> str:
    return ', '.join(str(record[key]) for key in ('type', 'checkpoint') if record.get(key))


def _flat(entry: Dict[str, Any]) -> Dict[str, Any]:
    settings = entry.get('settings')
    return {**(settings if isinstance(settings, dict) else {}),
            **{key: value for key, value in entry.items() if key != 'settings'}}


def _changed(before: Dict[str, Any], now: Dict[str, Any]) -> List[Any]:
    return [(key, value, now[key]) for key, value in before.items()
            if key in now and now[key] != value]
