"""How is all that is trained or remembered outside the student moved, averaged, saved and resumed?
"""
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

import torch
from torch import Tensor, nn

from ..core.processes import world_size
from .averaging import LastPass, anchored, average_gradients, take_from_rank_0

KINDS = ('connectors', 'networks', 'losses')
"""The order in which parameters join the optimizer, whose state goes by number. A new kind goes to
the end, so that checkpoints can be resumed that were written without it."""

OTHER = dict(connectors='connectors', losses='losses with layers or memory')

CALLED = dict(connectors='connectors', losses='layers or memory of its loss')


class SideModules:
    """All that is trained or remembered outside the student: connectors, partners and other
    networks with a state, losses with layers or buffers, banks.

    It is no ``nn.Module``, so that nothing of it gets into the student's checkpoint, and a copy of
    the student (MMEngine's EMAHook makes one) shares it.

    **Gradients.** A distributed wrapper of the student does not know these parameters. What each
    backward adds is averaged over processes in one exchange, when the backward is over: before
    gradients are unscaled by a loss scaler, looked at, or clipped. :meth:`anchor` asks for it, so
    that a process without positions, in which no parameter gets a gradient, takes part too. When
    gradients are accumulated over several backward passes, each is followed by an exchange of the
    whole sum: what was averaged before is equal in all processes and stays what it is in the mean.

    Args:
        named (Mapping): By kind ('connectors', 'networks', 'losses', or another) modules by name.
            A module is an ``nn.Module``, or a network of :mod:`mmkd.networks`, of which a
            :class:`mmkd.Partner` is trained, without what it shares with the student.
            Defaults to none.

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

    def put(self, kind: str, modules: Mapping[str, Any]) -> None:
        """Keep the modules of a kind, which are made later than the others."""
        self._modules[kind] = dict(modules)

    def of(self, kind: str) -> Dict[str, Any]:
        """Modules of a kind by name, in the order in which they join the optimizer."""
        modules = self._modules.get(kind, {})
        return {name: modules[name] for name in [*self._order.get(kind, ()), *modules]
                if name in modules}

    # --- what is trained ------------------------------------------------------------------------

    def named_parameters(self) -> Iterator[Tuple[str, nn.Parameter]]:
        """What has ``requires_grad``, by 'kind.name.parameter', each once; in a fixed order."""
        seen = set()
        for kind in self._kinds:
            for name, module in self.of(kind).items():
                for key, parameter in trained(module):
                    if id(parameter) not in seen:
                        seen.add(id(parameter))
                        yield f'{kind}.{name}.{key}', parameter

    def parameters(self) -> List[nn.Parameter]:
        """What has ``requires_grad``, in the order of :meth:`named_parameters`."""
        return [parameter for _, parameter in self.named_parameters()]

    def anchor(self, term: Tensor) -> Tensor:
        """Have the backward through a term of the loss exchange gradients when it is over.

        All processes must call it in every forward that is followed by a backward, and add what it
        returns to the loss. How often, and of which terms, may differ.

        Args:
            term (Tensor): A term of the loss, a scalar or not. Of a zero without gradient, the
                result has one all the same.

        Returns:
            Tensor: The same numbers; ``term`` itself where there is one process, nothing to train,
            or no gradient is recorded.
        """
        if world_size() == 1 or not torch.is_grad_enabled() or not self.parameters():
            return term
        return anchored(term, self.exchange, self._last_pass)

    def exchange(self) -> None:
        """Average all gradients over processes; every process calls it.

        No gradient counts as zeros, unless no process has one: then it stays None, as in one
        process. The CPU waits for a GPU only where this process has no gradient of a parameter.
        """
        average_gradients(self.parameters())

    def join(self, runner: Any) -> None:
        """Have a Runner's optimizer train them; a second call changes nothing.

        Args:
            runner (Runner): Its optimizer is built.

        Raises:
            TypeError: If it does not train with an OptimWrapper of one optimizer.
            ValueError: If the optimizer has no group that they can join.
        """
        # This needs MMEngine; all the rest works in a plain torch loop.
        from .beside import join_as_model, join_optimizer, lr_scale_of
        for kind in self._kinds:
            for module in self.of(kind).values():
                parameters = [one for _, one in trained(module)]
                if is_partner(module):
                    join_as_model(module.model, parameters, runner)
                elif parameters:
                    join_optimizer(parameters, runner.optim_wrapper, lr_scale_of(runner))

    # --- where it is, what it holds --------------------------------------------------------------

    def start_from_rank_0(self) -> None:
        """Take over parameters and buffers of process 0; every process calls it."""
        take_from_rank_0(self.tensors())

    def tensors(self) -> List[Tensor]:
        """Parameters and buffers, trained or not; of networks that are observed only, none."""
        return list({id(one): one for kind in self._kinds for module in self.of(kind).values()
                     for one in tensors_of(module)}.values())

    def _apply(self, fn: Callable[[Tensor], Tensor]) -> 'SideModules':
        for kind in self._kinds:
            for module in self.of(kind).values():
                module._apply(fn)
        return self

    def state_dict(self) -> Dict[str, Dict[str, Dict[str, Any]]]:
        """What a checkpoint must hold beside the student, on the CPU.

        Returns:
            dict: By kind and name the states of modules, without those that are empty; {} if all
            are.
        """
        states = {kind: {name: copied(module.state_dict())
                         for name, module in self.of(kind).items()} for kind in self._kinds}
        states = {kind: {name: state for name, state in named.items() if state}
                  for kind, named in states.items()}
        return {kind: named for kind, named in states.items() if named}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
        """Take up what :meth:`state_dict` gave.

        Raises:
            ValueError: If it is that of another distillation; nothing was loaded then, unless a
                network refuses its own.
        """
        own = self.state_dict()
        for kind in dict.fromkeys([*self._kinds, *state]):
            check_same(kind, state.get(kind, {}), own.get(kind, {}))
        for kind in self._kinds:
            for name, module in self.of(kind).items():
                if name in state.get(kind, {}):
                    module.load_state_dict(state[kind][name])

    def keep_order(self, state: Mapping[str, Iterable[str]]) -> None:
        """Have modules join the optimizer as they did when a state was saved.

        The state of an optimizer goes by number, so entries of ``distill`` in another order would
        exchange the momentum of connectors of equal shapes.

        Args:
            state (Mapping): What :meth:`state_dict` gave then.
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
    """Which terms need connectors or layers, buffers included, for a message; '' if none."""
    return ' and '.join(f'{", ".join(side.of(kind))} needs {what}'
                        for kind, what in CALLED.items() if side.of(kind))


