"""DeepLesion as a data set of mmdetection: one sample is one key slice with its lesions."""

from __future__ import annotations

import io
import logging
import os
import pickle
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.registry import DATASETS
from mmengine.logging import print_log
from numpy.typing import NDArray

from deeplesion.datasets.ct import SliceError, inspect_slice, read_slice
from deeplesion.datasets.data_infos import (
    add_paths,
    attach_masks,
    info_of,
    make_masks_command,
    read_masks,
)
from deeplesion.datasets.dl_info import (
    INFO_FILE,
    SPLITS,
    find_image_root,
    group_by_key_slice,
    read_dl_info,
)
from deeplesion.datasets.info_files import read_infos, write_infos
from deeplesion.datasets.lesion_record import DataError
from deeplesion.datasets.memory import collection_paused
from deeplesion.datasets.packed import PackedSeries, check_cache
from deeplesion.datasets.samplers.base import Draw, seeded_by
from deeplesion.datasets.selection import select_key_slices
from deeplesion.mmdet_parts import BaseDetDataset

CHECK_THREADS = 8
IMAGE_FOLDER = "Images_png"
GET_DATA = (
    "make a synthetic one by `python tools/make_synthetic.py --out {root} --patients 100`, or "
    "get DeepLesion from the NIH (https://nihcc.box.com/v/DeepLesion) and set data_root or "
    "DEEPLESION_ROOT"
)


