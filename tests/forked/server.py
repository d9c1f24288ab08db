"""Imports everything once, then forks for each Python program: ``python server.py FOLDER``.

Listens on ``FOLDER/socket`` for ``client.py``. For each program there is a keeper, forked from the
server, which passes on signals and the exit status, and the program itself, forked from the keeper.

As in an interpreter of its own: arguments, working folder, environment, ``sys.path``, ``__main__``,
standard input and outputs down to their file descriptors, exit code, traceback, signals, a session
of its own, exit handlers, numbers drawn at random.

Not so: everything is imported already, so a forgotten import does not fail, what modules print or
do while they are imported is not seen, nor what they read of the environment (``client.py`` knows
the variables that matter). Peaks of memory begin with what the server has. ``sys.executable`` is
the client, so that programs started by a program begin as quickly. Tests of all that need
``sys.executable``.

The server itself computes nothing: threads do not survive a fork.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, NoReturn

MODULES = (
    "alignshift", "deeplesion.components", "highdicom", "matplotlib.pyplot", "mmdet.apis",
    "pydicom", "SimpleITK", "torch.distributed.run", "torch.utils.cpp_extension",
    "torch.utils.tensorboard", "torchvision", "yapf.yapflib.yapf_api",
)  # fmt: skip
M_MMAP_THRESHOLD = -3  # of mallopt(3)
Program = Callable[[], None]


def import_everything() -> None:
    """What takes long."""
    for name in MODULES:
        importlib.import_module(name)
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise RuntimeError(f"importing has started {threads - 1} threads, which forks would lack")
    gc.collect()
    gc.freeze()


def read_request(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """What a client wants, and its standard input, output and error output."""
    header, descriptors, _, _ = socket.recv_fds(connection, 8, 3)
    missing, parts = int.from_bytes(header, "big"), []
    while missing:
        parts.append(connection.recv(missing))
        missing -= len(parts[-1])
    return json.loads(b"".join(parts)), descriptors


def keep(connection: socket.socket, pid: int) -> None:
    """Pass signals on to a program, and its exit status to the client."""
    descriptor = os.pidfd_open(pid)
    waited = [connection, descriptor]
    while True:
        ready, _, _ = select.select(waited, [], [])
        if descriptor in ready:
            break
        signals = connection.recv(64)
        for number in signals or [signal.SIGKILL]:
            os.kill(pid, number)
        if not signals:  # the client was killed
            waited.remove(connection)
    status = os.waitpid(pid, 0)[1]
    if connection in waited:
        connection.sendall(status.to_bytes(8, "big"))


def new_main(**names: Any) -> dict[str, Any]:
    """A fresh ``__main__``; its names."""
    module = sys.modules["__main__"] = ModuleType("__main__")
    module.__dict__.update(__builtins__=__builtins__, __spec__=None, **names)
    return module.__dict__


def run_to_its_end(program: Program) -> NoReturn:
    """Run a program, then what an interpreter does at its end but for taking itself down.

    That takes longer than many of the programs.
    """
    code: object = 0
    try:
        program()
    except SystemExit as exit_:
        code = exit_.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException as error:
        sys.excepthook(type(error), error, trace_of_program(error))
        code = 1 if not isinstance(error, KeyboardInterrupt) else None
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for output in (sys.stdout, sys.stderr):
        if not output.closed:
            output.flush()
    if code is None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code & 0xFF)


def trace_of_program(error: BaseException) -> TracebackType | None:
    """The traceback of an error, from where the program begins."""
    trace = error.__traceback__
    ours = (__file__, runpy.__file__, "<frozen runpy>")
    while trace is not None and trace.tb_frame.f_code.co_filename in ours:
        trace = trace.tb_next
    error.__traceback__ = trace
    return trace


def prepare(arguments: list[str], standard: list[str]) -> Program:
    """Set ``sys.argv`` and ``sys.path`` for a command line; what is to be run.

    Args:
        arguments: A script, ``-c`` and code, or ``-m`` and a module, and the arguments of these.
        standard: ``sys.path`` without the program's folder and ``PYTHONPATH``.
    """
    kind, rest = arguments[0], arguments[1:]
    places = {"-c": "", "-m": os.getcwd()}
    first = places[kind] if kind in places else str(Path(kind).resolve().parent)
    more = [os.path.abspath(p) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    sys.path[:] = [first, *dict.fromkeys([*more, *standard])]
    sys.argv[:] = arguments if kind not in places else [kind, *rest[1:]]
    if kind == "-m":
        new_main()
        return lambda: runpy._run_module_as_main(rest[0])  # type: ignore[attr-defined]
    source, name = (rest[0], "<string>") if kind == "-c" else (Path(kind).read_bytes(), kind)
    names = {} if kind == "-c" else {"__file__": os.path.abspath(kind)}

    def run() -> None:
        exec(compile(source, name, "exec", dont_inherit=True), new_main(**names))

    return run


def set_signals(ignored: list[int]) -> None:
    """As at the start of an interpreter."""
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
    interrupt = signal.SIG_IGN if signal.SIGINT in ignored else signal.default_int_handler
    signal.signal(signal.SIGINT, interrupt)


def set_malloc(threshold: str | None) -> None:
    """What glibc does at its start: memory above a threshold is given back when it is freed."""
    if threshold is not None:
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, int(threshold))


def become(request: dict[str, Any], descriptors: list[int], standard: list[str]) -> Program:
    """Make this process, just forked, the one that a client wants; what it is to run."""
    os.setsid()
    set_signals(request["ignored"])
    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.chdir(request["cwd"])
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None  # torch asks for it while it is imported, which keeps the answer
    set_malloc(os.environ.get("MALLOC_MMAP_THRESHOLD_"))
    unbuffered, words = request["arguments"][:1] == ["-u"], request["arguments"]
    if unbuffered or os.environ.get("PYTHONUNBUFFERED"):
        sys.stdout.reconfigure(write_through=True)
    sys.executable = request["executable"]
    sys.modules["numpy"].random.seed()  # Python's own generator sees to itself
    sys.modules["torch"].default_generator.seed()
    if {"COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START"} & set(os.environ):
        importlib.import_module("coverage").process_startup(force=True)
    return prepare(words[unbuffered:], standard)


def serve(connection: socket.socket, standard: list[str]) -> Program:
    """In a fork of the server: keep the program of one client; returns in the program alone."""
    with connection:
        request, descriptors = read_request(connection)
        pid = os.fork()
        if pid:
            for descriptor in descriptors:
                os.close(descriptor)
            keep(connection, pid)
            os._exit(0)
    return become(request, descriptors, standard)


def reap() -> None:
    """Let keepers that are done go, so that their time is counted."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def listen(folder: str) -> Program:
    """Serve clients until standard input ends; returns in the programs, and at the end."""
    standard = sys.path[1:]
    environment = json.loads(Path(folder, "environment.json").read_text(encoding="utf-8"))
    sys.path[:] = [*filter(None, environment["PYTHONPATH"].split(os.pathsep)), *standard]
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(os.path.join(folder, "socket"))
        listener.listen(128)
        import_everything()
        while True:
            ready, _, _ = select.select([listener, sys.stdin.fileno()], [], [], 1.0)
            reap()
            if sys.stdin.fileno() in ready:
                return partial(shutil.rmtree, folder)
            if listener in ready:
                connection, _ = listener.accept()
                if os.fork():
                    connection.close()
                else:
                    listener.close()
                    return serve(connection, standard)


if __name__ == "__main__":
    run_to_its_end(listen(sys.argv[1]))
