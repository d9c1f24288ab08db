"""tools/train.py and its launchers as a user runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.running import SHORT, SMALL, error_line, run_tool


def test_leaves_checkpoints_and_records_the_seed(trained: Path) -> None:
    assert (trained / "iter_3.pth").exists()
    assert list(trained.glob("best_froc_mean_*.pth"))
    (log,) = trained.glob("*/*.log")
    assert "seed: 3" in log.read_text()
    assert "froc/mean" in log.read_text()


def test_resume_goes_on_in_mixed_precision(
    trained: Path, synthetic_root: Path, tmp_path: Path
) -> None:
    longer = [option.replace("max_iters=3", "max_iters=5") for option in SHORT]
    result = run_tool(
        "tools/train.py", SMALL.format("alignshift"), "--work-dir", tmp_path,
        "--data-root", synthetic_root, "--resume", trained / "iter_3.pth", "--amp",
        "--cfg-options", *longer, cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / "iter_5.pth").exists()
    assert "Iter(train) [4/5]" in result.stdout
    assert "Iter(train) [3/5]" not in result.stdout


@pytest.mark.parametrize("operator", ["tsm", "a3d", "25d"])
def test_every_operator_trains(operator: str, synthetic_root: Path, tmp_path: Path) -> None:
    result = run_tool(
        "tools/train.py", SMALL.format(operator), "--work-dir", tmp_path,
        "--data-root", synthetic_root, "--cfg-options", *SHORT, cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert "froc/mean" in result.stdout


def test_two_processes_by_gloo(synthetic_root: Path, tmp_path: Path) -> None:
    result = run_tool(
        "tools/dist_train.sh", SMALL.format("alignshift"), 2, "--work-dir", tmp_path,
        "--data-root", synthetic_root, "--cfg-options", *SHORT, cwd=tmp_path, PORT="29611",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / "iter_3.pth").exists()


def test_missing_config_is_named(tmp_path: Path) -> None:
    assert "config none.py does not exist" in error_line(
        run_tool("tools/train.py", "none.py", cwd=tmp_path)
    )


def test_missing_data_root_says_how_to_make_one(tmp_path: Path) -> None:
    config = SMALL.format("alignshift")
    line = error_line(run_tool("tools/train.py", config, "--data-root", "none", cwd=tmp_path))
    assert "'none'" in line
    assert "tools/make_synthetic.py" in line


def test_missing_masks_name_the_command(synthetic_root: Path, tmp_path: Path) -> None:
    for name in ("DL_info.csv", "Images_png"):
        (tmp_path / name).symlink_to(synthetic_root / name)
    config = SMALL.format("alignshift")
    line = error_line(run_tool("tools/train.py", config, "--data-root", tmp_path, cwd=tmp_path))
    assert "masks_train.json" in line
    assert "make_masks.py" in line


def test_malformed_annotations_name_the_row(synthetic_root: Path, tmp_path: Path) -> None:
    lines = (synthetic_root / "DL_info.csv").read_text().splitlines()
    lines[4] = lines[4].replace('"', "", 1)
    (tmp_path / "DL_info.csv").write_text("\n".join(lines))
    (tmp_path / "Images_png").symlink_to(synthetic_root / "Images_png")
    config = SMALL.format("alignshift")
    line = error_line(run_tool("tools/train.py", config, "--data-root", tmp_path, cwd=tmp_path))
    assert "row 5" in line


@pytest.mark.parametrize(
    "script", ["tools/dist_train.sh", "deeplesion/train_dist.sh", "tools/slurm_train.sh"]
)
def test_launchers_tell_their_usage(script: str, tmp_path: Path) -> None:
    result = run_tool(script, cwd=tmp_path)
    assert result.returncode == 2
    assert "usage:" in result.stderr
