"""
LightningCLI with a file
========================

``lightning-fw fit`` is LightningCLI: the settings of a run stand in a file, here
``cli_with_a_file.yaml``, and options override them.

.. literalinclude:: cli_with_a_file.yaml
   :language: yaml
"""

import subprocess
import sys
from pathlib import Path

settings = Path(__file__).with_name("cli_with_a_file.yaml")
command = [sys.executable, "-m", "lightning_fw.cli", "fit", "--config", str(settings)]
done = subprocess.run(
    [*command, "--trainer.limit_train_batches", "60"], capture_output=True, text=True
)
print(done.stdout[-300:])
assert done.returncode == 0, done.stderr
