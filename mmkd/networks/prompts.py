"""Which prompts does a teacher with text input get?"""
import copy
from typing import Any, Dict, List, Optional, Sequence, Union

from ..core.build import closest
from ..core.names import joined, shown_names
from ..files.classes import ClassMapping

Prompts = Union[Sequence[str], Dict[str, str], None]
"""Texts in the order of the classes, or by class."""


def check_prompts(prompts: Any, what: str) -> None:
    """Check the argument ``prompts``.

    Raises:
        TypeError: If it is neither a list nor a dict of texts.
        ValueError: If it is empty.
    """
    if prompts is None:
        return
    texts = list(prompts.values()) if isinstance(prompts, dict) else prompts
    keys = list(prompts) if isinstance(prompts, dict) else []
    if not isinstance(texts, (list, tuple)) or not all(
            isinstance(one, str) and one.strip() for one in [*texts, *keys]):
        raise TypeError(f'`{what}` must be a text for each class, in the order of the classes, or '
                        f'a dict of texts by class, but got {prompts!r:.200}; write for instance '
                        "prompts=dict(RBC='red blood cell')")
    if not texts:
        raise ValueError(f'`{what}` is empty; write texts, or leave it out')


def asked_for(student: Optional[Sequence[str]], stated: Optional[Sequence[str]],
              mapping: Optional[ClassMapping]) -> List[str]:
    """Names of the classes for which an open-vocabulary teacher is prompted.

    Args:
        student (Sequence[str], optional): The student's classes; None if unknown.
        stated (Sequence[str], optional): Names that the config lists for the teacher.
        mapping (ClassMapping, optional): Which names stand for a class of the student.

    Returns:
        list[str]: The stated names; otherwise those of the mapping, and the student's own where it
        says nothing. [] if nothing is known.

    Example:
        >>> asked_for(['vehicle', 'dog'], None, ClassMapping((('vehicle', ('car', 'bus')), )))
        ['car', 'bus', 'dog']
    """
    if stated is not None:
        return list(stated)
    named = dict(mapping.entries) if mapping is not None else {}
    return list(dict.fromkeys(one for name in student or () for one in named.get(name, (name, ))))


def texts_of(classes: Sequence[str], prompts: Prompts, what: str) -> List[str]:
    """The text for each class; its name, where ``prompts`` says nothing.

    Args:
        classes (Sequence[str]): Names of the classes.
        prompts (Sequence[str] | dict[str, str], optional): See :data:`Prompts`.
        what (str): Name of the argument, for messages.

    Raises:
        ValueError: If a class is unknown, or the number of texts is not that of the classes.

    Example:
        >>> texts_of(['RBC', 'WBC'], dict(RBC='red blood cell'), 'prompts')
        ['red blood cell', 'WBC']
    """
    if prompts is None:
        return list(classes)
    if isinstance(prompts, dict):
        unknown = [name for name in prompts if name not in classes]
        if unknown:
            raise ValueError(f'`{what}` names {joined(unknown)}{closest(unknown[0], classes)}, but '
                             f'the classes are {shown_names(classes)}; correct the name')
        return [prompts.get(name, name) for name in classes]
    if len(prompts) != len(classes):
        raise ValueError(f'`{what}` has {len(prompts)} texts, but there are {len(classes)} '
                         f'classes, {shown_names(classes)}; write one for each, in this order, or '
                         'a dict by class')
    return list(prompts)


def for_teaching(model: Any) -> Any:
    """The config of a model without checkpointed layers of its encoder.

    Checkpointing (`num_cp`, by the package fairscale) saves memory in the backward pass, which a
    frozen teacher does not have. The weights and outputs do not depend on it.

    Args:
        model (dict): The config of the model. It is not changed.
    """
    encoder = model.get('encoder')
    if not isinstance(encoder, dict) or not encoder.get('num_cp', 0) > 0:
        return model
    model = copy.deepcopy(model)
    model['encoder']['num_cp'] = 0
    return model
