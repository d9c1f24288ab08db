"""The launcher of workers, and the scripts that call it, with toy tools."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.tools.running import REPO_ROOT
from tools import launch
from tools.launch import FORWARDED, REQUEUE, Launch, main

LAUNCH = REPO_ROOT / "tools/launch.py"
PATIENCE = 120
# Says that it is ready; ends with 75, a while after it has been told to.
GRACEFUL = """
import os, signal, sys, time
def stop(number, frame):
    time.sleep(0.5)
    os.write(1, b"saved after %d\\n" % number)  # at once, whoever writes beside it
    sys.exit(75)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGUSR1, stop)
print("ready", os.environ["LOCAL_RANK"], flush=True)
time.sleep(100)
"""
SLEEP = 200
IDLE = f"import time\nprint('ready', flush=True)\ntime.sleep({SLEEP})"
# Fails until it is told to go on from a checkpoint.
FRAGILE = """
import os, sys
print(os.environ["RANK"], sys.argv[1:], flush=True)
sys.exit(0 if "--resume" in sys.argv and os.environ["TORCHELASTIC_RESTART_COUNT"] == "1" else 3)
"""


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Give the signals back to pytest."""
    before = {name: signal.getsignal(name) for name in FORWARDED}
    yield
    for name, handler in before.items():
        signal.signal(name, handler)


def tool(folder: Path, text: str, name: str = "tool.py") -> Path:
    """A tool."""
    (folder / name).write_text(text)
    return folder / name


def start(*command: object, **env: str) -> subprocess.Popen[str]:
    """A process whose output can be read."""
    return subprocess.Popen(
        [*map(str, command)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHON": sys.executable, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def read_until(process: subprocess.Popen[str], text: str, times: int = 1) -> str:
    """The output up to some text."""
    lines = []
    while times and (line := process.stdout.readline()):
        lines.append(line)
        times -= line.startswith(text)  # warnings may say "already"
    return "".join(lines)


def as_worker(folder: Path, script: Path, *arguments: str) -> subprocess.Popen[str]:
    """A worker without a launcher."""
    return start(
        sys.executable, LAUNCH, "--as-worker", folder, script, *arguments, LOCAL_RANK="0"
    )  # fmt: skip


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (3, 3), (REQUEUE, 0)])
def test_worker_hides_an_exit_to_be_requeued_from_torchrun(
    code: int, expected: int, tmp_path: Path
) -> None:
    script = tool(tmp_path, f"import sys\nprint(sys.argv, sys.path[0])\nsys.exit({code})")
    worker = as_worker(tmp_path, script, "--option", "1")
    output, _ = worker.communicate(timeout=PATIENCE)
    assert output.strip() == f"{[str(script), '--option', '1']} {tmp_path}"
    assert worker.returncode == expected
    assert (tmp_path / "0.requeue").exists() == (code == REQUEUE)
    assert (tmp_path / f"0-{worker.pid}.pid").exists()


def test_worker_that_is_not_ready_yet_has_nothing_to_lose(tmp_path: Path) -> None:
    worker = as_worker(tmp_path, tool(tmp_path, IDLE))
    read_until(worker, "ready")
    worker.send_signal(signal.SIGUSR1)
    assert worker.wait(PATIENCE) == 0
    assert (tmp_path / "0.requeue").exists()


