"""Learning rates at another batch size."""

from __future__ import annotations

import pytest
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict

from deeplesion.engine.rate_scaling import by_square_root


@pytest.mark.parametrize(("kind", "expected"), [("SGD", 0.25), ("AdamW", 0.5), ("Adam", 0.5)])
def test_adaptive_optimizers_go_by_the_square_root(kind: str, expected: float) -> None:
    groups = [{"params": [torch.zeros(1)], "lr": rate} for rate in (1.0, 0.1)]
    wrapper = OptimWrapper(getattr(torch.optim, kind)(groups))
    with by_square_root(wrapper):
        for group in wrapper.optimizer.param_groups:
            group["lr"] *= 0.25
    rates = [group["lr"] for group in wrapper.optimizer.param_groups]
    assert rates == pytest.approx([expected, 0.1 * expected])


def test_each_of_several_optimizers_has_its_rule() -> None:
    kinds = {"first": torch.optim.SGD, "second": torch.optim.AdamW}
    each = {name: OptimWrapper(kind([torch.zeros(1)], lr=1.0)) for name, kind in kinds.items()}
    with by_square_root(OptimWrapperDict(**each)):
        for wrapper in each.values():
            wrapper.optimizer.param_groups[0]["lr"] *= 4
    assert [one.optimizer.param_groups[0]["lr"] for one in each.values()] == [4.0, 2.0]
