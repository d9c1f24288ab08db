"""From the top of a scan to its bottom: every key slice, no slice prepared twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from deeplesion.engine.config import UsageError
from deeplesion.engine.flip_views import VIEWS, flipped_back, fuse_instances
from deeplesion.inference.memory import choose_batch_size, is_out_of_memory
from deeplesion.inference.network import StackNetwork, to_detections
from deeplesion.inference.pipeline import SlicePipeline
from deeplesion.inference.planes import Plane, plane_hu, stack_planes
from deeplesion.lesions.lesion import SliceDetections
from deeplesion.scans.scan import Scan

# Slices that go through the stem at once; one of the maps of a stem is 17 MB at 512 px.
STEM_BATCH = 8
#: Of a stack (D, H, W), reversed in a view.
Axes = tuple[int, ...]


class Sweep:
    """Looks at key slices of one scan, in ascending order.

    A slice stays in memory, windowed, resized and put through the stem, from the first stack that
    it is in to the last. So memory depends on the depth of a stack and on the batch, not on the
    number of slices.

    Args:
        network: The detector.
        pipeline: How slices are prepared.
        scan: The scan.
        key_slices: Indices, ascending.
        batch_size: Key slices at once; None: as many as memory allows.
        threshold: Least score of boxes.
        views: Names of :data:`deeplesion.engine.flip_views.VIEWS`: each key slice is seen so, too,
            and what is found is fused. Views flipped in the plane have features of their own.
    """

    def __init__(
        self,
        network: StackNetwork,
        pipeline: SlicePipeline,
        scan: Scan,
        key_slices: Sequence[int],
        batch_size: int | None,
        threshold: float,
        views: Sequence[str] = (),
    ) -> None:
        self.network, self.pipeline, self.scan = network, pipeline, scan
        self.key_slices, self.threshold = list(key_slices), threshold
        self.views: list[Axes] = [(), *(VIEWS[name] for name in views)]
        interval = scan.slice_interval
        self.thickness = pipeline.thickness(interval)
        offsets, legacy = pipeline.offsets(interval), pipeline.load.legacy
        self.stacks = [stack_planes(z, len(scan.hu), offsets, legacy) for z in self.key_slices]
        # Where each plane is used for the last time; a dictionary keeps the last.
        self.last_use = {p: turn for turn, stack in enumerate(self.stacks) for p in stack}
        first = pipeline.prepare(plane_hu(scan.hu, self.stacks[0][0]))
        self.shift = pipeline.box_shift(first)
        voxels = first.image.size * len(offsets)
        self.batch_size = batch_size or choose_batch_size(voxels, network.device)
        self.features: dict[tuple[Plane, Axes], Tensor] = {}
        self.meta: dict = {}

    def __iter__(self) -> Iterator[SliceDetections]:
        """Detections of each key slice in turn; where memory is not enough, batches are halved.

        Raises:
            UsageError: It is not enough for one key slice.
        """
        turn = 0
        while turn < len(self.key_slices):
            try:
                found = self._look(turn)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve()
                continue
            yield from found
            turn += len(found)

    def _look(self, turn: int) -> list[SliceDetections]:
        """Look at the key slices of one batch."""
        stacks = self.stacks[turn : turn + self.batch_size]
        self._prepare(stacks)
        found_by_view = [self._predict(stacks, axes) for axes in self.views]
        results = found_by_view[0]
        if len(self.views) > 1:
            results = [fuse_instances(views) for views in zip(*found_by_view, strict=True)]
        # Not before, for a batch that was too large is tried again.
        done = turn + len(stacks)
        self.features = {p: f for p, f in self.features.items() if self.last_use[p[0]] >= done}
        keys = self.key_slices[turn:done]
        height, width = self.scan.hu.shape[1:]
        return [
            to_detections(z, found, self.shift, self.threshold, (height, width))
            for z, found in zip(keys, results, strict=True)
        ]

    def _predict(self, stacks: Sequence[Sequence[Plane]], axes: Axes) -> list[InstanceData]:
        """What is found in one view, as it lies in the scan."""
        flips, order = _in_plane(axes), -1 if 0 in axes else 1
        chosen = [[self.features[plane, flips] for plane in stack[::order]] for stack in stacks]
        seen = self.network.predict(chosen, self.meta)
        return [flipped_back(found, self.meta, axes) if axes else found for found in seen]

    def _prepare(self, stacks: Sequence[Sequence[Plane]]) -> None:
        """Have the features of all planes of some stacks, for each view."""
        wanted = dict.fromkeys(plane for stack in stacks for plane in stack)
        views = list(dict.fromkeys(map(_in_plane, self.views)))
        missing = [plane for plane in wanted if any((plane, v) not in self.features for v in views)]
        for start in range(0, len(missing), STEM_BATCH):
            planes = missing[start : start + STEM_BATCH]
            slices = [self.pipeline.prepare(plane_hu(self.scan.hu, plane)) for plane in planes]
            for flips in views:
                seen = [prepared.flipped([axis - 1 for axis in flips]) for prepared in slices]
                maps, self.meta = self.network.slice_features(seen, self.thickness)
                keys = [(plane, flips) for plane in planes]
                self.features.update(zip(keys, maps, strict=True))

    def _halve(self) -> None:
        if self.batch_size == 1:
            raise UsageError(
                "out of memory with one key slice at a time: use --amp, another device, or end "
                "other programs"
            )
        self.batch_size //= 2
        if self.network.device.type == "cuda":
            torch.cuda.empty_cache()


def _in_plane(axes: Axes) -> Axes:
    """Those of H and W: the order of slices does not change the slices."""
    return tuple(axis for axis in axes if axis != 0)
