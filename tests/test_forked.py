"""Programs in forks behave as in interpreters of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.forked import python
from tests.forked.client import can_be_forked

REPO_ROOT = Path(__file__).resolve().parents[1]
# Which of both ran a program: what is imported costs no time in a fork.
FORKED = "import sys; forked = 'mmdet' in sys.modules"


def environment(**changes: str) -> dict[str, str]:
    """That of programs which can be forked; modules of other tests change it as they load."""
    return {**os.environ, "OMP_NUM_THREADS": "1", **changes}


def run(*arguments: str, interpreter: str = "", **options: object) -> subprocess.CompletedProcess:
    """Run Python in a fork, or by an interpreter."""
    command = [interpreter or python(), *arguments]
    options.setdefault("env", environment())
    return subprocess.run(command, capture_output=True, text=True, **options)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A program that tells its surroundings."""
    path = tmp_path / "program.py"
    path.write_text(
        "import os, sys\n"
        "print(__name__, __file__, __spec__, sys.modules['__main__'].__file__)\n"
        "print(sys.argv, os.getcwd(), sys.path, os.environ.get('FRUIT'), sys.stdin.read())\n"
        "print(os.umask(0o22))\n"
        "os.system('echo from a child; echo from a child >&2')\n",
        encoding="utf-8",
    )
    return path


@pytest.mark.parametrize("path", [None, str(REPO_ROOT)])
def test_surroundings_are_those_of_an_interpreter(
    script: Path, tmp_path: Path, path: str | None
) -> None:
    variables = environment(FRUIT="pear")
    variables.pop("PYTHONPATH", None)
    if path is not None:
        variables["PYTHONPATH"] = path
    options = {"cwd": tmp_path, "input": "typed", "env": variables}
    forked = run(script.name, "-x", "a b", **options)
    own = run(script.name, "-x", "a b", interpreter=sys.executable, **options)
    assert (forked.returncode, forked.stdout, forked.stderr) == (0, own.stdout, own.stderr)


def test_temporary_files_go_where_the_environment_says(tmp_path: Path) -> None:
    code = f"{FORKED}; import tempfile; print(forked, tempfile.gettempdir())"
    result = run("-c", code, env=environment(TMPDIR=str(tmp_path)))
    assert result.stdout.split() == ["True", str(tmp_path)]


@pytest.mark.parametrize(
    "code",
    [
        "pass",
        "raise SystemExit",
        "raise SystemExit(7)",
        "raise SystemExit(-1)",
        "raise SystemExit('what is wrong')",
        "def fail():\n    raise ValueError('no')\nfail()",
        "raise KeyboardInterrupt",
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "import atexit; atexit.register(print, 'at exit'); raise SystemExit(3)",
        "import sys; sys.excepthook = lambda *error: print('hook', error[1]); 1 / 0",
        "import threading as t; t.Thread(target=lambda: print(t.active_count())).start()",
        "import multiprocessing as m; p = m.Process(target=print); p.start(); p.join()",
        "syntax error",
    ],
)
def test_ends_as_with_an_interpreter(code: str, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(code, encoding="utf-8")
    for arguments in ([str(script)], ["-c", code]):
        forked, own = run(*arguments), run(*arguments, interpreter=sys.executable)
        assert forked.returncode == own.returncode
        assert forked.stdout == own.stdout
        assert forked.stderr == own.stderr


def test_modules_run() -> None:
    forked = run("-m", "json.tool", "--compact", "-", input='{"a":  1}')
    assert (forked.returncode, forked.stdout) == (0, '{"a":1}\n')


def test_nothing_is_left_of_the_program_before() -> None:
    code = (
        "import os, random, sys, numpy, torch\n"
        "assert not hasattr(sys, 'spoiled')\n"
        "sys.spoiled = os.environ['SPOILED'] = 'yes'\n"
        "print(random.random(), numpy.random.random(), torch.initial_seed())\n"
        "torch.ones(999, 999).sum(); print(len(os.listdir('/proc/self/task')))\n"
    )
    first, second = run("-c", code), run("-c", code)
    assert first.returncode == second.returncode == 0, second.stderr
    (drawn, threads), (again, _) = (r.stdout.splitlines() for r in (first, second))
    assert threads == "1"
    assert len({*drawn.split(), *again.split()}) == 6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1])
def test_signals_reach_the_program(number: signal.Signals) -> None:
    code = "import os, signal; print(os.getpid(), flush=True); signal.pause()"
    process = subprocess.Popen(
        [python(), "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    pid = int(process.stdout.readline())
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == -number
    assert (b"KeyboardInterrupt" in error) == (number == signal.SIGINT)
    # Ended, be it that the server has not taken note of it.
    with suppress(FileNotFoundError):
        for _ in range(200):
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state in "ZX":
                break
            time.sleep(0.05)
        assert state in "ZX"


def test_a_handler_may_take_a_signal_and_go_on() -> None:
    code = (
        "import signal, time\ntaken = []\n"
        "signal.signal(signal.SIGTERM, lambda *_: taken.append(print('taken')))\n"
        # Not signal.pause: the signal may have come before it.
        "print('ready', flush=True)\nwhile not taken: time.sleep(0.01)\nraise SystemExit(75)"
    )
    command = [python(), "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.stdout.read() == "taken\n"
    assert process.returncode == 75


def test_programs_of_programs_are_forked_too() -> None:
    code = (
        "import subprocess, sys; subprocess.run([sys.executable, '-u', '-c', "
        f"{FORKED + '; print(forked)'!r}], check=True)"
    )
    assert run("-c", code).stdout == "True\n"


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        (["-W", "error"], {}),
        (["-I"], {}),
        ([], {"OMP_NUM_THREADS": "2"}),
        ([], {"PYTHONPATH": "/no/where"}),
        ([], {"PYTHONHASHSEED": "0"}),
        ([], {"MALLOC_TRIM_THRESHOLD_": "1000"}),
    ],
)
def test_what_matters_at_the_start_gets_an_interpreter(
    options: list[str], changes: dict[str, str]
) -> None:
    result = run(*options, "-c", FORKED + "; print(forked)", env=environment(**changes))
    assert result.stdout == "False\n"


def test_other_variables_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("FRUIT", "pear")
    folder = str(Path(python()).parent)
    tool = str(REPO_ROOT / "tools/train.py")
    assert can_be_forked(folder, [tool, "-u"])
    assert not can_be_forked(folder, [])
    assert not can_be_forked(folder, ["no_such.py"])
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert not can_be_forked(folder, [tool])
    monkeypatch.setenv("FORK_ANYWAY", "1")
    assert can_be_forked(folder, [tool])
