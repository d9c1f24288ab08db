"""A few validation images with predictions and ground truth, the same ones at every validation."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
from mmdet.registry import HOOKS
from mmengine.dist import all_gather_object, is_main_process

from deeplesion.canvas import Image
from deeplesion.evaluation.strata import interval_stratum
from deeplesion.pictures import montage, save_image
from deeplesion.visualization import CTVisualizationHook, SampleHook

FOLDER = "overlays"
#: Width in px of a picture in TensorBoard and on a sheet.
WIDTH = 512


def choose_images(infos: Sequence[dict[str, Any]], number: int) -> list[str]:
    """Choose images to look at: thin and thick slices in turn, of different patients.

    Args:
        infos: Data infos (:mod:`deeplesion.datasets.data_infos`) of a data set, in its order.
        number: How many, at most.

    Returns:
        File names of images with lesions, always the same of the same data set. Of each stratum of
        slice intervals (thin, thick, other) they are spread over the data set.
    """
    strata: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for info in infos:
        if info.get("instances") and info.get("file_name"):
            interval = info.get("slice_interval")
            strata[interval_stratum(float("nan") if interval is None else interval)].append(info)
    queues = [_spread(strata[name], number) for name in ("thin", "thick", "other")]
    in_turn = [
        info["file_name"]
        for turn in range(number)
        for queue in queues
        for info in queue[turn : turn + 1]
    ]
    return sorted(in_turn[:number])


def _spread(infos: Sequence[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    """Some data infos, as far from each other as can be; one of each patient while there are."""
    first = {info.get("patient_id"): info for info in reversed(infos)}
    candidates = [info for info in infos if first[info.get("patient_id")] is info]
    if len(candidates) < number:
        chosen = {id(info) for info in candidates}
        return [*candidates, *(info for info in infos if id(info) not in chosen)][:number]
    return [candidates[index * len(candidates) // number] for index in range(number)]


def surplus_sheets(names: Iterable[str], limit: int) -> list[str]:
    """Which sheets to remove: the first and the newest stay, of those between every other one.

    Args:
        names: Names of sheets, sorted by time.
        limit: Number of sheets that may stay, at least 2.

    Returns:
        Names to remove; none while there are not too many.
    """
    names = list(names)
    return names[1:-1:2] if len(names) > limit else []


@HOOKS.register_module()
class ValidationOverlayHook(SampleHook):
    """Draws a few validation images at each validation, the same each time.

    They are in the image tab of TensorBoard (and of other trackers) as ``overlays/FILE_NAME``, and
    together on a sheet, ``WORK_DIR/overlays/iter_000500.png``. In a distributed run each process
    draws those that it evaluates, and the main process writes.

    Args:
        number: How many images; 0 for none.
        score_threshold: Boxes below it are left out.
        max_sheets: Beyond this many, every other old sheet is removed.

    Raises:
        ValueError: If a number is too small.
    """

    mode = "val"

    def __init__(self, number: int = 6, score_threshold: float = 0.3, max_sheets: int = 40) -> None:
        if number < 0:
            raise ValueError(f"number of overlays must be >= 0, got {number}")
        if max_sheets < 2:
            raise ValueError(f"max_sheets of overlays must be >= 2, got {max_sheets}")
        self.number = number
        self.max_sheets = max_sheets
        self._drawer = CTVisualizationHook(os.devnull, score_threshold=score_threshold)
        self._chosen: list[str] | None = None
        self._pictures: dict[str, Image] = {}
        self._failed = False

    def before_val_epoch(self, runner: Any) -> None:
        """Choose the images, once."""
        self._pictures = {}
        if self._chosen is None:
            data = runner.val_dataloader.dataset
            infos = [data.get_data_info(index) for index in range(len(data) if self.number else 0)]
            self._chosen = choose_images(infos, self.number)

    def look_at(self, runner: Any, sample: Any) -> None:
        """Draw a sample, if it is one of those chosen."""
        name = sample.metainfo.get("file_name")
        if name in (self._chosen or ()):
            with self._not_fatal(runner):
                self._pictures[name] = scaled(self._drawer.draw(sample), WIDTH)

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Write them."""
        if not self._chosen:
            return
        shares = all_gather_object(self._pictures)
        self._pictures = {}
        pictures = {name: picture for share in shares for name, picture in share.items()}
        # Outside a training, e.g. in a validation alone, there is no iteration to show.
        if not is_main_process() or not pictures:
            return
        with self._not_fatal(runner):
            self._write(runner, pictures)

    def _write(self, runner: Any, pictures: dict[str, Image]) -> None:
        names, step = sorted(pictures), runner.iter
        for name in names:
            runner.visualizer.add_image(f"{FOLDER}/{Path(name).stem}", pictures[name], step)
        folder = Path(runner.work_dir) / FOLDER
        columns = 3 if len(names) > 4 else 2
        sheet = montage([pictures[name] for name in names], columns, background=24)
        save_image(folder / f"iter_{step:08d}.png", sheet)
        sheets = sorted(path.name for path in folder.glob("iter_*.png"))
        for name in surplus_sheets(sheets, self.max_sheets):
            (folder / name).unlink(missing_ok=True)

    @contextmanager
    def _not_fatal(self, runner: Any) -> Iterator[None]:
        """A picture that cannot be drawn or written must not end a training; it is told once."""
        try:
            yield
        except (KeyError, ValueError, OSError) as error:
            if not self._failed:
                runner.logger.warning(f"no overlay of the validation: {error}")
            self._failed = True


def scaled(picture: Image, width: int) -> Image:
    """A picture ``(H, W, 3)`` made so many px wide, if it is wider."""
    if picture.shape[1] <= width:
        return picture
    height = round(picture.shape[0] * width / picture.shape[1])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
