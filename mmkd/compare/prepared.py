"""Was the file of a first stage made with this teacher, at this point?"""
from typing import Any, Dict

from ..core.agreement import weights_of
from ..networks import BaseTeacher
from .term import Term


def identity_of(teacher: BaseTeacher) -> Dict[str, str]:
    """What identifies a teacher: names and hashes of its config and checkpoint, and SHA-256 of its
    weights, by which it is recognized in a file of another name or format."""
    assert teacher.model is not None, 'prepare() comes first'
    of_file = {key: value for key, value in teacher.provenance().items()
               if key in ('config', 'config_hash', 'checkpoint', 'checkpoint_hash')}
    return dict(of_file, weights=weights_of(teacher.model))


def is_same(one: Dict[str, Any], other: Dict[str, Any]) -> bool:
    """Whether two identities are those of one teacher."""
    return any(one.get(key) and one.get(key) == other.get(key)
               for key in ('checkpoint_hash', 'weights'))


def shown(identity: Dict[str, Any]) -> str:
    """The teacher of an identity, for messages."""
    digest = identity.get('checkpoint_hash') or identity.get('weights') or ''
    return f'{identity.get("checkpoint") or identity.get("config") or "a teacher"} ({digest[:8]})'


def check_prepared(term: Term, teacher: BaseTeacher) -> None:
    """Check the file of a loss that uses a module of a first stage; other losses have none.

    Args:
        term (Term): The term, with its layers.
        teacher (BaseTeacher): Its teacher.

    Raises:
        ValueError: If the file was made with another teacher or at another point, or the teacher's
            columns are in another order.
    """
    file = getattr(term.losses[0], 'file', None)
    if file is None:
        return
    about, point = file.about, term.teacher_point
    # Tokens of the logits serve those of the auxiliary head, too, as in MasKD.
    if tuple(about['paths']) != point.paths and not (
            about.get('is_logits') and point.num_classes is not None):
        raise ValueError(f'`{term.name}` compares `{point.name}` of the teacher, but `{file.path}` '
                         f'was trained at `{about["on"]}`; train one at `{point.name}`, or compare '
                         f'`{about["on"]}`')
    assert term.alignment is not None
    if term.alignment.columns is not None:
        raise ValueError(f"`{term.name}` needs the teacher's columns in their original order, but "
                         'the student has other classes, or another order; use the same classes '
                         'for both, or compare features')
    own = identity_of(teacher)
    if not is_same(about['teacher'], own):
        raise ValueError(f'`{file.path}` was trained with the teacher {shown(about["teacher"])}, '
                         f'but the teacher of this run is {shown(own)}; use a file trained with '
                         'this teacher')
