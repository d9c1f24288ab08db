"""Train many settings with many seeds, evaluate them, and make one table with intervals.

What is done is skipped, what was interrupted goes on, what fails stops nothing else: run the same
command again. Every training has a folder of its own in the work dir.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deeplesion.sweeps.execution import Job, Outcome
    from deeplesion.sweeps.plan import Run

TOOLS = Path(__file__).resolve().parent
EXAMPLE = """examples:
  # operators x slices x seeds, four at once, each on a GPU of its own
  python tools/sweep.py configs/{alignshift,tsm,a3d}/mask-rcnn_*-densenet121_?x2mm_20e_*.py \\
      --seeds 0 1 2 --gpus 0 1 2 3 --work-dir sweeps/context --data-root data/deeplesion --amp

  # any setting of a config
  python tools/sweep.py CONFIG --grid optim_wrapper.optimizer.lr=1e-4,2e-4,4e-4 --work-dir sweeps/lr
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("configs", nargs="+", metavar="config", help="config files")
    parser.add_argument("--work-dir", required=True, help="folder of the trainings and the table")
    parser.add_argument(
        "--grid",
        nargs="+",
        default=[],
        metavar="KEY=V1,V2",
        help="settings to vary; every combination is trained",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds (default: 0)")
    parser.add_argument("--data-root", help="folder of the data set (default: the configs')")
    parser.add_argument("--split", choices=["train", "val", "test"], help="split to evaluate")
    parser.add_argument("--amp", action="store_true", help="train and evaluate in mixed precision")
    parser.add_argument("--auto-scale-lr", action="store_true", help="see tools/train.py")
    parser.add_argument("--tta", action="store_true", help="evaluate flipped views, too")
    parser.add_argument("--jobs", type=int, help="trainings at once (default: 1, or one a GPU)")
    parser.add_argument("--gpus", nargs="+", default=[], help="GPUs to use, one for each training")
    parser.add_argument(
        "--processes", type=int, default=1, help="processes of each training (tools/dist_train.sh)"
    )
    parser.add_argument("--dry-run", action="store_true", help="tell what would be run")
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], help="override settings of all: KEY=VALUE ..."
    )
    args = parser.parse_args(argv)
    if args.processes < 1 or (args.jobs is not None and args.jobs < 1):
        parser.error("--jobs and --processes must be >= 1")
    if args.gpus and args.processes > 1:
        parser.error("--gpus gives each training one GPU: leave it out with --processes")
    return args


def make_job(run: Run, args: argparse.Namespace) -> Job:
    """The commands of a training."""
    from deeplesion.sweeps.execution import BEST, TEST_FOLDER, Job

    folder = Path(args.work_dir) / run.name
    root = ["--data-root", args.data_root] if args.data_root else []
    amp = ["--amp"] * args.amp
    options = [*args.cfg_options, *run.overrides]
    options = ["--cfg-options", *options] if options else []
    test_own = [*(["--split", args.split] if args.split else []), *(["--tta"] * args.tta)]
    train_own = ["--seed", str(run.seed), *(["--auto-scale-lr"] * args.auto_scale_lr), "--resume"]
    if args.processes > 1:
        train = ["bash", str(TOOLS / "dist_train.sh"), run.config, str(args.processes)]
    else:
        train = [sys.executable, str(TOOLS / "train.py"), run.config]
    train += ["--work-dir", str(folder), *root, *amp, *train_own, *options]
    test = [sys.executable, str(TOOLS / "test.py"), run.config, BEST]
    test += ["--work-dir", str(folder / TEST_FOLDER), *root, *amp, *test_own, *options]
    settings = {
        "config": os.path.abspath(run.config),
        "seed": run.seed,
        "options": options[1:],
        "data_root": args.data_root,
        "split": args.split,
        "amp": args.amp,
        "auto_scale_lr": args.auto_scale_lr,
        "tta": args.tta,
        "processes": args.processes,
    }
    return Job(run.name, folder, tuple(train), tuple(test), settings)


def show_plan(jobs: Sequence[Job]) -> None:
    """Print what would be run."""
    import shlex

    from deeplesion.sweeps.execution import state_of

    states = [state_of(job) for job in jobs]
    words = {"new": "to train", "begun": "to go on", "trained": "to evaluate", "done": "done"}
    for job, state in zip(jobs, states, strict=True):
        print(f"{job.name}: {words.get(state, state)}")
        print(f"  {shlex.join(job.train)}")
    counts = ", ".join(f"{states.count(s)} {w}" for s, w in words.items() if s in states)
    print(f"{len(jobs)} trainings: {counts}")


def explain(outcome: Outcome) -> str:
    """What became of a training, in words."""
    return f"{outcome.status}: {outcome.reason}" if outcome.reason else outcome.status


def make_table(
    runs: Sequence[Run], jobs: Sequence[Job], outcomes: Sequence[Outcome], work_dir: str
) -> None:
    """Write the table of what is done so far."""
    from deeplesion.engine.config import load_config
    from deeplesion.engine.evaluation_report import evaluated_cases, report_sources, settings_of
    from deeplesion.evaluation.analysis import Settings
    from deeplesion.evaluation.predictions import read_predictions
    from deeplesion.sweeps.execution import TEST_FOLDER, state_of
    from deeplesion.sweeps.results import summarize, write_results

    states = {job.name: state_of(job) for job in jobs}
    done = [(r, j) for r, j in zip(runs, jobs, strict=True) if states[r.name] == "done"]
    settings, cases = Settings(), []
    if done:
        run, job = done[0]
        # As it was evaluated, with all overrides.
        cfg = load_config(str(job.folder / TEST_FOLDER / Path(run.config).name), None, None)
        settings = settings_of(report_sources(cfg)[1])
        cases = evaluated_cases(cfg, job.predictions)
    detections: dict = {}
    for run, job in done:
        found = read_predictions(job.predictions, cases, run.name).detections
        detections.setdefault(run.setting, {})[run.seed] = found
    rows = summarize(cases, detections, settings) if done else []
    unfinished = {o.name: explain(o) for o in outcomes if states[o.name] != "done"}
    write_results(work_dir, rows, settings, unfinished)
    print((Path(work_dir) / "sweep.md").read_text(encoding="utf-8"))


def sweep(args: argparse.Namespace) -> list[Outcome]:
    """Run a sweep as the arguments say; returns what became of its trainings."""
    from deeplesion.sweeps.execution import Pool
    from deeplesion.sweeps.plan import plan_runs

    runs = plan_runs(args.configs, args.grid, args.seeds)
    jobs = [make_job(run, args) for run in runs]
    if args.dry_run:
        show_plan(jobs)
        return []
    workers = args.jobs or max(1, len(args.gpus))
    outcomes = Pool(workers, args.gpus).run(jobs)
    make_table(runs, jobs, outcomes, args.work_dir)
    for outcome in outcomes:
        if outcome.status not in ("done", "skipped"):
            print(f"{outcome.name}: {explain(outcome)}", file=sys.stderr)
    return outcomes


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code: 1 where a training failed, 75 after a warning."""
    args = parse_args(argv)
    from deeplesion.engine.cli import run_tool
    from deeplesion.engine.preemption import REQUEUE_EXIT_CODE

    outcomes: list[Outcome] = []
    code = run_tool(lambda: outcomes.extend(sweep(args)))
    if any(outcome.status == "interrupted" for outcome in outcomes):
        return REQUEUE_EXIT_CODE
    return code or int(any(outcome.status == "failed" for outcome in outcomes))


if __name__ == "__main__":
    raise SystemExit(main())
