"""IndRNN: a recurrent layer each of whose units recurs on itself alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from lightning_fw.checks import require_count, require_flag, require_positive
from lightning_fw.nn.bounded import bounded
from lightning_fw.nn.elementwise import relu_recurrence
from lightning_fw.nn.recurrent_layer import RecurrentLayer


def indrnn_bound(steps: int, growth: float = 2.0) -> float:
    """The bound growth^(1/T) on ∣u∣, under which no gradient grows more than ``growth`` times.

    Over T steps a gradient is multiplied by u^T at most, for the slope of a ReLU is 0 or 1.

    Args:
        steps: T, the length of the sequences.
        growth: The factor; the authors' code has 5 for sequential MNIST.

    Raises:
        TypeError: If ``steps`` is not an int, or ``growth`` not a number.
        ValueError: If ``steps`` < 1, or ``growth`` is not positive and finite.

    Example:
        >>> round(indrnn_bound(784) ** 784, 9)
        2.0

    Source: Li, Li, Cook, Zhu, Gao 2018, arXiv:1803.04831, section 3.2.
    """
    require_count("steps", steps)
    require_positive("growth", growth)
    return math.pow(growth, 1 / steps)


class IndRNN(RecurrentLayer):
    """One layer of h_t = max(0, W x_t + u ⊙ h_{t−1} + b), with ∣u∣ ≤ ``bound``.

    The bound holds where u is used: ``weight_hh`` itself may pass it, and comes back when a
    gradient points inwards; :func:`~lightning_fw.nn.bounded.bounded` says why. The signature is
    that of :class:`torch.nn.RNN`, the shapes those of :class:`.RecurrentLayer`.

    Args:
        input_size: Channels of a sequence.
        hidden_size: Units of the layer.
        bound: Of ∣u∣; :func:`indrnn_bound` has one for each length. At 1 no gradient grows,
            however long a sequence is.
        bias: Whether there is b.
        batch_first: Whether the batch comes before time.

    Attributes:
        weight_ih: W of shape (hidden_size, input_size), drawn from ±1/√hidden_size as torch does.
        weight_hh: u of shape (hidden_size,), drawn from [0, ``bound``].
        bias: b of shape (hidden_size,), or None.

    Raises:
        TypeError: If a size is not an int, ``bound`` not a number, or a bool none.
        ValueError: If a size is less than 1, or ``bound`` is not positive and finite; at a call,
            if x or hx has another shape.

    Example:
        >>> rnn = IndRNN(2, 128, bound=indrnn_bound(784), batch_first=True)
        >>> output, h_n = rnn(torch.zeros(4, 784, 2))
        >>> tuple(output.shape), tuple(h_n.shape)
        ((4, 784, 128), (1, 4, 128))

    Source: Li, Li, Cook, Zhu, Gao 2018, arXiv:1803.04831.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bound: float = 1.0,
        bias: bool = True,
        batch_first: bool = False,
    ) -> None:
        super().__init__(input_size, hidden_size, batch_first=batch_first)
        require_positive("bound", bound)
        require_flag("bias", bias)
        self.bound = bound
        self.weight_ih = nn.Parameter(torch.empty(hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(hidden_size))
        self.bias = nn.Parameter(torch.empty(hidden_size)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew; b = 0."""
        reach = 1 / math.sqrt(self.hidden_size)
        nn.init.uniform_(self.weight_ih, -reach, reach)
        nn.init.uniform_(self.weight_hh, 0, self.bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @override
    def states(self, x: Tensor, first: Tensor) -> Tensor:
        inputs = functional.linear(x, self.weight_ih, self.bias)
        return relu_recurrence(inputs, bounded(self.weight_hh, self.bound), first)
