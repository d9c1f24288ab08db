"""The Runner of the tools."""

from __future__ import annotations

from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmengine.runner.checkpoint import _load_checkpoint_to_model

from deeplesion.engine.checkpoint import CheckpointError, read_checkpoint


class CTRunner(Runner):
    """mmengine's Runner that reads checkpoints safely and refuses those of another network.

    mmengine either unpickles whatever is in a file (0.10.12 falls back to it) or cannot read its
    own training checkpoints on today's PyTorch (0.10.7).
    """

    def load_checkpoint(
        self,
        filename: str,
        map_location: Any = "cpu",
        strict: bool = False,
        revise_keys: list | None = None,
    ) -> dict:
        """Load weights into the model; see :meth:`mmengine.runner.Runner.load_checkpoint`.

        Raises:
            CheckpointError: The file cannot be read, or not one of its weights fits the model.
        """
        checkpoint = read_checkpoint(filename, map_location)
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        model = self.model.module if is_model_wrapper(self.model) else self.model
        own = model.state_dict()
        weights = {key.removeprefix("module."): w for key, w in checkpoint["state_dict"].items()}
        if not any(key in own and own[key].shape == w.shape for key, w in weights.items()):
            raise CheckpointError(
                f"checkpoint {filename} does not fit the config: none of its {len(weights)} "
                f"weights has the name and shape of one of the model's {len(own)}"
            )
        _load_checkpoint_to_model(model, checkpoint, strict, revise_keys or [(r"^module\.", "")])
        self._has_loaded = True
        self.logger.info(f"Load checkpoint from {filename}")
        return checkpoint
