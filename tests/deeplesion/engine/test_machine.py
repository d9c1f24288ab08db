"""What of a machine the processes of a run share."""

from __future__ import annotations

import pytest

from deeplesion.engine.machine import local_processes, usable_cores


def test_processes_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert local_processes() == 4
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "8")
    assert local_processes() == 8
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "4(x2)")
    assert local_processes() == 1
    assert usable_cores() >= 1
