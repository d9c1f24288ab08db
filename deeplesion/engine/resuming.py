"""What a checkpoint must tell beside mmengine's state, so that a training goes on exactly."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader

from deeplesion.engine.checkpoint import CheckpointError
from deeplesion.engine.guarded_step import GuardedStep

#: Key in a checkpoint of what differs between processes, see :func:`gather_rank_state`.
RANK_STATE = "rank_state"


def describe_run(runner: Runner, identity: str) -> dict[str, Any]:
    """What a position in a training means nothing without.

    Args:
        runner: With its training loop built.
        identity: Of this training, the same after every resume.

    Returns:
        Plain data, for ``meta`` of a checkpoint.
    """
    loop = runner.train_loop
    loader = loop.dataloader
    return {
        "identity": identity,
        "validated": getattr(loop, "validated", None),
        "epoch_based": hasattr(loop, "run_epoch"),
        "samples": len(loader.dataset),
        "processes": get_world_size(),
        "batch_size": batch_size_of(loader),
        "iterations_per_epoch": len(loader),
        "samplers": _sampler_names(loader),
        "schedule": _describe_schedule(runner.cfg, loop.max_iters),
    }


def batch_size_of(loader: DataLoader) -> int | None:
    """Samples of a batch of one process; ``None`` where its batch sampler does not tell."""
    return getattr(loader.batch_sampler, "batch_size", None)


def check_same_run(filename: str, recorded: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """Refuse to go on from a position that means something else in this run.

    Args:
        filename: Of the checkpoint, for the message.
        recorded: :func:`describe_run` of the run that was saved; empty if it is not known.
        own: The same of this run.

    Returns:
        What is different without changing the position, but changes numbers.

    Raises:
        CheckpointError: The position means something else; it says what to set.
    """
    wrong = [
        f"{what} {recorded[key]} in the checkpoint, {own[key]} now"
        for key, what in {
            "epoch_based": "counted by epochs:",
            "samples": "samples:",
            "samplers": "order by",
        }.items()
        if key in recorded and recorded[key] != own[key]
    ]
    split, own_split = _split(recorded), _split(own)
    if None not in (*split, *own_split) and split[0] * split[1] != own_split[0] * own_split[1]:
        wrong.append(
            f"a batch of {split[0]} x {split[1]} samples (processes x batch_size) in the "
            f"checkpoint, {own_split[0]} x {own_split[1]} now"
        )
    if wrong:
        raise CheckpointError(
            f"checkpoint {filename} cannot be resumed in a run of another order of samples: "
            f"{'; '.join(wrong)}. {_remedy(split, own_split)}, or begin a new training from its "
            f"weights by --cfg-options load_from={filename}"
        )
    notes = []
    if recorded and split != own_split:
        notes.append(
            f"{split[0]} processes with batches of {split[1]} became {own_split[0]} with "
            f"{own_split[1]}: the samples stay the same, but batch norms see others together"
        )
    if "schedule" in recorded and recorded["schedule"] != own["schedule"]:
        notes.append(
            "optimizer, schedule or length of the training are others in the config now: what the "
            "checkpoint holds of them goes on as it was; for new ones begin from its weights by "
            f"--cfg-options load_from={filename}"
        )
    return notes


def gather_rank_state(model: nn.Module, optim_wrapper: OptimWrapper) -> list[dict[str, Any]] | None:
    """Collect what is not the same in all processes; each must call this.

    These are buffers such as running statistics of batch norms, and gradients that are still being
    accumulated.

    Args:
        model: The bare model.
        optim_wrapper: Tells whether the last gradients have been used.

    Returns:
        One dict of each process by rank; ``None`` where one process has nothing to add.
    """
    gradients = {} if optim_wrapper.should_update() else _gradients(model)
    kept = optim_wrapper.kept_buffers() if isinstance(optim_wrapper, GuardedStep) else []
    state = {"buffers": {}, "gradients": gradients, "kept": kept}
    if get_world_size() == 1:
        return [state] if gradients else None
    state["buffers"] = {name: value.cpu() for name, value in model.named_buffers()}
    return all_gather_object(state)


def restore_rank_state(
    model: nn.Module, optim_wrapper: OptimWrapper, states: list[dict[str, Any]] | None
) -> None:
    """Put back what :func:`gather_rank_state` collected.

    Args:
        model: The bare model, with the weights of the checkpoint.
        optim_wrapper: That is to take the next step.
        states: Nothing is done if there are none, or of another number of processes.
    """
    if states is None or len(states) != get_world_size():
        return
    state = states[get_rank()]
    own = dict(chain(model.named_parameters(), model.named_buffers()))
    with torch.no_grad():
        for name, value in state["buffers"].items():
            own[name].copy_(value)
    for name, value in state["gradients"].items():
        own[name].grad = value.to(own[name].device)
    if state["gradients"] and isinstance(optim_wrapper, GuardedStep):
        optim_wrapper.go_on(model, state["kept"])


def _gradients(model: nn.Module) -> dict[str, Tensor]:
    return {
        name: weight.grad.cpu()
        for name, weight in model.named_parameters()
        if weight.grad is not None
    }


def _describe_schedule(cfg: Mapping[str, Any], max_iters: int) -> str:
    """What learning rates follow from."""
    optimizer = (cfg.get("optim_wrapper") or {}).get("optimizer")
    return repr((optimizer, cfg.get("param_scheduler"), cfg.get("auto_scale_lr"), max_iters))


def _split(run: Mapping[str, Any]) -> tuple[Any, Any]:
    return run.get("processes"), run.get("batch_size")


def _remedy(split: tuple[Any, Any], own_split: tuple[Any, Any]) -> str:
    """How to go on: with as many samples in a step as before, on any number of processes."""
    if None in (*split, *own_split) or split[0] * split[1] == own_split[0] * own_split[1]:
        return "Set these as they were"
    samples, processes = split[0] * split[1], own_split[0]
    if samples % processes:
        fitting = [n for n in range(1, samples + 1) if samples % n == 0]
        return f"{samples} samples fit on {', '.join(map(str, fitting))} processes"
    return f"Set train_dataloader.batch_size={samples // processes} by --cfg-options"


def _sampler_names(loader: DataLoader) -> str:
    """Names of what chooses the samples, such as ``CTSampler``."""
    batches = loader.batch_sampler
    parts = [] if type(batches) is BatchSampler else [batches]
    parts.append(getattr(batches, "sampler", None))
    return " and ".join(type(part).__name__ for part in parts if part is not None)
