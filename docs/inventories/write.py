"""Writes the inventories that a build without a network falls back on: ``python write.py``.

They name what our pages link to, and nothing else.
"""

from __future__ import annotations

import zlib
from pathlib import Path

# Python object → (its kind, its page).
NAMES: dict[str, dict[str, tuple[str, str]]] = {
    "python": {
        "bool": ("class", "library/functions.html#bool"),
        "collections.abc.Callable": ("class", "library/collections.abc.html#$"),
        "collections.abc.Iterable": ("class", "library/collections.abc.html#$"),
        "collections.abc.Iterator": ("class", "library/collections.abc.html#$"),
        "collections.abc.Mapping": ("class", "library/collections.abc.html#$"),
        "collections.abc.Sequence": ("class", "library/collections.abc.html#$"),
        "dict": ("class", "library/stdtypes.html#dict"),
        "float": ("class", "library/functions.html#float"),
        "int": ("class", "library/functions.html#int"),
        "list": ("class", "library/stdtypes.html#list"),
        "os.PathLike": ("class", "library/os.html#$"),
        "pathlib.Path": ("class", "library/pathlib.html#$"),
        "str": ("class", "library/stdtypes.html#str"),
        "RuntimeError": ("exception", "library/exceptions.html#$"),
        "TypeError": ("exception", "library/exceptions.html#$"),
        "ValueError": ("exception", "library/exceptions.html#$"),
    },
    "torch": {
        "torch.Tensor": ("class", "tensors.html#$"),
        "torch.clamp": ("function", "generated/torch.clamp.html#$"),
        "torch.device": ("class", "tensor_attributes.html#$"),
        "torch.nn.Module": ("class", "generated/torch.nn.Module.html#$"),
        "torch.nn.Parameter": ("class", "generated/torch.nn.parameter.Parameter.html"),
        "torch.nn.RNN": ("class", "generated/torch.nn.RNN.html#$"),
        "torch.nn.RNNCell": ("class", "generated/torch.nn.RNNCell.html#$"),
        "torch.optim.Optimizer": ("class", "optim.html#$"),
        "torch.utils.data.DataLoader": ("class", "data.html#$"),
    },
    "lightning": {
        "lightning.pytorch.LightningModule": ("class", "common/lightning_module.html"),
        "lightning.pytorch.LightningDataModule": ("class", "data/datamodule.html"),
        "lightning.pytorch.Trainer": ("class", "common/trainer.html"),
        "lightning.pytorch.callbacks.Callback": ("class", "extensions/callbacks.html"),
    },
    "torchmetrics": {
        "torchmetrics.Metric": ("class", "references/metric.html#$"),
    },
}

_HEADER = """\
# Sphinx inventory version 2
# Project: {project}
# Version: {version}
# The remainder of this file is compressed using zlib.
"""


def write(project: str, path: Path) -> None:
    """Write one inventory."""
    lines = [
        f"{name} py:{kind} 1 {page} -" for name, (kind, page) in sorted(NAMES[project].items())
    ]
    body = "\n".join(lines) + "\n"
    header = _HEADER.format(project=project, version="links")
    path.write_bytes(header.encode() + zlib.compress(body.encode(), 9))


if __name__ == "__main__":
    for project in NAMES:
        write(project, Path(__file__).with_name(f"{project}.inv"))
