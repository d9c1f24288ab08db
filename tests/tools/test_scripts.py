"""The shell scripts for several nodes and for Slurm, with commands put in the place of others."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.tools.running import REPO_ROOT

SCONTROL = """#!/bin/sh
case "$1" in
    show) seq -f node%.0f 7 40000 ;;
    *) echo "scontrol $*" >> "$LOG" ;;
esac
"""
SRUN = """#!/bin/sh
echo "srun $*" >> "$LOG"
echo "RDZV $NNODES $RDZV_ENDPOINT $RDZV_ID" >> "$LOG"
exit "$SRUN_STATUS"
"""
PYTHON = """#!/bin/sh
echo "python $*" >> "$LOG"
"""
VARIABLES = ("NNODES", "NODE_RANK", "MASTER_ADDR", "PORT", "RDZV_ENDPOINT", "MAX_RESTARTS")


def call(folder: Path, script: str, *arguments: str, **env: str) -> tuple[int, list[str], str]:
    """Call a script of tools.

    Returns:
        Exit code, the commands that it called, and what it said.
    """
    for name, text in {"scontrol": SCONTROL, "srun": SRUN, "fake_python": PYTHON}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    log = folder / "log"
    log.touch()
    own = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    settings = {"PATH": path, "LOG": str(log), "PYTHON": "fake_python", "SRUN_STATUS": "0"}
    result = subprocess.run(
        ["bash", str(REPO_ROOT / "tools" / script), *arguments],
        env={**own, **settings, **env},
        cwd=REPO_ROOT,
        capture_output=True,
        text=True,
    )
    return result.returncode, log.read_text().splitlines(), result.stdout + result.stderr


def torchrun_options(folder: Path, **env: str) -> list[str]:
    """Options of the launcher under some environment variables."""
    status, (command,), _ = call(folder, "dist_train.sh", "c.py", "2", "--amp", **env)
    assert status == 0
    tools = f"{REPO_ROOT}/tools"
    before, _, after = command.partition(f" {tools}/train.py ")
    assert after == "c.py --amp --launcher pytorch"
    return before.removeprefix(f"python {tools}/launch.py ").split()


def test_one_machine_needs_no_settings(tmp_path: Path) -> None:
    options = ["--nproc-per-node=2", "--max-restarts=0", "--standalone"]
    assert torchrun_options(tmp_path) == options


def test_nodes_meet_at_an_endpoint(tmp_path: Path) -> None:
    options = torchrun_options(
        tmp_path, NNODES="1:4", RDZV_ENDPOINT="a:29400", MAX_RESTARTS="3", RDZV_ID="x"
    )
    assert options == [
        "--nproc-per-node=2",
        "--max-restarts=3",
        "--nnodes=1:4",
        "--rdzv-backend=c10d",
        "--rdzv-endpoint=a:29400",
        "--rdzv-id=x",
    ]


@pytest.mark.parametrize(("rank", "host"), [("0", "1"), ("1", "0")])
def test_the_host_of_the_endpoint_can_be_told(rank: str, host: str, tmp_path: Path) -> None:
    settings = {"NNODES": "2", "RDZV_ENDPOINT": "10.0.0.1:29400", "NODE_RANK": rank}
    options = torchrun_options(tmp_path, **settings, LOCAL_ADDR="10.0.0.2")
    assert options[-2:] == [f"--rdzv-conf=is_host={host}", "--local-addr=10.0.0.2"]


def test_variables_of_old_still_count(tmp_path: Path) -> None:
    options = torchrun_options(
        tmp_path, NNODES="2", NODE_RANK="1", MASTER_ADDR="10.0.0.1", PORT="29501"
    )
    assert options[2:] == [
        "--nnodes=2",
        "--node-rank=1",
        "--master-addr=10.0.0.1",
        "--master-port=29501",
    ]


def slurm_job(folder: Path, **env: str) -> tuple[int, list[str], str]:
    """Run the batch script as Slurm would, on two nodes."""
    settings = {"SLURM_JOB_ID": "41007", "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "node[7-8]"}
    settings |= {"SLURM_SUBMIT_DIR": str(REPO_ROOT), "SLURM_CPUS_PER_TASK": "40"}
    return call(folder, "slurm_job.sh", "c.py", "work", "--amp", **{**settings, **env})


def test_batch_job_starts_one_launcher_a_node(tmp_path: Path) -> None:
    status, (command, rendezvous), _ = slurm_job(tmp_path)
    assert status == 0
    assert "--ntasks=2 --ntasks-per-node=1" in command
    assert command.endswith(
        f"bash {REPO_ROOT}/tools/torchrun.sh train.py 8 c.py --work-dir work --resume --amp"
    )
    assert rendezvous == "RDZV 2 node7:21007 41007"


def test_batch_job_without_torchrun_starts_one_task_a_gpu(tmp_path: Path) -> None:
    status, (command, _), _ = slurm_job(tmp_path, LAUNCHER="slurm", GPUS_PER_NODE="4")
    assert status == 0
    assert "--ntasks=8 --ntasks-per-node=4 --cpus-per-task=10" in command
    assert command.endswith("train.py c.py --work-dir work --resume --amp --launcher slurm")


@pytest.mark.parametrize("launcher", ["torchrun", "slurm"])
@pytest.mark.parametrize("status", ["75", "1", "0"])
def test_batch_job_requeues_itself_where_it_is_to_go_on(
    status: str, launcher: str, tmp_path: Path
) -> None:
    code, commands, output = slurm_job(tmp_path, SRUN_STATUS=status, LAUNCHER=launcher)
    assert code == int(status)
    assert ("scontrol requeue 41007" in commands) == (status == "75")
    assert ("goes back into the queue" in output) == (status == "75")


def test_batch_job_asks_for_a_warning_and_may_be_requeued() -> None:
    text = (REPO_ROOT / "tools/slurm_job.sh").read_text()
    assert "#SBATCH --signal=USR1@120" in text
    assert "#SBATCH --requeue" in text


def test_batch_job_of_another_folder_says_where_to_submit(tmp_path: Path) -> None:
    status, commands, output = slurm_job(tmp_path, SLURM_SUBMIT_DIR=str(tmp_path))
    assert (status, commands) == (2, [])
    assert "submit from the root of the repository" in output


def test_foreground_run_on_slurm(tmp_path: Path) -> None:
    arguments = ["part", "name", "c.py", "work", "--amp"]
    status, (command, _), _ = call(
        tmp_path, "slurm_train.sh", *arguments, GPUS="4", GPUS_PER_NODE="2", SRUN_STATUS="75"
    )
    assert status == 75
    assert "-p part --job-name=name --gres=gpu:2 --ntasks=4 --ntasks-per-node=2" in command
    assert command.endswith("train.py c.py --work-dir work --launcher slurm --amp")


@pytest.mark.parametrize("script", ["slurm_job.sh", "torchrun.sh", "dist_test.sh"])
def test_scripts_tell_their_usage(script: str, tmp_path: Path) -> None:
    status, commands, output = call(tmp_path, script)
    assert (status, commands) == (2, [])
    assert "usage:" in output
