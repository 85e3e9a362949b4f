"""What is trained or saved beside the student, and in which order?"""
from typing import Any, Callable, Dict, List

from torch import Tensor, nn

from ..networks import Partner

KINDS = ('connectors', 'networks', 'losses')
"""Keys of what a checkpoint holds, in the order in which their parameters join the optimizer."""


class SideModules:
    """Connectors, partners, and losses with layers or buffers.

    Args:
        distillation (Distillation): Where they are made.
    """

    def __init__(self, distillation: Any) -> None:
        self._distillation = distillation
        self._order: List[str] = []

    def keep_order(self, state: Dict[str, Any]) -> None:
        """Have what is trained beside the student join the optimizer as it did before.

        The state of an optimizer goes by number, so entries of ``distill`` in another order would
        exchange the momentum of connectors of equal shapes.

        Args:
            state (dict): What :meth:`state_dict` gave then.
        """
        self._order = [name for kind in KINDS for name in state.get(kind, ())]

    @property
    def connectors(self) -> Dict[str, nn.ModuleList]:
        """Connectors by the name of their term; known after :meth:`Distillation.prepare`."""
        return self._in_order({part.name: part.connectors for part in self._distillation.parts
                               if part.connectors})

    @property
    def partners(self) -> Dict[str, Partner]:
        """The networks that are trained beside the student, by name."""
        return self._in_order({name: one for name, one in self._distillation.networks.items()
                               if isinstance(one, Partner)})

    @property
    def losses(self) -> Dict[str, nn.ModuleList]:
        """Losses with layers or buffers, by the name of their term."""
        return self._in_order({part.name: part.losses for part in self._distillation.parts
                               if part.loss.is_trained})

    def by_name(self) -> Dict[str, List[nn.Parameter]]:
        """Parameters by the name of their term or network, in the order of the optimizer."""
        found: Dict[str, List[nn.Parameter]] = {
            name: list(one.parameters()) for name, one in self.connectors.items()}
        found.update({name: one.own_parameters() for name, one in self.partners.items()})
        for name, one in self.losses.items():
            found[name] = [*found.get(name, ()), *one.parameters()]
        return found

    def needs(self) -> str:
        """Which terms need connectors or layers, buffers included, for a message; '' if none."""
        found = [f'{", ".join(modules)} needs {what}' for modules, what in (
            (self.connectors, 'connectors'),
            (self.losses, 'layers or buffers of its own')) if modules]
        return ' and '.join(found)

    @property
    def layers(self) -> List[nn.Parameter]:
        """Parameters of connectors and losses."""
        return [parameter for kind in (self.connectors, self.losses) for one in kind.values()
                for parameter in one.parameters()]

    @property
    def parameters(self) -> List[nn.Parameter]:
        """All that is trained and is not the student's."""
        return [*(p for one in self.connectors.values() for p in one.parameters()),
                *(p for one in self.partners.values() for p in one.own_parameters()),
                *(p for one in self.losses.values() for p in one.parameters())]

    def state_dict(self) -> Dict[str, Any]:
        """What a checkpoint must hold beside the student, on the CPU; {} if nothing."""
        kinds: Dict[str, Dict[str, Any]] = dict(
            connectors=self.connectors, networks=self._in_order(self._distillation.networks),
            losses=self.losses)
        state = {kind: {name: on_cpu(one.state_dict()) for name, one in modules.items()}
                 for kind, modules in kinds.items()}
        state['networks'] = {name: one for name, one in state['networks'].items() if one}
        return {kind: state[kind] for kind in KINDS if state[kind]}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave.

        Raises:
            ValueError: If it is that of another distillation.
        """
        own = self.state_dict()
        for kind, what in (('connectors', 'connectors'), ('losses', 'losses with layers')):
            shapes = [{f'{name}.{key}': tuple(value.shape)
                       for name, modules in one.get(kind, {}).items()
                       for key, value in modules.items()} for one in (state, own)]
            if shapes[0] != shapes[1]:
                differ = [{key: shape for key, shape in one.items() if other.get(key) != shape}
                          for one, other in (shapes, shapes[::-1])]
                raise ValueError(
                    f'the checkpoint has other {what} than the config asks for; in the checkpoint '
                    f'alone: {differ[0] or "none"}, in the config alone: {differ[1] or "none"}; '
                    'resume with the `distill` that it was trained with, or start from its weights '
                    'with `load_from` and without `resume`')
        names = [sorted(one.get('networks', {})) for one in (state, own)]
        if names[0] != names[1]:
            raise ValueError(
                f'the checkpoint holds the networks {names[0]} beside the student, the config '
                f'asks for {names[1]}; resume with the `teacher` and `companions` that it was '
                'trained with, or start from its weights with `load_from` and without `resume`')
        for kind, modules in (('connectors', self.connectors), ('losses', self.losses)):
            for name, one in modules.items():
                one.load_state_dict(state[kind][name])
        for name, one in state.get('networks', {}).items():
            self._distillation.networks[name].load_state_dict(one)

    def _apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        for part in self._distillation.parts:
            part.connectors._apply(fn)
            part.losses._apply(fn)

    def _in_order(self, named: Dict[str, Any]) -> Dict[str, Any]:
        return {name: named[name] for name in [*self._order, *named] if name in named}


def on_cpu(state: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """Tensors by name, apart from those that go on being trained."""
    return {key: value.detach().cpu().clone() for key, value in state.items()}
