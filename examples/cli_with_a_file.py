"""
LightningCLI with a file
========================

``lightning-fw fit`` is LightningCLI: the settings of a run stand in a file, here
``cli_with_a_file.yaml``, and options override them. ``--json`` tells a program what came of it.

.. literalinclude:: cli_with_a_file.yaml
   :language: yaml
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

settings = Path(sys.argv[0]).with_name("cli_with_a_file.yaml").resolve()
command = [sys.executable, "-m", "lightning_fw.cli", "fit", "--config", str(settings)]
options = ["--trainer.limit_train_batches", "30", "--json"]
with tempfile.TemporaryDirectory() as directory:
    # Lightning writes the settings of the run into the directory that it starts in.
    done = subprocess.run([*command, *options], cwd=directory, stdout=subprocess.PIPE, text=True)
found = json.loads(done.stdout)
print(json.dumps(found, indent=2))
assert found["epochs"] == 2
assert found["metrics"]["val_metric"] > 0.9
