"""Container of all modules with a state outside the student: connectors, losses, partners."""
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple
from weakref import WeakSet

import torch
from torch import Tensor, nn

from ..core.log import warn
from ..core.processes import world_size
from .averaging import LastPass, anchored, average_gradients, take_from_rank_0

KINDS = ('connectors', 'networks', 'losses', 'weights')
"""The order in which parameters are added to the optimizer, whose state is stored by index. A new
kind must be appended, so that older checkpoints can be resumed."""

OTHER = dict(connectors='connectors', losses='losses with layers or memory',
             weights='measured weights')

CALLED = dict(connectors='connectors', losses='layers or memory of its loss')


class SideModules:
    """All modules with a state outside the student: connectors, partners and other networks with a
    state, losses with layers or buffers, banks.

    It is not an ``nn.Module``, so that it is not part of the student's checkpoint, and so that
    copies of the student (such as that of MMEngine's EMAHook) share it.

    **Gradients.** These parameters are outside of the distributed wrapper of the student. Their
    gradients are averaged over processes in one exchange at the end of each backward pass: before a
    loss scaler unscales them, and before they are checked or clipped. :meth:`anchor` queues the
    exchange, so that a process without positions, in which no parameter gets a gradient, takes part
    in it. If gradients are accumulated over several backward passes, each exchange averages the
    whole sum: the part that was averaged before is equal in all processes, so the mean does not
    change it.

    Args:
        named (Mapping): Modules by kind ('connectors', 'networks', 'losses', or another) and name.
            A module is an ``nn.Module``, or a network of :mod:`mmkd.networks`. Among the networks,
            a :class:`mmkd.Partner` is trained, except for modules that it shares with the student.
            Defaults to {}.

    Example:
        >>> side = SideModules(dict(connectors=dict(loss_neck=nn.Conv2d(2, 4, 1))))
        >>> [name for name, _ in side.named_parameters()]
        ['connectors.loss_neck.weight', 'connectors.loss_neck.bias']
        >>> sorted(side.state_dict()['connectors'])
        ['loss_neck']
    """

    def __init__(self, named: Optional[Mapping[str, Mapping[str, Any]]] = None) -> None:
        self._modules = {kind: dict(modules) for kind, modules in (named or {}).items()}
        self._kinds = list(dict.fromkeys([*KINDS, *self._modules]))
        self._order: Dict[str, List[str]] = {}
        self._last_pass = LastPass()
        self._clipped: WeakSet[Any] = WeakSet()
        """Optimizers before whose steps the layers of losses are clipped."""

    def put(self, kind: str, modules: Mapping[str, Any]) -> None:
        """Set the modules of a kind that is created later than the others."""
        self._modules[kind] = dict(modules)

    def of(self, kind: str) -> Dict[str, Any]:
        """Modules of a kind by name, in the order of the optimizer."""
        modules = self._modules.get(kind, {})
        return {name: modules[name] for name in [*self._order.get(kind, ()), *modules]
                if name in modules}

    # --- trained parameters ---------------------------------------------------------------------

    def named_parameters(self) -> Iterator[Tuple[str, nn.Parameter]]:
        """Parameters with ``requires_grad`` by 'kind.name.parameter', without duplicates, in a
        fixed order."""
        seen = set()
        for kind in self._kinds:
            for name, module in self.of(kind).items():
                for key, parameter in trained(module):
                    if id(parameter) not in seen:
                        seen.add(id(parameter))
                        yield f'{kind}.{name}.{key}', parameter

    def parameters(self) -> List[nn.Parameter]:
        """Parameters with ``requires_grad``, in the order of :meth:`named_parameters`."""
        return [parameter for _, parameter in self.named_parameters()]

    def anchor(self, term: Tensor) -> Tensor:
        """Queue the exchange of gradients at the end of the backward pass through a term.

        All processes must call it in every forward that is followed by a backward, and add the
        result to the loss. The number of calls, and the terms, may differ between processes.

        Args:
            term (Tensor): A term of the loss, of any shape. The result requires a gradient even if
                the term does not.

        Returns:
            Tensor: The same values; ``term`` itself with one process, without trained parameters,
            or if gradients are disabled.
        """
        if world_size() == 1 or not torch.is_grad_enabled() or not self.parameters():
            return term
        return anchored(term, self.exchange, self._last_pass)

    def exchange(self) -> None:
        """Average all gradients over processes. Every process must call it.

        A missing gradient counts as zeros. If no process has a gradient, it remains None, as in a
        run with one process. The CPU waits for a GPU only if this process lacks a gradient of a
        parameter.
        """
        average_gradients(self.parameters())

    def join(self, runner: Any) -> None:
        """Add the parameters to the optimizer of a Runner; a second call changes nothing.

        Args:
            runner (Runner): The Runner, with its optimizer.

        Raises:
            TypeError: If it does not train with an OptimWrapper of one optimizer.
            ValueError: If the optimizer has no suitable group.
        """
        # Only this method needs MMEngine.
        from .beside import clip_before_steps, join_as_model, join_optimizer, lr_scale_of
        for kind in self._kinds:
            for module in self.of(kind).values():
                parameters = [one for _, one in trained(module)]
                if is_partner(module):
                    join_as_model(module.model, parameters, runner)
                elif parameters:
                    join_optimizer(parameters, runner.optim_wrapper, lr_scale_of(runner))
        optimizer = getattr(runner.optim_wrapper, 'optimizer', None)
        if optimizer is not None and optimizer not in self._clipped:
            self._clipped.add(optimizer)
            for loss in self.of('losses').values():
                clip_before_steps(loss, optimizer)

    # --- state ------------------------------------------------------------------------------------

    def start_from_rank_0(self) -> None:
        """Broadcast parameters and buffers of rank 0. Every process must call it."""
        take_from_rank_0(self.tensors())

    def tensors(self) -> List[Tensor]:
        """Parameters and buffers, trained or not, without those of networks that are only
        observed."""
        return list({id(one): one for kind in self._kinds for module in self.of(kind).values()
                     for one in tensors_of(module)}.values())

    def _apply(self, fn: Callable[[Tensor], Tensor]) -> 'SideModules':
        for kind in self._kinds:
            for module in self.of(kind).values():
                module._apply(fn)
        return self

    def state_dict(self) -> Dict[str, Dict[str, Dict[str, Any]]]:
        """The state to save in addition to the student's, on the CPU.

        Returns:
            dict: States of modules by kind and name, without empty ones; {} if all are empty.
        """
        states = {kind: {name: copied(module.state_dict())
                         for name, module in self.of(kind).items()} for kind in self._kinds}
        states = {kind: {name: state for name, state in named.items() if state}
                  for kind, named in states.items()}
        return {kind: named for kind, named in states.items() if named}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
        """Load a state of :meth:`state_dict`.

        Raises:
            ValueError: If it is the state of another distillation. Nothing is loaded then, except
                if the error comes from a network.
        """
        own = self.state_dict()
        if 'losses' in own and 'losses' not in state and not any(
                True for name, _ in self.named_parameters() if name.startswith('losses.')):
            warn('the checkpoint contains no state of losses, because it was saved by an early '
                 f'version of mmkd; buffers of {", ".join(own.pop("losses"))} start from their '
                 'initial values')
        for kind in dict.fromkeys([*self._kinds, *state]):
            check_same(kind, state.get(kind, {}), own.get(kind, {}))
        for kind in self._kinds:
            for name, module in self.of(kind).items():
                if name in state.get(kind, {}):
                    module.load_state_dict(state[kind][name])

    def keep_order(self, state: Mapping[str, Iterable[str]]) -> None:
        """Restore the order of modules in the optimizer from a saved state.

        The state of an optimizer is stored by index, so with entries of ``distill`` in another
        order, connectors of equal shapes would get each other's momentum.

        Args:
            state (Mapping): A state of :meth:`state_dict`.
        """
        self._order = {kind: list(named) for kind, named in state.items()}

    def __deepcopy__(self, memo: Dict[int, Any]) -> 'SideModules':
        return self


