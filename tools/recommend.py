"""Which method should be tried first for a pair of models?"""
from mmkd.inspection import Pair, entries_of
from mmkd.losses.recommended import Choice, recommended


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
