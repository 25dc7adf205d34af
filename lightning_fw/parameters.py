"""The parameters that an optimizer holds, and what a ball needs to know of each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lightning_fw.checks import require_count

# Gates that torch stacks along the first dimension of its recurrent weights.
_STACKED_GATES: tuple[tuple[type[nn.Module], int], ...] = (
    (nn.LSTM, 4),
    (nn.LSTMCell, 4),
    (nn.GRU, 3),
    (nn.GRUCell, 3),
)

_OF_RECURRENT_LAYERS = ("weight_ih", "weight_hh", "weight_hr")

# What torch.nn.utils.parametrize makes of a weight's name, as for weight_norm or orthogonal.
_PARAMETRIZED = re.compile(r"parametrizations\.(\w+)\.original\d*$")


@dataclass(frozen=True)
class ParameterInfo:
    """What a ball needs to know of one parameter besides its gradient.

    Attributes:
        name: Its name in the module, which :class:`~lightning_fw.ProductBall` matches.
        group: Index of its param group, which ``scope="group"`` joins.
        gates: Matrices stacked along its first dimension: 4 in an LSTM's weights, 3 in a GRU's.
        reads_symbols: Whether it reads symbols, such as characters, each a one-hot vector.

    Raises:
        TypeError: If ``gates`` is no int.
        ValueError: If it is less than 1.

    Example:
        >>> info = ParameterInfo("rnn.weight_hh_l0", gates=4)
        >>> info.is_recurrent, info.reads_input, info.is_of_head
        (True, False, False)
    """

    name: str = ""
    group: int = 0
    gates: int = 1
    reads_symbols: bool = False

    def __post_init__(self) -> None:
        require_count("gates", self.gates)

    @property
    def reads_input(self) -> bool:
        """Whether it reads the input of its layer: ``weight_ih…``, as torch's layers name it."""
        return _last_name(self.name).startswith("weight_ih")

    @property
    def is_of_head(self) -> bool:
        """Whether it is of no recurrent layer, by its name, and stacks no gates."""
        known = self.gates == 1 and bool(self.name)
        return known and not _last_name(self.name).startswith(_OF_RECURRENT_LAYERS)

    @property
    def is_recurrent(self) -> bool:
        """Whether it leads from state to state: ``weight_hh…``, likewise."""
        return _last_name(self.name).startswith("weight_hh")


def trainable(
    param_groups: Iterable[Mapping[str, Any]], module: nn.Module, kept: Iterable[Tensor] = ()
) -> tuple[list[nn.Parameter], list[ParameterInfo]]:
    """The optimizer's trainable parameters in its own order, each with its info.

    Parameters without entries are left out: there is nothing to move.

    Args:
        param_groups: ``optimizer.param_groups``.
        module: The module that owns the parameters and gives them their names. Where an attribute
            ``reads_symbols`` of it, or of a module in it, is true, its first input weights read
            symbols.
        kept: Those of them to count although they may be frozen.

    Returns:
        Parameters and infos, of equal length.

    Raises:
        TypeError: If these are no param groups.
        ValueError: If a parameter waits for the first batch to give it a shape, or none of them is
            the module's.

    Example:
        >>> import torch
        >>> module = nn.ModuleDict({"rnn": nn.GRU(2, 3), "head": nn.Linear(3, 1)})
        >>> optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
        >>> parameters, infos = trainable(optimizer.param_groups, module)
        >>> [(info.name, info.gates) for info in infos[:2]]
        [('rnn.weight_ih_l0', 3), ('rnn.weight_hh_l0', 3)]
    """
    param_groups = _require_groups(param_groups)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    gates, of_symbols = stacked_gates(module), _reading_symbols(module)
    known, told = set(map(id, kept)), set[int]()
    parameters: list[nn.Parameter] = []
    infos: list[ParameterInfo] = []
    for group, entries in enumerate(param_groups):
        for position, parameter in enumerate(entries["params"]):
            name = names.get(id(parameter), f"param_groups.{group}.{position}")
            _require_shape(name, parameter)
            counts = parameter.requires_grad or id(parameter) in known
            if not counts or parameter.numel() == 0 or id(parameter) in told:
                continue
            told.add(id(parameter))
            parameters.append(parameter)
            infos.append(
                ParameterInfo(
                    name=name,
                    group=group,
                    gates=gates.get(id(parameter), 1),
                    reads_symbols=id(parameter) in of_symbols,
                )
            )
    if parameters and not any(id(parameter) in names for parameter in parameters):
        raise ValueError(
            f"`module` must own what the optimizer holds, got a {type(module).__name__} that has "
            f"none of its {len(parameters)} parameters. Make the optimizer of this module's, after "
            "its layers have been replaced or copied."
        )
    return parameters, infos


