"""What `import alignshift` brings along, and what it offers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import alignshift

# Prints the top-level packages that `import alignshift` loads beyond those that torch does.
NEW_PACKAGES = """
import sys
import torch, torch.utils.checkpoint
before = set(sys.modules)
import alignshift
print(*{name.partition(".")[0] for name in set(sys.modules) - before})
"""


def test_import_loads_nothing_beyond_torch(repo_root: Path) -> None:
    command = [sys.executable, "-W", "error::ImportWarning", "-c", NEW_PACKAGES]
    done = subprocess.run(command, cwd=repo_root, capture_output=True, text=True, check=True)
    foreign = set(done.stdout.split()) - set(sys.stdlib_module_names) - {"alignshift", "torch"}
    assert not foreign


def test_every_exported_name_exists() -> None:
    assert all(hasattr(alignshift, name) for name in alignshift.__all__)
    assert alignshift.__version__ == "0.1.0"
