"""Which hooks does a distilled model add to its run?"""
from typing import Any, Dict, List, Sequence

from mmengine.hooks import Hook
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.runner import FlexibleRunner, get_priority

from ..core.build import build_entry
from ..registry import HOOKS


class OwnHooks:
    """Hooks that the Distiller registers with the Runner that trains it.

    In ``custom_hooks`` they would replace the list of the base config. They run in training and
    its validations, not in a test.

    Args:
        entries (Sequence[dict | Hook]): As in ``custom_hooks``, ``priority`` included.

    Raises:
        TypeError: If ``entries`` is not a list, or an entry is not a hook.
        ValueError: If a hook or priority does not exist, or a hook refuses its arguments.
    """

    def __init__(self, entries: Sequence[Any] = ()) -> None:
        if not isinstance(entries, (list, tuple)):
            raise TypeError(f'`hooks` must be a list of hooks, but got {entries!r:.200}; write '
                            "for instance [dict(type='mmkd.ReseedHook')]")
        self.hooks: List[Hook] = [_build(entry, number) for number, entry in enumerate(entries)]

    def join(self, runner: Any) -> None:
        """Register the hooks, each once, and call their ``before_run`` if it is due.

        Args:
            runner (Runner | FlexibleRunner): It is about to train. MMEngine's Runner calls
                ``before_run`` of its hooks before it initializes weights, a FlexibleRunner after
                it.
        """
        joining = [hook for hook in self.hooks if not any(one is hook for one in runner.hooks)]
        for hook in joining:
            runner.register_hook(hook)
        if isinstance(runner, FlexibleRunner):
            return
        for hook in list(runner.hooks):  # in the order of their priorities
            if any(one is hook for one in joining):
                hook.before_run(runner)

    def __deepcopy__(self, memo: Dict[int, Any]) -> 'OwnHooks':
        return OwnHooks()  # a copy of the model (EMAHook makes one) is not trained


def _build(entry: Any, number: int) -> Hook:
    if isinstance(entry, Hook):
        return entry
    what = f'hook {number} of `hooks`'
    arguments = dict(entry) if isinstance(entry, dict) else entry
    priority = arguments.pop('priority', None) if isinstance(entry, dict) else None
    kind = arguments.get('type') if isinstance(entry, dict) else None
    try:
        # As in `custom_hooks`, hooks of the package of `default_scope` need no prefix.
        if isinstance(kind, str) and '.' not in kind and HOOKS.get(kind) is None:
            with MMENGINE_HOOKS.switch_scope_and_registry(None) as registry:
                arguments['type'] = registry.get(kind) or kind
        hook: Hook = build_entry(arguments, HOOKS, what, Hook)
        if priority is not None:
            get_priority(priority)
            hook.priority = priority
    except (TypeError, ValueError):
        raise
    except Exception as error:  # such as an assertion of a hook, or an unknown priority
        raise ValueError(f'{what} cannot be built: {type(error).__name__}: {error}; check '
                         f'{entry!r:.200}') from error
    return hook
