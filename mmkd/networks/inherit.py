"""Initial weights of the student from its teacher."""
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from mmengine.logging import print_log
from torch import Tensor, nn

DEPTHS = ('spread', 'first', 'last')


@dataclass
class Inheritance:
    """Copies weights of the teacher to the student before training.

    Tensors are matched by name. If the teacher is deeper, with more numbered blocks (such as
    ``layer3.0`` to ``layer3.22``), ``depth`` selects the blocks. FGD, MGD and MasKD inherit neck
    and head (``inherit='neck,head'``); DistilBERT inherits every other layer.

    Args:
        parts (Sequence[str]): 'backbone', 'neck', 'head' (everything but the two), or dotted paths.
        depth (str): 'spread', the first block, the last, and blocks at equal distances between
            them; 'first' or 'last', the first or last blocks of the teacher. Defaults to 'spread'.
        width (bool): Whether the first channels of a wider tensor of the teacher are copied, in
            every dimension. Defaults to False: tensors of another shape are not inherited.

    Raises:
        TypeError: If ``parts`` is not a list of names.
        ValueError: If ``depth`` is unknown.
    """
    parts: Sequence[str]
    depth: str = 'spread'
    width: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.parts, str):
            self.parts = [part.strip() for part in self.parts.split(',')]
        if not isinstance(self.parts, (list, tuple)) or not self.parts or not all(
                isinstance(part, str) and part for part in self.parts):
            raise TypeError('`inherit` must be a string of parts of the model, such as '
                            f"'neck,head', but got {self.parts!r}; write the names in one string")
        if self.depth not in DEPTHS:
            raise ValueError(f'`depth` of `inherit` must be one of {", ".join(map(repr, DEPTHS))}, '
                             f'but got {self.depth!r}; write one of these')

    @classmethod
    def of(cls, entry: Union[str, dict, Any]) -> 'Inheritance':
        """Create it from the config: 'neck,head', or a dict of the arguments."""
        if isinstance(entry, dict):
            try:
                return cls(**entry)
            except TypeError as error:
                raise TypeError(f'`inherit` cannot be read: {error}; its keys are `parts`, `depth` '
                                'and `width`; write one of these') from error
        return cls(entry)

    def pass_on(self, teacher: nn.Module, student: nn.Module) -> None:
        """Copy weights and buffers, and log which were copied.

        Args:
            teacher (nn.Module): The teacher, with its weights.
            student (nn.Module): The student, changed in place.

        Raises:
            ValueError: If a part does not exist, or no tensor of it can be inherited.
        """
        source, target = teacher.state_dict(), student.state_dict()
        blocks = _blocks(source), _blocks(target)
        for part in self.parts:
            names = [name for name in target if _is_in(name, part)]
            if not names:
                raise ValueError(f'`inherit` contains `{part}`, but the student has no such part; '
                                 f'its parts are {", ".join(dict(student.named_children()))}; '
                                 'write one of these')
            taken, left = 0, []
            for name in names:
                given = source.get(self._renamed(name, *blocks))
                if given is not None and self.width:
                    given = _narrowed(given, target[name])
                if given is None or given.shape != target[name].shape:
                    left.append(name)
                    continue
                target[name].copy_(given)
                taken += 1
            if not taken:
                raise ValueError(
                    f'the student can inherit nothing of `{part}`: no tensor of the teacher has '
                    f'the name and shape of one of its {len(names)}, such as `{names[0]}` '
                    f'{tuple(target[names[0]].shape)}; leave the part out of `inherit`, or write '
                    '`width=True` to copy the first channels of a wider teacher')
            print_log(f'The student inherits {taken} of {len(names)} tensors of `{part}`' +
                      (f'; not {", ".join(left[:5])}' + (' ...' if len(left) > 5 else '')
                       if left else ''), 'current')

    def _renamed(self, name: str, source: Dict[str, List[int]],
                 target: Dict[str, List[int]]) -> str:
        """Name in the teacher of a tensor of the student, with the numbers of its blocks."""
        path: List[str] = []  # in the teacher
        own: List[str] = []
        for word in name.split('.'):
            here, there = '.'.join(own), '.'.join(path)
            numbers, theirs = target.get(here, []), source.get(there, [])
            own.append(word)
            if word.isdigit() and len(numbers) < len(theirs):
                word = str(theirs[self._position(numbers.index(int(word)), len(numbers),
                                                 len(theirs))])
            path.append(word)
        return '.'.join(path)

    def _position(self, number: int, count: int, of: int) -> int:
        if self.depth == 'first' or (count == 1 and self.depth == 'spread'):
            return number
        if self.depth == 'last':
            return of - count + number
        return round(number * (of - 1) / (count - 1))


def _blocks(state: Dict[str, Tensor]) -> Dict[str, List[int]]:
    """Numbers of the numbered children, by path of their parent."""
    found: Dict[str, set] = {}
    for name in state:
        for match in re.finditer(r'(?:^|(?<=\.))\d+(?=\.)', name):
            found.setdefault(name[:match.start()].rstrip('.'), set()).add(int(match.group()))
    return {path: sorted(numbers) for path, numbers in found.items()}


def _is_in(name: str, part: str) -> bool:
    first = name.split('.')[0]
    if part == 'head':
        return first not in ('backbone', 'neck', 'data_preprocessor')
    return f'{name}.'.startswith(f'{part}.')


def _narrowed(given: Tensor, like: Tensor) -> Optional[Tensor]:
    """The first channels in every dimension; None if there are not enough."""
    if given.dim() != like.dim() or any(a < b for a, b in zip(given.shape, like.shape)):
        return None
    window: Tuple[slice, ...] = tuple(slice(size) for size in like.shape)
    return given[window]
