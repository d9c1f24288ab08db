"""The command that runs Python programs in forks of a process which has everything imported."""

from __future__ import annotations

import atexit
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPO_ROOT = HERE.parents[1]
# Coverage measures the programs, by `become` in server.py, not the process that forks.
NOT_FOR_THE_SERVER = ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")


def server_environment() -> dict[str, str]:
    """What the server is started with: one thread, and the repository on Python's path."""
    kept = {key: value for key, value in os.environ.items() if key not in NOT_FOR_THE_SERVER}
    paths = [path for path in kept.get("PYTHONPATH", "").split(os.pathsep) if path]
    if str(REPO_ROOT) not in paths:
        paths.append(str(REPO_ROOT))
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}


@cache
def python() -> str:
    """A command to be used in place of ``sys.executable``.

    The first call starts the process that forks. It ends with this one.
    """
    # Paths of sockets are short: not below pytest's folder.
    folder = Path(tempfile.mkdtemp(prefix="forked-"))
    environment = server_environment()
    (folder / "environment.json").write_text(json.dumps(environment), encoding="utf-8")
    command = folder / "python"
    client = shlex.join([sys.executable, "-IS", str(HERE / "client.py"), str(folder)])
    command.write_text(f'#!/bin/sh\nexec {client} "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, str(HERE / "server.py"), str(folder)],
            stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=REPO_ROOT, start_new_session=True,
            env={key: value for key, value in environment.items() if key != "PYTHONPATH"},
        )  # fmt: skip
    atexit.register(stop, server)
    wait_for(folder / "socket", server)
    return str(command)


def wait_for(socket: Path, server: subprocess.Popen[bytes]) -> None:
    """Wait until the server listens; it still imports while the first programs wait for it."""
    while not socket.exists():
        if server.poll() is not None:
            raise RuntimeError(f"it has ended, see above: {server.args}")
        time.sleep(0.01)


def stop(server: subprocess.Popen[bytes]) -> None:
    """Let the server end: its standard input ends. It takes its folder away."""
    assert server.stdin is not None
    server.stdin.close()
    server.wait(timeout=60)
