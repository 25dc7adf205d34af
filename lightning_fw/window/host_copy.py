"""A number of a device on its way to the host, while the device works on."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_fw.tensors.scalars import Scalar


class HostCopy:
    """Copies a number when the device comes to it, and waits for no more than that.

    Copies of it, and what is unpickled, hold 0.

    Example:
        >>> import copy
        >>> number = HostCopy()
        >>> number.send(torch.tensor(3.0))
        >>> number.read(), copy.copy(number).read()
        (3.0, 0.0)
        >>> number.forget()
        >>> number.read()
        0.0
    """

    def __init__(self) -> None:
        self._number: Scalar = 0.0
        self._arrived: torch.cuda.Event | None = None
        self.forget()

    def __reduce__(self) -> tuple[type[HostCopy], tuple[()]]:
        return HostCopy, ()

    def send(self, number: Scalar) -> None:
        """Ask for a copy of the number as it is now in the order of the device's work."""
        self._is_sent = True
        if not (isinstance(number, Tensor) and number.is_cuda):
            self._number = number
            return
        if self._arrived is None:
            self._number = torch.empty((), dtype=number.dtype, device="cpu", pin_memory=True)
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        assert isinstance(self._number, Tensor)
        self._number.copy_(number, non_blocking=True)
        self._arrived.record(torch.cuda.current_stream(number.device))

    def forget(self) -> None:
        """Hold 0 until the next is sent."""
        self._is_sent = False

    def read(self) -> float:
        """The number sent last, when it has arrived; 0 where there is none."""
        if not self._is_sent:
            return 0.0
        if self._arrived is not None:
            self._arrived.synchronize()
        return float(self._number)
