"""FastGRNN: a gated recurrent layer whose gate shares the matrices of its update."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from lightning_fw.nn.low_rank import add_matrix, draw_matrix_, matrix
from lightning_fw.nn.recurrent_layer import RecurrentLayer

# Before the sigmoid, as in the authors' code.
_ZETA, _NU = 1.0, -4.0


class FastGRNN(RecurrentLayer):
    """One layer with the gate z and the update h̃ of the same W x_t + U h_{t−1}.

    z_t = σ(W x_t + U h_{t−1} + b_z)
    h̃_t = tanh(W x_t + U h_{t−1} + b_h)
    h_t = (σ(ζ) (1 − z_t) + σ(ν)) ⊙ h̃_t + z_t ⊙ h_{t−1}

    ζ and ν are numbers, trained; the sigmoid σ keeps the two weights in (0, 1), as the paper wants
    them. The signature is that of :class:`torch.nn.RNN`, the shapes those of
    :class:`.RecurrentLayer`.

    Args:
        input_size: Channels of a sequence.
        hidden_size: Units of the layer.
        rank_ih: Rank of W, a product of two matrices; None: a whole matrix.
        rank_hh: Rank of U, likewise.
        batch_first: Whether the batch comes before time.

    Attributes:
        weight_ih: W of shape (hidden_size, input_size), of the variance of U(±1/√hidden_size); of
            low rank, ``weight_ih_left`` and ``weight_ih_right``.
        weight_hh: U of shape (hidden_size, hidden_size), likewise.
        bias_gate: b_z of shape (hidden_size,), at first 1.
        bias_update: b_h of shape (hidden_size,), at first 1.
        zeta: ζ of shape (1,), at first 1.
        nu: ν of shape (1,), at first −4.

    Raises:
        TypeError: If a size or a rank is not an int.
        ValueError: If a size or a rank is less than 1, or a rank more than its matrix can have;
            at a call, if x or hx has another shape.

    Example:
        >>> rnn = FastGRNN(2, 8, rank_ih=1, rank_hh=3, batch_first=True)
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
        rank_ih: int | None = None,
        rank_hh: int | None = None,
        batch_first: bool = False,
    ) -> None:
        super().__init__(input_size, hidden_size, batch_first=batch_first)
        add_matrix(self, "weight_ih", hidden_size, input_size, rank_ih)
        add_matrix(self, "weight_hh", hidden_size, hidden_size, rank_hh)
        self.bias_gate = nn.Parameter(torch.empty(hidden_size))
        self.bias_update = nn.Parameter(torch.empty(hidden_size))
        # One entry, not none: FSDP2 refuses parameters without a dimension.
        self.zeta = nn.Parameter(torch.empty(1))
        self.nu = nn.Parameter(torch.empty(1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the matrices anew; b_z = b_h = 1, ζ = 1, ν = −4."""
        for name in ("weight_ih", "weight_hh"):
            draw_matrix_(self, name, 1 / math.sqrt(self.hidden_size))
        nn.init.ones_(self.bias_gate)
        nn.init.ones_(self.bias_update)
        nn.init.constant_(self.zeta, _ZETA)
        nn.init.constant_(self.nu, _NU)

    @override
    def states(self, x: Tensor, first: Tensor) -> Tensor:
        inputs = functional.linear(x, matrix(self, "weight_ih"), self.bias_update)
        recurrent = matrix(self, "weight_hh").t()
        shift = self.bias_gate - self.bias_update
        zeta, nu = torch.sigmoid(self.zeta), torch.sigmoid(self.nu)
        states = []
        state = first
        for z in inputs.unbind():
            update = torch.addmm(z, state, recurrent)
            gate = torch.sigmoid(update + shift)
            weight = torch.addcmul(zeta + nu, zeta, gate, value=-1)
            state = torch.addcmul(gate * state, weight, torch.tanh(update))
            states.append(state)
        return torch.stack(states)