def is_partner(module: Any) -> bool:
    """Whether it is a network that is trained, and may share modules with the student."""
    return hasattr(module, 'own_parameters')


def trained(module: Any) -> Iterator[Tuple[str, nn.Parameter]]:
    """Parameters of a side module that are trained, by name."""
    if is_partner(module):
        own = {id(one) for one in module.own_parameters()}
        yield from ((name, one) for name, one in module.model.named_parameters() if id(one) in own)
    elif isinstance(module, nn.Module):
        yield from ((name, one) for name, one in module.named_parameters() if one.requires_grad)


def tensors_of(module: Any) -> Iterable[Tensor]:
    """Parameters and buffers of a side module, none of those that are the student's."""
    if isinstance(module, nn.Module):
        return [*module.parameters(), *module.buffers()]
    return module.state_dict().values() if is_partner(module) else ()


def check_same(kind: str, saved: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Whether the states of a checkpoint are those of these modules.

    Raises:
        ValueError: If they are not.
    """
    if kind == 'networks':  # each looks at its own tensors
        if sorted(saved) != sorted(own):
            raise ValueError(
                f'the checkpoint holds the networks {sorted(saved)} beside the student, the config '
                f'asks for {sorted(own)}; resume with the `teacher` and `companions` that it was '
                'trained with, or start from its weights with `load_from` and without `resume`')
        return
    shapes = [{f'{name}.{key}': tuple(value.shape) if isinstance(value, Tensor) else
               type(value).__name__ for name, state in one.items() for key, value in state.items()}
              for one in (saved, own)]
    if shapes[0] != shapes[1]:
        differ = [{key: shape for key, shape in one.items() if other.get(key) != shape}
                  for one, other in (shapes, shapes[::-1])]
        raise ValueError(
            f'the checkpoint has other {OTHER.get(kind, kind)} than the config asks for; in the '
            f'checkpoint alone: {differ[0] or "none"}, in the config alone: {differ[1] or "none"}; '
            'resume with the `distill` that it was trained with, or start from its weights with '
            '`load_from` and without `resume`')


def copied(state: Mapping[str, Any]) -> Dict[str, Any]:
    """Tensors by name on the CPU, apart from those that go on being trained."""
    return {key: value.detach().cpu().clone() if isinstance(value, Tensor) else value
            for key, value in state.items()}
