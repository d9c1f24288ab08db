"""Stands for the interpreter on a command line: ``python -IS client.py FOLDER [Python's own ...]``.

Has the server in FOLDER run the program, and ends as it ends. Where that would not be the same as
with an interpreter of its own (other options than -u, -c and -m; another value of a variable that
is read when Python or a library starts), it becomes that interpreter.

Imports little, since it starts for every program.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys

# Read when the interpreter, a library or a module of ours starts.
READ_AT_START = (
    "CUDA_", "GOMP_", "HOME", "KMP_", "LANG", "LC_", "LD_", "MALLOC_", "MKL_", "MPL", "NUMEXPR_",
    "OMP_", "OPENBLAS_", "PYTHON", "TORCHDYNAMO_", "TORCHINDUCTOR_", "TORCH_COMPILE_", "TORCH_LOGS",
    "TZ", "XDG_",
)  # fmt: skip
# Those that the server sets itself in the program; PYTHON is for our shell scripts.
SET_IN_THE_PROGRAM = ("MALLOC_MMAP_THRESHOLD_", "PYTHON", "PYTHONUNBUFFERED")
PASSED_ON = (
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip
# Set by a test to which those variables do not matter.
FORK_ANYWAY = "FORK_ANYWAY"
INTERNAL_ERROR = 70


def at_start(environment: dict[str, str], repo_root: str) -> dict[str, str]:
    """The part of an environment that matters when a program starts."""
    part = {
        key: value
        for key, value in environment.items()
        if key.startswith(READ_AT_START) and key not in SET_IN_THE_PROGRAM
    }
    # The repository is where the server has its modules from.
    paths = part.pop("PYTHONPATH", "").split(os.pathsep)
    return {**part, "PYTHONPATH": os.pathsep.join(p for p in paths if p and p != repo_root)}


def can_be_forked(folder: str, arguments: list[str]) -> bool:
    """Whether the server can do what an interpreter would."""
    words = arguments[arguments[:1] == ["-u"] :]
    if not words or not (words[0] in ("-c", "-m") or os.path.isfile(words[0])):
        return False
    if os.environ.get(FORK_ANYWAY):
        return True
    with open(os.path.join(folder, "environment.json"), encoding="utf-8") as file:
        servers = json.load(file)
    repo_root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return at_start(dict(os.environ), repo_root) == at_start(servers, repo_root)


def ask(folder: str, arguments: list[str]) -> socket.socket:
    """Have the server start the program."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.connect(os.path.join(folder, "socket"))
    request = {
        "arguments": arguments,
        "cwd": os.getcwd(),
        "environment": dict(os.environ),
        "executable": os.path.join(folder, "python"),
        "ignored": [n for n in PASSED_ON if signal.getsignal(n) == signal.SIG_IGN],
        "umask": current_umask(),
    }
    data = json.dumps(request).encode()
    socket.send_fds(server, [len(data).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(data)
    return server


def current_umask() -> int:
    """The mask of new files, which can only be read by being set."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def end_as(status: int) -> None:
    """End by the same exit code or the same signal as the program."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


def main(folder: str, arguments: list[str]) -> None:
    """Run a program in a fork of the server."""
    if not can_be_forked(folder, arguments):
        os.execv(sys.executable, [sys.executable, *arguments])
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    server = ask(folder, arguments)
    for number in PASSED_ON:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, frame: server.send(bytes([number])))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    answer = server.recv(8)
    if not answer:
        sys.stderr.write(f"the fork server is gone, see {folder}/log.txt\n")
        os._exit(INTERNAL_ERROR)
    end_as(int.from_bytes(answer, "big"))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
