"""What is finished survives an interruption, and what belongs to other settings is not used."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deeplesion.datasets.journal import Journal, journal_path, write_line

SETTINGS = {"seed": 0, "split": "val"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    journal = Journal(tmp_path / "new" / "masks.json.partial.jsonl", SETTINGS)
    assert journal.read() == {}
    with journal.append() as file:
        write_line(file, {"file_name": "a.png", "n": 1})
        write_line(file, {"file_name": "b.png", "n": 2})
    return journal.path


def test_path_is_beside_the_file_and_of_the_settings() -> None:
    out = Path("x/masks_val.json")
    path = journal_path(out, SETTINGS)
    assert path.parent == out.parent
    assert re.fullmatch(r"masks_val\.json\.[0-9a-f]{8}\.partial\.jsonl", path.name)
    assert journal_path(out, dict(reversed(SETTINGS.items()))) == path
    assert journal_path(out, {**SETTINGS, "seed": 1}) != path


def test_entries_come_back_and_go_on(path: Path) -> None:
    journal = Journal(path, SETTINGS)
    assert list(journal.read()) == ["a.png", "b.png"]
    with journal.append() as file:
        write_line(file, {"file_name": "c.png", "n": 3})
    assert [entry["n"] for entry in Journal(path, SETTINGS).read().values()] == [1, 2, 3]


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_line_cut_short_is_dropped(path: Path, cut: int) -> None:
    path.write_bytes(path.read_bytes()[:-cut])
    journal = Journal(path, SETTINGS)
    assert list(journal.read()) == ["a.png"]
    with journal.append() as file:
        write_line(file, {"file_name": "b.png", "n": 5})
    assert Journal(path, SETTINGS).read()["b.png"]["n"] == 5


def test_garbage_ends_what_is_read(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\x00\x00garbage\n")
    assert list(Journal(path, SETTINGS).read()) == ["a.png", "b.png"]


def test_other_settings_start_anew(path: Path) -> None:
    journal = Journal(path, {**SETTINGS, "seed": 1})
    assert journal.read() == {}
    with journal.append() as file:
        write_line(file, {"file_name": "z.png"})
    assert list(Journal(path, {**SETTINGS, "seed": 1}).read()) == ["z.png"]


def test_remove(path: Path) -> None:
    journal = Journal(path, SETTINGS)
    journal.remove()
    journal.remove()
    assert not path.exists()
