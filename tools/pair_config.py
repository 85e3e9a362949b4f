"""How is the distillation config of a student, a teacher and a method of --method written?"""
import os
from typing import Any, Dict, Optional, Sequence

from common import built_by, imports_of
from mmengine.config import Config

from mmkd.inspection import Pair, entries_of, settings_of
from mmkd.networks.libraries import is_module
from mmkd.written_config import config_text


def check_plain(config: Config, path: str) -> None:
    """Check that a config is the plain one of a student, which a config of a pair can inherit.

    Raises:
        SystemExit: If not.
    """
    if getattr(config, '_imported_names', None):
        raise SystemExit(
            f'{path} is a config of the new style of MMEngine (read_base), which a '
            "distillation config with `_base_` cannot inherit; import the student's model in a "
            'config of the new style, and run it without --teacher')
    if 'student' in config.get('model', {}):
        raise SystemExit(f'{path} has a teacher already; run it without --teacher, or use '
                         'the plain config of its student')


def text_for(method: str, pair: Pair, student: Config, config: str, teacher: str,
             checkpoint: Optional[str], prepared: Sequence[str] = (),
             further: Sequence[Dict[str, Any]] = (), classes: Optional[str] = None) -> str:
    """The text of the config.

    Args:
        method (str): The method, or several joined by '+'.
        pair (Pair): The inspected pair.
        student (Config): The plain config of the student.
        config (str): Its path or name.
        teacher (str): Path or name of the teacher's config, or a module of another library.
        checkpoint (str, optional): See :func:`mmkd.written_config.config_text`.
        prepared (Sequence[str]): Files of first stages. Defaults to (), none.
        further (Sequence[dict]): Further entries of ``distill``. Defaults to (), none.
        classes (str, optional): Path of a mapping of classes. Defaults to None, none.

    Raises:
        SystemExit: If files are given for a method without a first stage.
        ValueError: If the method cannot be used for the pair.
    """
    around = settings_of(method, pair)
    entries = entries_of(method, pair, [_absolute(path) for path in prepared])
    if prepared and not any('tokens' in entry for entry in entries):
        raise SystemExit(f'--prepared {prepared[0]}, but `{method}` has no first stage; leave '
                         'it out, or add a method that has one, such as maskd')
    names = (built_by(name) if is_module(name) else name if '::' in name else os.path.abspath(name)
             for name in (config, teacher))
    return config_text(*names, checkpoint, [*entries, *further], imports_of(student), around,
                       method, classes and _absolute(classes))


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))
