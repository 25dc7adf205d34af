"""iRNN: a recurrent layer whose state goes to an equilibrium at each input."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from lightning_fw.checks import require_count, require_positive
from lightning_fw.nn.recurrent_layer import RecurrentLayer


class EquilibriumRNN(RecurrentLayer):
    """One layer that takes a few Euler steps towards an equilibrium at each input.

    With g_0 = 0 and i = 1 … ``steps``,

        g_i = g_{i−1} + η_i [tanh(U (g_{i−1} + h_{t−1}) + W x_t + b) − α (g_{i−1} + h_{t−1})],

    and h_t is the last g. At the equilibrium tanh(U s + W x_t + b) = α s with s = h_t + h_{t−1}:
    where it is stable, s does not depend on h_{t−1}, and ∂h_t/∂h_{t−1} = −I, so that gradients
    neither vanish nor explode. α and all η_i are trained. The signature is that of
    :class:`torch.nn.RNN`, the shapes those of :class:`.RecurrentLayer`.

    The paper calls it iRNN; its initial weights have nothing to do with
    :func:`~lightning_fw.nn.irnn_`.

    Args:
        input_size: Channels of a sequence.
        hidden_size: Units of the layer.
        steps: Euler steps an input.
        step_size: All η_i at first.
        alpha: α at first.
        batch_first: Whether the batch comes before time.

    Attributes:
        weight_ih: W of shape (hidden_size, input_size), drawn from ±1/√hidden_size.
        weight_hh: U of shape (hidden_size, hidden_size), drawn likewise.
        bias: b of shape (hidden_size,), at first 0.
        alpha: α of shape (1,).
        eta: The η_i, of shape (``steps``,).

    Raises:
        TypeError: If a size or ``steps`` is not an int, or a number not one.
        ValueError: If a size or ``steps`` is less than 1, or ``step_size`` or ``alpha`` is not
            positive and finite; at a call, if x or hx has another shape.

    Example:
        >>> rnn = EquilibriumRNN(2, 8, steps=3, batch_first=True)
        >>> output, h_n = rnn(torch.zeros(4, 20, 2))
        >>> tuple(output.shape), tuple(h_n.shape)
        ((4, 20, 8), (1, 4, 8))

    Source: Kag, Zhang, Saligrama 2020, "RNNs Incrementally Evolving on an Equilibrium Manifold",
    ICLR 2020, arXiv:1908.08574.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        steps: int = 5,
        step_size: float = 0.5,
        alpha: float = 1.0,
        batch_first: bool = False,
    ) -> None:
        super().__init__(input_size, hidden_size, batch_first=batch_first)
        require_count("steps", steps)
        require_positive("step_size", step_size)
        require_positive("alpha", alpha)
        self._start = (step_size, alpha)
        self.weight_ih = nn.Parameter(torch.empty(hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(hidden_size))
        # One entry, not none: FSDP2 refuses parameters without a dimension.
        self.alpha = nn.Parameter(torch.empty(1))
        self.eta = nn.Parameter(torch.empty(steps))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the matrices anew; everything else as it was at first."""
        reach = 1 / math.sqrt(self.hidden_size)
        nn.init.uniform_(self.weight_ih, -reach, reach)
        nn.init.uniform_(self.weight_hh, -reach, reach)
        nn.init.zeros_(self.bias)
        step_size, alpha = self._start
        nn.init.constant_(self.eta, step_size)
        nn.init.constant_(self.alpha, alpha)

    @override
    def states(self, x: Tensor, first: Tensor) -> Tensor:
        inputs = functional.linear(x, self.weight_ih, self.bias)
        recurrent = self.weight_hh.t()
        step_sizes = self.eta.unbind()
        kept = (1 - self.alpha * self.eta).unbind()
        states = []
        state = first
        for z in inputs.unbind():
            # s = g + h_{t−1}, which starts at h_{t−1}: g ← g + η (tanh − α s) is one step of s.
            s = state
            for eta, keep in zip(step_sizes, kept):
                s = torch.addcmul(keep * s, eta, torch.tanh(torch.addmm(z, s, recurrent)))
            state = s - state
            states.append(state)
        return torch.stack(states)
