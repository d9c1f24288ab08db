"""What a conversion did to a checkpoint, for people to read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from deeplesion.legacy.conversion import Conversion
from deeplesion.legacy.ledger import Status, format_table

__all__ = ["describe"]

# Names that are told together, and the name of the group.
GROUPS = (
    (r"backbone\.reductionz\d+\.", "backbone.reductionz*"),
    (r"backbone\.lateral\d+\.", "backbone.lateral*"),
    (r"(\w+)\.", "{0}.*"),
)
OUR_GROUPS = (
    (r"neck\.(collapse\.reductions|laterals)\.", "neck.{0}.*"),
    (r"roi_head\.(\w+)\.", "roi_head.{0}.*"),
)
GAP = "  "


def describe(conversion: Conversion) -> Iterator[str]:
    """Lines that tell which network was found and what was done.

    Args:
        conversion: What was done.
    """
    network, widths = conversion.network, conversion.network.widths
    blocks = " + ".join(map(str, widths["model.backbone.block_config"]))
    yield (
        f"network: {conversion.family.title}, {network.num_slices} slices, DenseNet of {blocks} "
        f"layers, growth {widths['model.backbone.growth_rate']}, neck of "
        f"{widths['model.neck.out_channels']} channels, "
        f"{widths['model.roi_head.bbox_head.num_classes']} class(es)"
    )
    rows = [("weights", "tensors", "what was done"), *_rows(conversion)]
    sizes = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, number, done in rows:
        yield GAP.join([name.ljust(sizes[0]), number.rjust(sizes[1]), done])
    yield from _file_lines(conversion)
    yield from _config_lines(conversion)


def _rows(conversion: Conversion) -> Iterator[tuple[str, str, str]]:
    """Names, number of tensors, what was done to them."""
    weights = conversion.weights
    special: dict[str, str] = {}
    for name in weights.turned:
        special[name] = f"{weights.renamed[name]}: background first -> last"
    for name, tensor in weights.dropped.items():
        rows = f"{weights.renamed.get(name)}: {len(tensor)} first row(s), background, taken out"
        special[name] = rows if name in weights.renamed else "taken out, it has no effect"
    groups: Counter[tuple[str, str]] = Counter()
    for name in conversion.file.state:
        if name not in special:
            ours = weights.renamed.get(name)
            done = f"-> {_group(ours, OUR_GROUPS)}" if ours else "names kept"
            groups[_group(name, GROUPS), done] += 1
    for (group, done), number in groups.items():
        yield group, str(number), done
    for name, done in special.items():
        yield name, "1", done


def _file_lines(conversion: Conversion) -> Iterator[str]:
    """What else was in the file."""
    file, weights = conversion.file, conversion.weights
    if file.prefix:
        yield f"names: {file.prefix!r} of the wrapper taken off"
    for dtype, number in Counter(weights.dtypes.values()).items():
        yield f"precision: {number} tensors of {dtype} made float32"
    if weights.rounded:
        yield f"precision: {len(weights.rounded)} tensors rounded, so that there is no way back"
    if file.others:
        yield f"dropped: {', '.join(file.others)} (a new training begins without them)"


def _config_lines(conversion: Conversion) -> Iterator[str]:
    """What became of the config in the meta."""
    outcomes = conversion.config.outcomes
    if not outcomes:
        yield "config: the meta has none that was used; the settings are those of the papers"
        return
    numbers = Counter(outcome.status for outcome in outcomes)
    yield "config of the meta: " + ", ".join(f"{numbers[s]} fields {s.value}" for s in Status)
    if lost := [outcome for outcome in outcomes if outcome.status is Status.LOST]:
        yield from format_table(lost)


def _group(name: str, groups: tuple[tuple[str, str], ...]) -> str:
    for pattern, title in groups:
        if match := re.match(pattern, name):
            return title.format(*match.groups())
    return name
