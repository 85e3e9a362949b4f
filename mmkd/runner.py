"""Find the Runner that is at work: MMEngine gives a model no reference to it."""
import sys
from typing import Optional, Union

from mmengine.runner import FlexibleRunner, Runner


def current_runner() -> Optional[Union[Runner, FlexibleRunner]]:
    """The Runner on the call stack, None if the model is used by hand.

    A Runner calls ``model.init_weights()`` and ``model.train_step()`` itself, so it is among the
    callers then. A global (the visualizer's, say) could be left over from another run.
    """
    frame = sys._getframe(1)
    while frame is not None:
        caller = frame.f_locals.get('self')
        if isinstance(caller, (Runner, FlexibleRunner)):
            return caller
        frame = frame.f_back  # type: ignore[assignment]
    return None