def test_a_signal_that_finds_no_worker_yet_stops_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Told to all after this one has looked, and before it can be told."""
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setattr(launch, "_die_with_parent", lambda: (tmp_path / launch.STOP).touch())
    assert launch.work(tmp_path, str(tool(tmp_path, "print('begun')")), []) == 0
    assert capsys.readouterr().out == ""
    assert not list(tmp_path.glob("*.pid"))


def test_worker_does_not_begin_again_when_all_are_to_stop(tmp_path: Path) -> None:
    (tmp_path / "stop").touch()
    worker = as_worker(tmp_path, tool(tmp_path, "print('begun')"))
    assert worker.communicate(timeout=PATIENCE)[0] == ""
    assert worker.returncode == 0


def test_worker_dies_with_its_parent(tmp_path: Path) -> None:
    script = tool(tmp_path, IDLE)
    code = (
        f"import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, {str(LAUNCH)!r}, '--as-worker', {str(tmp_path)!r}, "
        f"{str(script)!r}])\ntime.sleep(100)"
    )
    parent = start(sys.executable, "-c", code, LOCAL_RANK="0")
    read_until(parent, "ready")
    parent.kill()
    # The pipe is closed when the last of both has ended, and the worker would sleep for longer.
    parent.communicate(timeout=SLEEP / 2)


def test_signals_go_to_the_workers_and_decide_on_the_exit(tmp_path: Path) -> None:
    worker = as_worker(tmp_path, tool(tmp_path, GRACEFUL))
    read_until(worker, "ready")
    own = Launch(tmp_path)
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    assert own.run(lambda: worker.wait(PATIENCE)) == REQUEUE
    assert f"saved after {signal.SIGTERM:d}" in worker.stdout.read()
    assert (tmp_path / "stop").exists()


@pytest.mark.parametrize("begun", [False, True])
def test_only_what_has_not_begun_is_requeued_by_a_signal_at_the_end(
    begun: bool, tmp_path: Path
) -> None:
    if begun:
        worker = as_worker(tmp_path, tool(tmp_path, "pass"))
        assert worker.wait(PATIENCE) == 0
    own = Launch(tmp_path)
    own.resumable = True
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
    assert own.run(lambda: time.sleep(0.5)) == (0 if begun else REQUEUE)


def test_training_that_has_not_begun_is_requeued_on_sigterm_too(tmp_path: Path) -> None:
    worker = as_worker(tmp_path, tool(tmp_path, IDLE, "train.py"))
    read_until(worker, "ready")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE) == 0
    assert (tmp_path / "0.requeue").exists()


@pytest.mark.parametrize(
    ("number", "resumable", "expected"),
    [
        (signal.SIGTERM, False, 143),
        (signal.SIGTERM, True, REQUEUE),
        (signal.SIGUSR1, False, REQUEUE),
        (signal.SIGINT, True, 130),
    ],
)
def test_signals_before_there_are_workers(
    number: int, resumable: bool, expected: int, tmp_path: Path
) -> None:
    own = Launch(tmp_path)
    own.resumable = resumable
    os.kill(os.getpid(), number)
    assert own.run(lambda: None) == expected


def test_what_asks_twice_is_in_a_hurry(tmp_path: Path) -> None:
    stubborn = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n" + IDLE
    worker = as_worker(tmp_path, tool(tmp_path, stubborn))
    read_until(worker, "ready")
    own = Launch(tmp_path)
    for _ in range(2):
        assert worker.poll() is None
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
    assert own.run(lambda: worker.wait(PATIENCE)) == 128 + signal.SIGINT
    assert worker.returncode == -signal.SIGKILL


class WorkersError(Exception):
    """What torchrun raises when workers have failed."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exitcode {code}")
        self.failures = {0: SimpleNamespace(exitcode=code)}


def failing(error: Exception) -> Callable[[], None]:
    """A torchrun that ends so."""

    def run() -> None:
        raise error

    return run


@pytest.mark.parametrize(("code", "expected"), [(3, 1), (REQUEUE, REQUEUE)])
def test_failed_workers(
    code: int, expected: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Launch(tmp_path).run(failing(WorkersError(code))) == expected
    assert (f"exitcode {code}" in capsys.readouterr().err) == (code == 3)


def test_what_others_wish_when_a_worker_has_failed_counts_only_after_a_signal(
    tmp_path: Path,
) -> None:
    # By torchrun's SIGTERM, which the launcher itself was not sent.
    (tmp_path / "1.requeue").touch()
    own = Launch(tmp_path)
    assert own.run(failing(WorkersError(3))) == 1
    own.received = signal.SIGTERM
    assert own.run(failing(WorkersError(3))) == REQUEUE


def test_mistakes_of_torchrun_itself_are_shown(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="port"):
        Launch(tmp_path).run(failing(KeyError("port")))


def test_mistakes_in_the_options_are_torchruns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main(["--help"]) == 0
    assert "--max-restarts" in capsys.readouterr().out
    assert main(["--no-python", "--nproc-per-node", "1", "true"]) == 2
    assert "must be a Python file" in capsys.readouterr().err


def test_workers_of_torchrun_end_as_they_wish(tmp_path: Path) -> None:
    script = tool(tmp_path, GRACEFUL)
    launcher = start(
        sys.executable, LAUNCH, "--standalone", "--nproc-per-node", 2, "--max-restarts", 1, script
    )
    read_until(launcher, "ready", times=2)
    launcher.send_signal(signal.SIGUSR1)
    output, _ = launcher.communicate(timeout=PATIENCE)
    assert output.count(f"saved after {signal.SIGUSR1:d}") == 2
    assert launcher.returncode == REQUEUE


def test_training_goes_on_from_its_checkpoint_after_a_failure(tmp_path: Path) -> None:
    # As in the repository, where the scripts call what lies beside them.
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("launch.py", "torchrun.sh", "dist_train.sh"):
        (folder / name).write_bytes((REPO_ROOT / "tools" / name).read_bytes())
    tool(folder, FRAGILE, "train.py")
    launcher = start("bash", folder / "dist_train.sh", "config.py", 1, MAX_RESTARTS="1")
    output, _ = launcher.communicate(timeout=PATIENCE)
    assert output.count("0 ['config.py', '--launcher', 'pytorch', '--resume']") == 2
    assert launcher.returncode == 0
