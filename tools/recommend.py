"""Which method should be tried first for a pair of models, and which entries has it?"""
from typing import Any, Dict, List, NamedTuple, Optional

from common import imports_of
from mmengine.config import Config

from mmkd.inspection import Pair, entries_of, inspect_pair, settings_of
from mmkd.losses.method import methods_of
from mmkd.losses.recommended import AUTO, Choice, recommended
from mmkd.written_config import config_text

OF_ONE_TEACHER = 'through', 'queries'
"""Keys of entries that need a single frozen teacher."""


def recommended_for(pair: Pair, is_module: bool = False) -> Choice:
    """The recommended method among those that can be used for a pair.

    Args:
        pair (Pair): From :func:`mmkd.inspection.inspect_pair`.
        is_module (bool): See :func:`mmkd.losses.recommended.recommended`.

    Raises:
        ValueError: If no method can be used.
    """
    def fits(method: str) -> bool:
        try:
            return bool(entries_of(method, pair))
        except ValueError:
            return False

    return recommended(pair.kind, fits, is_module)


class Written(NamedTuple):
    """A method for a student with several teachers, as a config has it."""
    method: str
    entries: List[Dict[str, Any]]
    around: Dict[str, Any]
    reason: str
    """Why it was chosen; '' if the user did."""

    def text(self, student: str, teacher: str, config: Config, network: str) -> str:
        """The text of the distillation config.

        Args:
            student (str): Path of the student's config.
            teacher (str): Path of the config of the teachers.
            config (Config): The student's config, for its ``custom_imports``.
            network (str): The code of the ``teacher``.
        """
        return config_text(student, teacher, None, self.entries, imports_of(config), self.around,
                           self.method, network=network)


def method_for(student: Config, teacher: Config, method: Optional[str], what: str) -> Written:
    """The method for a student with several teachers of one config.

    Args:
        student (Config): Plain config of the student.
        teacher (Config): Plain config of the teachers. Weights are not needed.
        method (str, optional): Value of `--method`; None and 'auto' stand for the recommended one.
        what (str): The teachers, for messages.

    Raises:
        ValueError: If the method cannot be used, or none is recommended.
    """
    reason = ''
    if method not in (None, AUTO):
        methods_of(str(method))  # an unknown name is an error before models are built
    pair = inspect_pair(student, teacher)
    if method in (None, AUTO):
        def fits(name: str) -> bool:
            try:
                return not of_one_teacher(name, pair)
            except ValueError:
                return False

        method, reason = recommended(pair.kind, fits)
    needs = of_one_teacher(str(method), pair)
    if needs:
        raise ValueError(f'--method {method} needs a single teacher (`{needs}`), but {what} '
                         'are several; use another method, such as mimic')
    return Written(str(method), entries_of(str(method), pair), settings_of(str(method), pair),
                   reason)


def of_one_teacher(method: str, pair: Pair) -> str:
    """A key of the method that needs a single teacher; '' if there is none.

    Raises:
        ValueError: If the method cannot be used for the pair.
    """
    keys = [key for entry in entries_of(method, pair) for key in OF_ONE_TEACHER if key in entry]
    keys += ['inherit'] * ('model.inherit' in settings_of(method, pair))
    return keys[0] if keys else ''
