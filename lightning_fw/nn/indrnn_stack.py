"""Deep stacks of IndRNN layers, with batch norm and dropout between them."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from lightning_fw.checks import require_count, require_flag, require_share
from lightning_fw.nn.indrnn import IndRNN
from lightning_fw.nn.recurrent_layer import require_sequences, require_states


class IndRNNStack(nn.Module):
    """Layers of IndRNN, each followed by batch norm and dropout, as in the authors' deep networks.

    Batch norm takes its statistics over the batch and over time; a single step of a single
    sequence, which has none, it takes as in evaluation. The mask of dropout is the same at all
    steps of a sequence. The last layer's u is drawn from [1/``bound``, ``bound``]: it starts
    with a memory of the whole sequence.

    ``stack(x, hx=None)`` returns ``(output, h_n)`` with the shapes of :class:`torch.nn.RNN`: h_n
    of shape (num_layers, batch, hidden_size) has the layers' last states, as they recur, and output
    what the last batch norm and dropout make of the last layer's states.

    Args:
        input_size: Channels of a sequence.
        hidden_size: Units of each layer.
        num_layers: The authors' networks for sequential MNIST have 6.
        bound: Of ∣u∣, as :class:`IndRNN` has it.
        batch_norm: Whether there is batch norm.
        dropout: Probability that a unit is dropped.
        batch_first: Whether the batch comes before time.

    Raises:
        TypeError: If a size or ``num_layers`` is not an int, ``bound`` or ``dropout`` not a number,
            or a bool none.
        ValueError: If a size or ``num_layers`` is less than 1, ``bound`` is not positive and
            finite, or ``dropout`` not in [0, 1); at a call, if x or hx has another shape.

    Example:
        >>> stack = IndRNNStack(1, 16, bound=5 ** (1 / 784), dropout=0.1, batch_first=True)
        >>> output, h_n = stack(torch.zeros(4, 20, 1))
        >>> tuple(output.shape), tuple(h_n.shape)
        ((4, 20, 16), (6, 4, 16))

    Source: Li, Li, Cook, Zhu, Gao 2018, arXiv:1803.04831, section 4; dropout over time: Gal,
    Ghahramani 2016, arXiv:1512.05287.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        num_layers: int = 6,
        bound: float = 1.0,
        batch_norm: bool = True,
        dropout: float = 0.0,
        batch_first: bool = False,
    ) -> None:
        super().__init__()
        require_count("num_layers", num_layers)
        require_share("dropout", dropout)
        require_flag("batch_norm", batch_norm)
        require_flag("batch_first", batch_first)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.batch_first = batch_first
        self.dropout = dropout
        sizes = [input_size] + [hidden_size] * (num_layers - 1)
        self.layers = nn.ModuleList(IndRNN(size, hidden_size, bound=bound) for size in sizes)
        self.norms = nn.ModuleList(
            nn.BatchNorm1d(hidden_size) if batch_norm else nn.Identity() for _ in sizes
        )
        last = cast(IndRNN, self.layers[-1])
        nn.init.uniform_(last.weight_hh, min(bound, 1 / bound), bound)

    @override
    def forward(self, x: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        require_sequences(x, self.input_size, batch_first=self.batch_first)
        if self.batch_first:
            x = x.transpose(0, 1)
        batch = x.shape[1]
        if hx is not None:
            require_states(hx, (len(self.layers), batch, self.hidden_size))
        last = []
        for index, (layer, norm) in enumerate(zip(self.layers, self.norms)):
            states, state = layer(x, None if hx is None else hx[index : index + 1])
            last.append(state)
            x = _normed(norm, states.flatten(0, 1)).reshape(states.shape)
            if self.training and self.dropout > 0:
                x = x * functional.dropout(x.new_ones(batch, self.hidden_size), self.dropout)
        return x.transpose(0, 1) if self.batch_first else x, torch.cat(last)


def _normed(norm: nn.Module, x: Tensor) -> Tensor:
    """x of shape (rows, hidden_size) after a batch norm, or after none."""
    if len(x) > 1 or not isinstance(norm, nn.BatchNorm1d):
        normed: Tensor = norm(x)
        return normed
    return functional.batch_norm(
        x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
    )
