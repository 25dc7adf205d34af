"""Initial weights with which a recurrent network keeps its state over many steps."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lightning_fw.checks import require_count, require_positive
from lightning_fw.parameters import stacked_gates
from lightning_fw.tensors.foreach import working_dtype

# Standard deviation of the weights that do not recur, in section 4 of Le et al.
_IRNN_INPUT_STD = 0.001

_GATED = (nn.LSTM, nn.LSTMCell, nn.GRU, nn.GRUCell)


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


@torch.no_grad()
def chrono_(module: nn.Module, steps: int) -> None:
    """Let the gates of LSTM and GRU layers keep a state over so many time steps.

    A unit begins to forget after t steps, with t ~ U(1, ``steps`` − 1): the biases of an LSTM's
    forget gates add up to log t and those of its input gates to −log t, those of a GRU's update
    gates, which keep in torch, to log t. All else stays as it is.

    Args:
        module: A ``torch.nn.LSTM``, GRU, LSTMCell or GRUCell, or any module that holds some;
            changed in place.
        steps: The longest time over which something is to be remembered, at least 3.

    Raises:
        TypeError: If ``steps`` is not an int.
        ValueError: If ``steps`` is less than 3, or ``module`` holds no such layer, or one without
            biases.

    Example:
        >>> lstm = nn.LSTM(2, 4)
        >>> chrono_(lstm, steps=100)
        >>> i, f, g, o = (lstm.bias_ih_l0 + lstm.bias_hh_l0).chunk(4)
        >>> bool((f > 0).all() and (f < 4.6).all()), torch.equal(i, -f)
        (True, True)

    Source: Tallec, Ollivier 2018, arXiv:1804.11188.
    """
    require_count("steps", steps, least=3)
    layers = [layer for layer in module.modules() if isinstance(layer, _GATED)]
    if not layers or not all(layer.bias for layer in layers):
        found = "a layer without biases" if layers else type(module).__name__
        raise ValueError(
            f"`module` must hold LSTM or GRU layers with biases, got {found}. Pass one that does."
        )
    for layer in layers:
        for name, inner in layer.named_parameters():
            if name.startswith("bias_ih"):
                outer = layer.get_parameter(name.replace("_ih", "_hh"))
                is_lstm = isinstance(layer, nn.LSTM | nn.LSTMCell)
                _keep_for(steps, inner, outer, is_lstm=is_lstm)


def _keep_for(steps: int, bias: Tensor, other: Tensor, *, is_lstm: bool) -> None:
    """All of the gates' bias in one of the two that are added up."""
    # torch has an LSTM's input gate first and its forget gate second, and of a GRU second the
    # update gate, which keeps the state.
    gates, others = (bias.chunk(4), other.chunk(4)) if is_lstm else (bias.chunk(3), other.chunk(3))
    kept = torch.empty_like(gates[1], dtype=torch.float32).uniform_(1, steps - 1).log_()
    gates[1].copy_(kept)
    others[1].zero_()
    if is_lstm:
        gates[0].copy_(-kept)
        others[0].zero_()


def _recurrent_matrices(module: nn.Module) -> dict[str, Tensor]:
    return {
        name: parameter
        for name, parameter in module.named_parameters()
        if name.rpartition(".")[2].startswith("weight_hh") and parameter.ndim == 2
    }