def layers_of(side: SideModules) -> Dict[str, List[nn.Parameter]]:
    """Trained parameters of connectors and losses, by the name of their term."""
    found: Dict[str, List[nn.Parameter]] = {}
    for kind in CALLED:
        for name, module in side.of(kind).items():
            found.setdefault(name, []).extend(one for _, one in trained(module))
    return {name: parameters for name, parameters in found.items() if parameters}


def needs_of(side: SideModules) -> str:
    """Names of the terms with connectors or layers, buffers included, for a message; '' if there
    are none."""
    return ' and '.join(f'{", ".join(side.of(kind))} needs {what}'
                        for kind, what in CALLED.items() if side.of(kind))


def is_partner(module: Any) -> bool:
    """Whether it is a trained network, which may share modules with the student."""
    return hasattr(module, 'own_parameters')


def trained(module: Any) -> Iterator[Tuple[str, nn.Parameter]]:
    """Trained parameters of a side module, by name."""
    if is_partner(module):
        own = {id(one) for one in module.own_parameters()}
        yield from ((name, one) for name, one in module.model.named_parameters() if id(one) in own)
    elif isinstance(module, nn.Module):
        yield from ((name, one) for name, one in module.named_parameters() if one.requires_grad)


def tensors_of(module: Any) -> Iterable[Tensor]:
    """Parameters and buffers of a side module, without those of the student."""
    if isinstance(module, nn.Module):
        return [*module.parameters(), *module.buffers()]
    return module.state_dict().values() if is_partner(module) else ()


def check_same(kind: str, saved: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Check that the states of a checkpoint fit these modules.

    Raises:
        ValueError: If they do not.
    """
    if kind == 'networks':  # each network checks its own tensors
        if sorted(saved) != sorted(own):
            raise ValueError(
                f'the checkpoint contains the networks {sorted(saved)} beside the student, but the '
                f'config has {sorted(own)}; resume with the `teacher` and `companions` that it was '
                'trained with, or start from its weights with `load_from` and without `resume`')
        return
    shapes = [{f'{name}.{key}': tuple(value.shape) if isinstance(value, Tensor) else
               type(value).__name__ for name, state in one.items() for key, value in state.items()}
              for one in (saved, own)]
    if shapes[0] != shapes[1]:
        differ = [{key: shape for key, shape in one.items() if other.get(key) != shape}
                  for one, other in (shapes, shapes[::-1])]
        raise ValueError(
            f'the checkpoint has other {OTHER.get(kind, kind)} than the config; only in the '
            f'checkpoint: {_few(differ[0])}, only in the config: {_few(differ[1])}; resume with '
            'the `distill` that it was trained with, or start from its weights with `load_from` '
            'and without `resume`')


def copied(state: Mapping[str, Any]) -> Dict[str, Any]:
    """Copies of the tensors on the CPU, by name, that share no memory with the originals."""
    return {key: value.detach().cpu().clone() if isinstance(value, Tensor) else value
            for key, value in state.items()}


def _few(shapes: Dict[str, Any], shown: int = 6) -> str:
    """The first of several shapes by name, for a message."""
    if not shapes:
        return 'none'
    rest = len(shapes) - shown
    first = dict(list(shapes.items())[:shown])
    return f'{first}' + (f' and {rest} more' if rest > 0 else '')
