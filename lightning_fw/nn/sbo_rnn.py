"""SBO-RNN: a recurrent layer whose state descends an objective that each input sets."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from lightning_fw.checks import require_choice, require_number, require_positive
from lightning_fw.nn.low_rank import add_matrix, draw_matrix_, matrix
from lightning_fw.nn.recurrent_layer import RecurrentLayer

Descent = Literal["gradient", "heavy-ball", "nesterov"]


def fit_gradient(h: Tensor, inputs: Tensor, weight: Tensor, alpha: Tensor) -> Tensor:
    """Gradient in h of ½‖αh − φ‖², where φ = max(0, hW + z).

    With r = αh − φ it is αr − (φ′ ⊙ r) Wᵀ: φ′ is a mask of zeros and ones, and no matrix of it is
    made.

    Args:
        h: Shape (batch, hidden).
        inputs: z of shape (batch, hidden).
        weight: W of shape (hidden, hidden), or its diagonal of shape (hidden,).
        alpha: α of shape (1,).

    Example:
        >>> h, z = torch.tensor([[3.0]]), torch.tensor([[1.0]])
        >>> fit_gradient(h, z, torch.ones(1), torch.tensor([2.0])).item()  # r = 2 · 3 − 4
        2.0
    """
    diagonal = weight.ndim == 1
    mixed = torch.addcmul(inputs, h, weight) if diagonal else torch.addmm(inputs, h, weight)
    features = torch.relu(mixed)
    residual = alpha * h - features
    active = residual.masked_fill(features <= 0, 0)
    back = active * weight if diagonal else active @ weight.t()
    return alpha * residual - back


class SBORNN(RecurrentLayer):
    """One layer whose state makes one step on f_t(h) = ½‖αh − max(0, hW + x_t U + b)‖² an input.

    - ``"gradient"``: h_t = h_{t−1} − η ∇f_t(h_{t−1});
    - ``"heavy-ball"``: h_t = h_{t−1} − η ∇f_t(h_{t−1}) + μ (h_{t−1} − h_{t−2});
    - ``"nesterov"``: h_t = y − η ∇f_t(y) at y = h_{t−1} + μ (h_{t−1} − h_{t−2}).

    W = I + a product of two thin matrices, or diagonal. α, η and μ are trained too; η and μ stay in
    (0, 1), as sigmoids of ``eta`` and ``mu``. Where α > ‖W‖₂, f_t has one minimum, αh = φ.
    The signature is that of :class:`torch.nn.RNN`, the shapes those of :class:`.RecurrentLayer`; hx
    has no h_{t−2}, so a sequence that goes on from an earlier one starts without momentum.

    Args:
        input_size: Channels of a sequence.
        hidden_size: Units of the layer.
        descent: The step, as above.
        rank_hh: Rank of W − I; None: W is diagonal.
        alpha: α at first.
        step_size: η at first.
        momentum: μ at first, where the step has it.
        batch_first: Whether the batch comes before time.

    Attributes:
        weight_ih: Uᵀ of shape (hidden_size, input_size), drawn from ±1/√hidden_size.
        weight_hh: W's diagonal of shape (hidden_size,), at first 1; of a rank, ``weight_hh_left``
            and ``weight_hh_right``, whose product starts with singular values of about ½.
        bias: b of shape (hidden_size,), at first 0.
        alpha: α of shape (1,).
        eta: Of shape (1,); η is its sigmoid.
        mu: Of shape (1,); μ is its sigmoid. None with ``"gradient"``.

    Raises:
        TypeError: If a size or ``rank_hh`` is not an int, or a number not one.
        ValueError: If a size or ``rank_hh`` is less than 1, ``rank_hh`` above ``hidden_size``,
            ``descent`` unknown, ``alpha`` not positive and finite, or ``step_size`` or
            ``momentum`` not in (0, 1); at a call, if x or hx has another shape.

    Example:
        >>> rnn = SBORNN(2, 8, descent="nesterov", rank_hh=3, batch_first=True)
        >>> output, h_n = rnn(torch.zeros(4, 20, 2))
        >>> tuple(output.shape), tuple(h_n.shape)
        ((4, 20, 8), (1, 4, 8))

    Source: Zhang et al. 2021, "SBO-RNN: Reformulating Recurrent Neural Networks via Stochastic
    Bilevel Optimization", NeurIPS 2021.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        descent: Descent = "gradient",
        rank_hh: int | None = None,
        alpha: float = 2.0,
        step_size: float = 0.1,
        momentum: float = 0.5,
        batch_first: bool = False,
    ) -> None:
        super().__init__(input_size, hidden_size, batch_first=batch_first)
        require_choice("descent", descent, get_args(Descent))
        require_positive("alpha", alpha)
        _require_between("step_size", step_size)
        _require_between("momentum", momentum)
        self.descent = descent
        self.rank_hh = rank_hh
        self._start = (alpha, step_size, momentum)
        self.weight_ih = nn.Parameter(torch.empty(hidden_size, input_size))
        self.bias = nn.Parameter(torch.empty(hidden_size))
        if rank_hh is None:
            self.weight_hh = nn.Parameter(torch.empty(hidden_size))
        else:
            add_matrix(self, "weight_hh", hidden_size, hidden_size, rank_hh)
        # One entry, not none: FSDP2 refuses parameters without a dimension.
        self.alpha = nn.Parameter(torch.empty(1))
        self.eta = nn.Parameter(torch.empty(1))
        self.mu = None if descent == "gradient" else nn.Parameter(torch.empty(1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the matrices anew; everything else as it was at first."""
        reach = 1 / math.sqrt(self.hidden_size)
        nn.init.uniform_(self.weight_ih, -reach, reach)
        nn.init.zeros_(self.bias)
        if self.rank_hh is None:
            nn.init.ones_(self.weight_hh)
        else:
            # ‖W − I‖_F² is rank_hh / 3 on average.
            draw_matrix_(self, "weight_hh", math.sqrt(self.rank_hh) / self.hidden_size)
        alpha, step_size, momentum = self._start
        nn.init.constant_(self.alpha, alpha)
        nn.init.constant_(self.eta, _logit(step_size))
        if self.mu is not None:
            nn.init.constant_(self.mu, _logit(momentum))

    def recurrence(self) -> Tensor:
        """W of shape (hidden_size, hidden_size), or its diagonal of shape (hidden_size,)."""
        weight = matrix(self, "weight_hh")
        if self.rank_hh is None:
            return weight
        return weight + torch.eye(self.hidden_size, dtype=weight.dtype, device=weight.device)

    @override
    def states(self, x: Tensor, first: Tensor) -> Tensor:
        inputs = functional.linear(x, self.weight_ih, self.bias)
        weight = self.recurrence()
        eta = torch.sigmoid(self.eta)
        mu = None if self.mu is None else torch.sigmoid(self.mu)
        states = []
        state = before = first
        for z in inputs.unbind():
            ahead = state if mu is None else torch.addcmul(state, mu, state - before)
            point = ahead if self.descent == "nesterov" else state
            slope = fit_gradient(point, z, weight, self.alpha)
            state, before = torch.addcmul(ahead, eta, slope, value=-1), state
            states.append(state)
        return torch.stack(states)


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def _require_between(name: str, value: float) -> None:
    require_number(name, value)
    if not 0 < value < 1:
        raise ValueError(f"`{name}` must be in (0, 1), got {value}. Pass 0 < {name} < 1.")
