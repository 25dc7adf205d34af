"""What the recurrent layers here share with torch's: the signature, its shapes and its checks."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from typing_extensions import override

from lightning_fw.checks import require_count, require_flag


class RecurrentLayer(nn.Module, ABC):
    """One recurrent layer with the signature of :class:`torch.nn.RNN`.

    ``layer(x, hx=None)`` returns ``(output, h_n)``:

    - x: (time, batch, input_size), or (batch, time, input_size) with ``batch_first``;
    - hx: (1, batch, hidden_size), the first state; zeros by default;
    - output: the states of all steps, laid out as x;
    - h_n: (1, batch, hidden_size), the last state.

    Args:
        input_size: Channels of a sequence.
        hidden_size: Units of the layer.
        batch_first: Whether the batch comes before time.

    Raises:
        TypeError: If a size is not an int, or ``batch_first`` not a bool.
        ValueError: If a size is less than 1; at a call, if x or hx has another shape.
    """

    def __init__(self, input_size: int, hidden_size: int, *, batch_first: bool = False) -> None:
        super().__init__()
        require_count("input_size", input_size)
        require_count("hidden_size", hidden_size)
        require_flag("batch_first", batch_first)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.batch_first = batch_first

    @abstractmethod
    def states(self, x: Tensor, first: Tensor) -> Tensor:
        """The states of all steps.

        Args:
            x: Shape (time, batch, input_size).
            first: The state before the first step, shape (batch, hidden_size).

        Returns:
            Shape (time, batch, hidden_size).
        """

    @override
    def forward(self, x: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        require_sequences(x, self.input_size, batch_first=self.batch_first)
        if self.batch_first:
            x = x.transpose(0, 1)
        shape = (1, x.shape[1], self.hidden_size)
        if hx is None:
            hx = torch.zeros(shape, dtype=x.dtype, device=x.device)
        require_states(hx, shape)
        states = self.states(x, hx[0])
        return states.transpose(0, 1) if self.batch_first else states, states[-1:]

    @override
    def extra_repr(self) -> str:
        layout = ", batch_first=True" if self.batch_first else ""
        return f"{self.input_size}, {self.hidden_size}{layout}"


def require_sequences(x: Tensor, input_size: int, *, batch_first: bool) -> None:
    """Raise unless x holds sequences of at least one step with ``input_size`` channels."""
    time = 1 if batch_first else 0
    if x.ndim == 3 and x.shape[2] == input_size and x.shape[time] > 0:
        return
    layout = "(batch, time, {})" if batch_first else "(time, batch, {})"
    raise ValueError(
        f"`x` must have the shape {layout.format(input_size)} with time >= 1, "
        f"got {tuple(x.shape)}. Pass sequences of {input_size} channels; batch_first says which "
        "dimension is which."
    )


def require_states(hx: Tensor, shape: tuple[int, int, int]) -> None:
    """Raise unless ``hx`` has the shape (layers, batch, hidden_size)."""
    if hx.shape != shape:
        raise ValueError(
            f"`hx` must have the shape {shape}, got {tuple(hx.shape)}. "
            "Pass h_n of an earlier call with a batch of the same size, or None."
        )
