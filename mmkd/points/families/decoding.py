"""How is a query detector run for given queries, without a second run of its encoder?"""
import inspect
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from types import SimpleNamespace
from typing import Any, Callable, Dict, Iterator, Optional

from torch import Tensor, nn

from ..recorder import replaced_forward

STEPS = ('pre_decoder', 'forward_decoder')
"""Methods of mmdet's ``DetectionTransformer`` that follow the encoder."""

Memory = Dict[str, Dict[str, Any]]
"""The arguments of each of :data:`STEPS` in a run: the output of the encoder, masks, positions."""


@contextmanager
def remembering(model: nn.Module, memory: Memory) -> Iterator[None]:
    """Keep the arguments of the methods that follow the encoder, inside the block.

    Args:
        model (nn.Module): A ``DetectionTransformer``.
        memory (dict): Where they are kept.
    """
    with ExitStack() as stack:
        for name in STEPS:
            stack.enter_context(replaced_forward(model, partial(_keep, memory, name), name))
        yield


def decode(model: Any, memory: Memory, queries: Optional[Tensor] = None) -> None:
    """Run the decoder and the head again.

    Args:
        model (nn.Module): A ``DetectionTransformer``.
        memory (dict): From :func:`remembering`.
        queries (Tensor, optional): (Q, D), in place of the learned queries. Defaults to None, the
            learned ones.
    """
    before, during = (memory[name] for name in STEPS)
    with given(model, queries):
        decoder_inputs, head_inputs = model.pre_decoder(**before)
    head_inputs.update(model.forward_decoder(**{**during, **decoder_inputs}))
    run_head(model, head_inputs)


def run_head(model: Any, inputs: Dict[str, Any]) -> None:
    """Run the head without the inputs that only its losses need."""
    wanted = inspect.signature(model.bbox_head.forward).parameters
    model.bbox_head.forward(**{name: inputs[name] for name in wanted})


@contextmanager
def given(model: Any, queries: Optional[Tensor]) -> Iterator[None]:
    """Replace the learned queries inside the block.

    An attribute of the instance hides its module of this name, so the tables of modules and
    parameters, which the Distiller and distributed wrappers share, are not changed.

    Args:
        model (nn.Module): A ``DetectionTransformer``.
        queries (Tensor, optional): (Q, D). None: nothing is replaced.
    """
    if queries is None:
        yield
        return
    count = model.num_queries
    model.__dict__['query_embedding'] = SimpleNamespace(weight=queries)
    model.__dict__['num_queries'] = len(queries)
    try:
        yield
    finally:
        del model.__dict__['query_embedding']
        model.__dict__['num_queries'] = count


def learned(model: Any) -> Tensor:
    """The learned queries of a model.

    Args:
        model (nn.Module): A ``DetectionTransformer``.

    Returns:
        Tensor: (Q, D).

    Raises:
        ValueError: If they come from the encoder, or are more than one embedding for each.
    """
    kind = type(model).__name__
    if getattr(model, 'as_two_stage', False):
        raise ValueError(f'{kind} takes its queries from the output of its own encoder '
                         '(`as_two_stage`)')
    if getattr(model, 'num_patterns', 0):
        raise ValueError(f'{kind} has several patterns for each query (`num_patterns`)')
    embedding = getattr(model, 'query_embedding', None)
    if not isinstance(embedding, nn.Embedding):
        raise ValueError(f'{kind} has no `query_embedding`')
    return embedding.weight


def _keep(memory: Memory, name: str, method: Callable) -> Callable:
    @wraps(method)
    def keeping(*args: Any, **kwargs: Any) -> Any:
        memory[name] = inspect.signature(method).bind(*args, **kwargs).arguments
        return method(*args, **kwargs)

    return keeping
