"""FastRNN: a recurrent layer with a weighted residual connection in time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from lightning_fw.checks import require_choice
from lightning_fw.nn.low_rank import add_matrix, draw_matrix_, matrix
from lightning_fw.nn.recurrent_layer import RecurrentLayer

Nonlinearity = Literal["tanh", "relu", "sigmoid"]

_FUNCTIONS: dict[Nonlinearity, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
}
# Before the sigmoid, as in the authors' code: a state that changes slowly.
_ALPHA, _BETA = -3.0, 3.0


class FastRNN(RecurrentLayer):
    """One layer of h_t = σ(α) φ(W x_t + U h_{t−1} + b) + σ(β) h_{t−1}.

    α and β are numbers, trained; the sigmoid σ keeps the two weights in (0, 1), as the paper wants
    them. The signature is that of :class:`torch.nn.RNN`, the shapes those of
    :class:`.RecurrentLayer`.

    Args:
        input_size: Channels of a sequence.
        hidden_size: Units of the layer.
        nonlinearity: φ: ``"tanh"``, ``"relu"`` or ``"sigmoid"``.
        rank_ih: Rank of W, a product of two matrices; None: a whole matrix.
        rank_hh: Rank of U, likewise.
        batch_first: Whether the batch comes before time.

    Attributes:
        weight_ih: W of shape (hidden_size, input_size), of the variance of U(±1/√hidden_size); of
            low rank, ``weight_ih_left`` and ``weight_ih_right``.
        weight_hh: U of shape (hidden_size, hidden_size), likewise.
        bias: b of shape (hidden_size,).
        alpha: α of shape (1,), at first −3.
        beta: β of shape (1,), at first 3.

    Raises:
        TypeError: If a size or a rank is not an int.
        ValueError: If a size or a rank is less than 1, a rank more than its matrix can have, or
            ``nonlinearity`` unknown; at a call, if x or hx has another shape.

    Example:
        >>> rnn = FastRNN(2, 8, rank_hh=3, batch_first=True)
        >>> output, h_n = rnn(torch.zeros(4, 20, 2))
        >>> tuple(output.shape), tuple(h_n.shape)
        ((4, 20, 8), (1, 4, 8))

    Source: Kusupati, Singh, Bhatia, Kumar, Jain, Varma 2018, arXiv:1901.02358.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        nonlinearity: Nonlinearity = "tanh",
        rank_ih: int | None = None,
        rank_hh: int | None = None,
        batch_first: bool = False,
    ) -> None:
        super().__init__(input_size, hidden_size, batch_first=batch_first)
        require_choice("nonlinearity", nonlinearity, get_args(Nonlinearity))
        self.nonlinearity = nonlinearity
        add_matrix(self, "weight_ih", hidden_size, input_size, rank_ih)
        add_matrix(self, "weight_hh", hidden_size, hidden_size, rank_hh)
        self.bias = nn.Parameter(torch.empty(hidden_size))
        # One entry, not none: FSDP2 refuses parameters without a dimension.
        self.alpha = nn.Parameter(torch.empty(1))
        self.beta = nn.Parameter(torch.empty(1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the matrices anew; b = 0, α = −3, β = 3."""
        for name in ("weight_ih", "weight_hh"):
            draw_matrix_(self, name, 1 / math.sqrt(self.hidden_size))
        nn.init.zeros_(self.bias)
        nn.init.constant_(self.alpha, _ALPHA)
        nn.init.constant_(self.beta, _BETA)

    @override
    def states(self, x: Tensor, first: Tensor) -> Tensor:
        inputs = functional.linear(x, matrix(self, "weight_ih"), self.bias)
        recurrent = matrix(self, "weight_hh").t()
        new, old = torch.sigmoid(self.alpha), torch.sigmoid(self.beta)
        function = _FUNCTIONS[self.nonlinearity]
        states = []
        state = first
        for z in inputs.unbind():
            state = torch.addcmul(old * state, new, function(torch.addmm(z, state, recurrent)))
            states.append(state)
        return torch.stack(states)