def _require_groups(param_groups: object) -> list[Mapping[str, Any]]:
    given = param_groups if isinstance(param_groups, Iterable) else [param_groups]
    groups: list[Any] = list(given)
    for group in groups:
        if not isinstance(group, Mapping) or "params" not in group:
            raise TypeError(
                f"`param_groups` must be those of an optimizer, got a {type(group).__name__} among "
                "them. Pass optimizer.param_groups."
            )
    return groups


def _require_shape(name: str, parameter: nn.Parameter) -> None:
    if is_lazy(parameter):
        raise ValueError(
            f"`parameters` must have shapes before training, got {name} without one. Run a batch "
            "through the module before, as in setup()."
        )


def _reading_symbols(module: nn.Module) -> set[int]:
    """Ids of the weights that read symbols."""
    return {
        id(parameter)
        for child in module.modules()
        if getattr(child, "reads_symbols", False)
        for parameter in _first_input_weights(child)
    }


def _first_input_weights(module: nn.Module) -> list[nn.Parameter]:
    """What reads the module's input: the first ``weight_ih…``, and that of the other direction."""
    names = [(_plain(name), p) for name, p in module.named_parameters()]
    weights = [(name, p) for name, p in names if _last_name(name).startswith("weight_ih")]
    if not weights:
        return []
    # Parametrized weights of a layer come after its others, whatever their names.
    layer = weights[0][0].rpartition(".")[0]
    first = min(name for name, _ in weights if name.rpartition(".")[0] == layer)
    return [p for name, p in weights if name in (first, f"{first}_reverse")]


def _plain(name: str) -> str:
    """The name without what a parametrization adds to it."""
    return _PARAMETRIZED.sub(r"\1", name)


def _last_name(name: str) -> str:
    return _plain(name).rpartition(".")[2]


def stacked_gates(module: nn.Module) -> dict[int, int]:
    """How many gates are stacked in each weight of an LSTM or a GRU, torch's or another's.

    Args:
        module: Any module. Attributes ``stacked_gates`` and ``hidden_size`` of one in it say that
            its matrices of so many times ``hidden_size`` rows stack so many gates.

    Returns:
        Gates by the id of the parameter; weights of a single matrix are left out.

    Raises:
        TypeError: If one of these attributes is no int.
        ValueError: If it is less than 1.
    """
    found: dict[int, int] = {}
    for child in module.modules():
        torchs = next((gates for kind, gates in _STACKED_GATES if _is_one(child, kind)), None)
        gates: Any = torchs or getattr(child, "stacked_gates", None)
        if gates is None:
            continue
        hidden_size: Any = getattr(child, "hidden_size", None)
        if not torchs:
            require_count("stacked_gates", gates)
            require_count("hidden_size", hidden_size)
        elif hidden_size is None:  # torch.jit.trace keeps weights alone
            hidden_size = next(child.parameters()).shape[0] // gates
        for name, parameter in child.named_parameters():
            # What a parametrization keeps, lengths of columns or factors, may stack none.
            stacks = parameter.ndim == 2 and parameter.shape[0] == gates * hidden_size
            if stacks and (not torchs or _plain(name).startswith(("weight_ih", "weight_hh"))):
                found[id(parameter)] = gates
    return found


def _is_one(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether it is of that class, or was before torch.jit compiled it."""
    compiled = isinstance(module, torch.jit.ScriptModule)
    return isinstance(module, kind) or (compiled and module.original_name == kind.__name__)
