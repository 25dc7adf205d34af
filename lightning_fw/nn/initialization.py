"""Initial weights with which a recurrent network keeps its state over many steps."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lightning_fw.checks import require_positive
from lightning_fw.parameters import stacked_gates
from lightning_fw.tensors.foreach import working_dtype

# Standard deviation of the weights that do not recur, in section 4 of Le et al.
_IRNN_INPUT_STD = 0.001


@torch.no_grad()
def irnn_(
    module: nn.RNN | nn.RNNCell, *, scale: float = 1.0, input_std: float = _IRNN_INPUT_STD
) -> None:
    """Make a ReLU network an IRNN, which copies its state until an input changes it.

    W_hh = ``scale`` · I, W_ih ~ N(0, input_std²), b = 0, in every layer and direction.

    Args:
        module: :class:`torch.nn.RNN` or :class:`torch.nn.RNNCell` with ``nonlinearity="relu"``;
            changed in place.
        scale: Factor of the identity; the authors take 0.01 where little is to be remembered.
        input_std: Standard deviation of the weights from the input, and between layers.

    Raises:
        TypeError: If ``module`` is another module, or a number is not one.
        ValueError: If the network is not one of ReLUs, or a number is not positive and finite.

    Example:
        >>> rnn = nn.RNN(2, 3, nonlinearity="relu")
        >>> irnn_(rnn)
        >>> rnn.weight_hh_l0.tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]

    Source: Le, Jaitly, Hinton 2015, arXiv:1504.00941.
    """
    if not isinstance(module, nn.RNN | nn.RNNCell):
        raise TypeError(
            f"`module` must be a torch.nn.RNN or torch.nn.RNNCell, got {type(module).__name__}. "
            "Pass the recurrent layer itself."
        )
    if module.nonlinearity != "relu":
        raise ValueError(
            f'`module` must have nonlinearity="relu", got {module.nonlinearity!r}. '
            'Pass a torch.nn.RNN(..., nonlinearity="relu"): under tanh the state decays.'
        )
    require_positive("scale", scale)
    require_positive("input_std", input_std)
    for name, parameter in module.named_parameters():
        if name.startswith("weight_hh"):
            nn.init.eye_(parameter).mul_(scale)
        elif name.startswith("weight_ih"):
            nn.init.normal_(parameter, std=input_std)
        else:
            nn.init.zeros_(parameter)


@torch.no_grad()
def orthogonal_(module: nn.Module, *, gain: float = 1.0) -> None:
    """Make every recurrent matrix orthogonal, gate by gate.

    Each gate W of shape (hidden, hidden) of each ``weight_hh*`` gets WᵀW = gain² I. Where a
    state is projected, W of shape (hidden, projected) has orthogonal columns; of a recurrence of
    low rank, both factors are orthogonal. Vectors, such as the recurrent weights of an
    :class:`IndRNN`, and all else stay as they are.

    Args:
        module: Any module that holds recurrent layers; changed in place.
        gain: Singular values of each gate, or of the product of two factors.

    Raises:
        TypeError: If ``gain`` is not a number.
        ValueError: If ``module`` has no recurrent matrix, or ``gain`` is not positive and finite.

    Example:
        >>> gru = nn.GRU(2, 4)
        >>> orthogonal_(gru)
        >>> update = gru.weight_hh_l0[4:8]
        >>> torch.allclose(update.T @ update, torch.eye(4), atol=1e-6)
        True

    Source: Saxe, McClelland, Ganguli 2014, arXiv:1312.6120; Henaff, Szlam, LeCun 2016,
    arXiv:1602.06662.
    """
    require_positive("gain", gain)
    matrices = _recurrent_matrices(module)
    if not matrices:
        raise ValueError(
            f"`module` must hold a recurrent matrix, got {type(module).__name__} with no matrix "
            "named weight_hh*. Pass a recurrent layer, or a module that has one."
        )
    gates = stacked_gates(module)
    for name, matrix in matrices.items():
        # Of a product, whose singular values are those of its factors multiplied.
        is_factor = name.endswith(("_left", "_right"))
        for gate in matrix.chunk(gates.get(id(matrix), 1)):
            # torch has no QR decomposition in half precision.
            drawn = torch.empty_like(gate, dtype=working_dtype(gate.dtype))
            gate.copy_(nn.init.orthogonal_(drawn, math.sqrt(gain) if is_factor else gain))


def _recurrent_matrices(module: nn.Module) -> dict[str, Tensor]:
    return {
        name: parameter
        for name, parameter in module.named_parameters()
        if name.rpartition(".")[2].startswith("weight_hh") and parameter.ndim == 2
    }