@DATASETS.register_module()
class DeepLesionDataset(BaseDetDataset):
    """Key slices of DeepLesion with their lesions (K. Yan et al., J. Med. Imaging 5(3), 2018).

    ``data_root`` holds ``DL_info.csv`` and the slices in either layout, see
    :func:`deeplesion.datasets.dl_info.find_image_root`. Instead of the CSV, ``ann_file`` may be a
    JSON file of key slices as :meth:`dump` writes it; its layout is described in
    :mod:`deeplesion.datasets.info_files`, the keys of a sample in
    :mod:`deeplesion.datasets.data_infos`.

    **Bad input.** With ``on_error='raise'`` the first malformed row stops the construction, and a
    key slice that is missing, truncated, not 16-bit or of another size stops the loop when it is
    loaded; both name file and row. With ``on_error='skip'`` key slices with malformed rows are
    dropped as a whole, then those whose files are missing or wrong, then those without masks where
    masks are wanted, so that every process and epoch sees the same samples; ``skipped`` counts
    those of the split by reason and a warning for each sums them up. The files are looked
    at by header and end in training, and decoded in test mode, where nothing may fail later. What
    still fails in training is replaced by another sample; an unreadable neighbor is taken as one
    that is not stored.

    Args:
        data_root: Folder of the data set.
        ann_file: ``DL_info.csv`` or a ``.json`` file of key slices, relative to ``data_root``.
        split: ``train``, ``val``, ``test``, or None for all.
        mask_file: Masks in JSON as ``tools/make_masks.py`` writes them, relative to
            ``data_root``; ``{split}`` in it is replaced. None: lesions have no masks.
        keep_noisy: Whether lesions that NIH marked ``Possibly_noisy`` stay.
        on_error: ``raise`` or ``skip``.
        packed: Folder of a packed cache as ``tools/pack.py`` writes it, relative to ``data_root``,
            to take slices from; samples are the same, and the PNG files need not be there. None
            takes the files.
        **kwargs: Those of ``BaseDetDataset``: ``pipeline``, ``filter_cfg`` (``filter_empty_gt``,
            ``min_size`` in px), ``test_mode``, ``indices``, ``metainfo``, ...

    Raises:
        FileNotFoundError: If the data root, the annotation or mask file, or the slices are absent.
        DataError: If a row is malformed, a lesion has no mask in ``mask_file``, no key slice is
            left, or the packed cache is not finished or of other data (``PackError``).
        ValueError: If an argument is none of its choices.
    """

    METAINFO = {"classes": ("lesion",), "palette": [(220, 20, 60)]}  # noqa: RUF012

    def __init__(
        self,
        data_root: str = "",
        ann_file: str = INFO_FILE,
        split: str | None = None,
        mask_file: str | None = None,
        keep_noisy: bool = False,
        on_error: str = "raise",
        packed: str | None = None,
        **kwargs: Any,
    ) -> None:
        if split is not None and split not in SPLITS:
            raise ValueError(f"split must be one of {SPLITS} or None, got {split!r}")
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}")
        self.split, self.mask_file = split, mask_file
        self.keep_noisy, self.on_error, self.packed = keep_noisy, on_error, packed
        self.skipped: Counter[str] = Counter()
        self._asked = 0
        super().__init__(data_root=data_root, ann_file=ann_file, **kwargs)

    def full_init(self) -> None:
        """Load the annotations, unless that has been done, and pack them for the workers."""
        with collection_paused():
            super().full_init()

    def load_data_list(self) -> list[dict]:
        """Read the annotations, drop what cannot be loaded on request, attach masks."""
        root = Path(self.data_root)
        if not root.is_dir():
            raise FileNotFoundError(f"data_root {root} is not there: {GET_DATA.format(root=root)}")
        if not Path(self.ann_file).is_file():
            advice = GET_DATA.format(root=root)
            raise FileNotFoundError(f"ann_file {self.ann_file} is not there: {advice}")
        image_root = self._image_root(root)
        infos = self._read_infos()
        for info in infos:
            add_paths(info, image_root)
        if self.packed is not None:
            folder = str(root / self.packed)
            check_cache(folder, (info["series"] for info in infos))
            for info in infos:
                info["packed"] = folder
        if self.on_error == "skip":
            infos = self._readable(infos)
        # Where there are none, that is what is wrong, whatever the masks.
        if self.mask_file is not None and infos:
            infos = self._with_masks(infos, self.mask_file)
        if not infos:
            reasons = ", ".join(f"{number} {kind}" for kind, number in self.skipped.items())
            dropped = f"; dropped: {reasons}" if reasons else ""
            text = f"{self.ann_file} has no key slice of split {self.split!r} to load"
            raise DataError(f"{text}{dropped}")
        return infos

    def __getitem__(self, idx: int) -> dict:
        """Load a sample and run the pipeline.

        Args:
            idx: Its number; what is random in the pipeline follows from the seed of a
                :class:`deeplesion.datasets.samplers.Draw`.
        """
        # For one that may be taken in its place.
        self._asked = idx
        with seeded_by(idx):
            return super().__getitem__(idx)

    def _rand_another(self) -> int:
        """A sample in the place of one that cannot be loaded, of the same step."""
        other = int(super()._rand_another())
        asked = self._asked
        return Draw(other, asked.seed, asked.step_seed) if isinstance(asked, Draw) else other

    def filter_data(self) -> list[dict]:
        """Apply ``filter_cfg`` in training, as mmdetection's own data sets do."""
        if self.test_mode or self.filter_cfg is None:
            return self.data_list
        min_side = self.filter_cfg.get("min_size", 0)
        return [
            info
            for info in self.data_list
            if min(info["height"], info["width"]) >= min_side
            and (info["instances"] or not self.filter_cfg.get("filter_empty_gt", False))
        ]

    def prepare_data(self, idx: int) -> dict | None:
        """Load a sample; None, whereupon another is taken, where that fails and may in training.

        Args:
            idx: Its number; the pipeline finds the ``step_seed`` of a draw that has one.
        """
        info = self.get_data_info(int(idx))
        if isinstance(idx, Draw) and idx.step_seed is not None:
            info["step_seed"] = idx.step_seed
        try:
            return self.pipeline(info)
        except SliceError as error:
            if self.on_error == "raise" or self.test_mode:
                raise
            self.skipped["key slices while loading"] += 1
            print_log(f"skipped a sample: {error}", logger="current", level=logging.WARNING)
            return None

    def dump(self, path: str | os.PathLike[str]) -> None:
        """Write the key slices to a JSON file that ``ann_file`` takes."""
        write_infos(path, (self.get_data_info(index) for index in range(len(self))))

    def _serialize_data(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """As the base class does: data infos pickled one after the other, and where each ends.

        Each is written where it is to be, and nothing looks for cycles, of which they have none.
        """
        stream, ends = io.BytesIO(), []
        pickler = pickle.Pickler(stream, protocol=4)
        for info in self.data_list:
            pickler.dump(info)
            pickler.clear_memo()
            ends.append(stream.tell())
        self.data_list.clear()
        return np.frombuffer(stream.getbuffer(), np.uint8), np.array(ends, np.int64)

    def _image_root(self, root: Path) -> str:
        try:
            return str(find_image_root(root))
        except FileNotFoundError:
            if self.packed is None:
                raise
            return str(root / IMAGE_FOLDER)  # where pictures of findings would look for slices

    def _read_infos(self) -> list[dict]:
        if self.ann_file.endswith(".json"):
            return read_infos(self.ann_file, self.split)
        if self.on_error == "raise":
            groups = group_by_key_slice(
                read_dl_info(self.ann_file, self.keep_noisy), self.split, self.keep_noisy
            )
        else:
            groups, rows, dropped = select_key_slices(self.ann_file, self.split, self.keep_noisy)
            self._report("malformed rows", list(map(str, rows)))
            self._report("key slices with malformed rows", list(map(str, dropped.values())))
        # Key slices go as their data infos come: all of both would take a sixth more memory.
        groups.reverse()
        return [info_of(groups.pop()) for _ in range(len(groups))]

    def _with_masks(self, infos: list[dict], mask_file: str) -> list[dict]:
        """Data infos with masks; under ``skip`` those that lack any are dropped."""
        root = Path(self.data_root)
        masks = read_masks(mask_file, root, self.split, self.keep_noisy)
        command = make_masks_command(root, self.split, self.keep_noisy)
        good, complaints = [], []
        for info in infos:
            try:
                attach_masks(info, masks, mask_file, f"make the masks anew by {command}")
            except DataError as error:
                if self.on_error == "raise":
                    raise
                complaints.append(str(error))
            else:
                good.append(info)
        self._report("key slices without masks", complaints)
        return good

    def _readable(self, infos: list[dict]) -> list[dict]:
        """Data infos whose key slice can be read."""
        # Opening many files is waiting, and OpenCV decodes without the interpreter's lock.
        with ThreadPoolExecutor(CHECK_THREADS) as pool:
            complaints = list(pool.map(self._complaint, infos))
        self._report("key slices", [c for c in complaints if c is not None])
        good = [info for info, c in zip(infos, complaints, strict=True) if c is None]
        for info in good:
            info["skip_bad_neighbors"] = True
        return good

    def _complaint(self, info: dict) -> str | None:
        size = (info["height"], info["width"])
        try:
            if self.packed is not None:
                pack = PackedSeries(info["packed"], info["series"])
                if not self.test_mode:
                    return pack.inspect(info["key_slice"], size)
                pack.read_key(info["key_slice"], size)
            elif not self.test_mode:
                return inspect_slice(info["img_path"], size)
            else:
                read_slice(info["img_path"], size)
        except SliceError as error:
            return str(error)
        return None

    def _report(self, kind: str, complaints: Sequence[str]) -> None:
        if complaints:
            self.skipped[kind] += len(complaints)
            text = f"DeepLesionDataset dropped {len(complaints)} {kind} of {self.ann_file}"
            message = f"{text}; the first: {complaints[0]}"
            print_log(message, logger="current", level=logging.WARNING)
