"""The pictures of architecture.md and of the model: `python docs/pictures.py` draws them anew.

SVG on a light ground, which reads well on light and dark pages.
"""

import tomllib
from html import escape
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parent
COLUMN, ROW, WIDTH, HEIGHT, MARGIN = 138, 66, 112, 40, 20
"""px: steps of the grid, the size of a box on it, and the margin."""


class Box(NamedTuple):
    """A box: its place on the grid, a second line of text, its colour, and how far it reaches."""

    column: float
    row: float
    note: str = ""
    fill: str = "#e8eefb"
    columns: float = 1.0
    rows: float = 1.0

    @property
    def left(self) -> float:
        """px."""
        return MARGIN + COLUMN * self.column

    @property
    def top(self) -> float:
        """px."""
        return MARGIN + ROW * self.row

    @property
    def width(self) -> float:
        """px."""
        return COLUMN * (self.columns - 1.0) + WIDTH

    @property
    def height(self) -> float:
        """px."""
        return ROW * (self.rows - 1.0) + HEIGHT


MODEL, REPORT, OPTIONAL = "#fde9d9", "#e6f4e6", "#f0eaf8"
CHAIN = {
    "policies": Box(0, 2, "shards"),
    "rollouts": Box(1, 2, "shards"),
    "dataset": Box(2, 2),
    "picture": Box(2, 3, fill=REPORT),
    "ensembles": Box(3, 3, "shards"),
    "train": Box(3, 2, fill=MODEL),
    "videos": Box(3, 0, fill=REPORT),
    "export_format": Box(3, 1, "each format", OPTIONAL),
    "predictions": Box(4, 1, fill=MODEL),
    "evaluate": Box(4, 2, fill=MODEL),
    "upload": Box(5, 3, "to W&B", REPORT),
    "table_page": Box(5, 2, fill=REPORT),
    "video_page": Box(5, 0, fill=REPORT),
    "settings_page": Box(6, 0, fill=REPORT),
    "train_variant": Box(3, 4, "each variant", OPTIONAL),
    "compare": Box(4, 4, fill=OPTIONAL),
    "speed": Box(5, 4, fill=OPTIONAL),
    "ablation_page": Box(6, 4, fill=OPTIONAL),
    "scaling_curves": Box(4, 5, fill=OPTIONAL),
    "scaling_page": Box(6, 5, fill=OPTIONAL),
    "short_planning": Box(5, 6, fill=REPORT),
    "episodes": Box(4, 7, "shards of rows", OPTIONAL),
    "pushes": Box(4, 9, "shards of models", OPTIONAL),
    "goals": Box(4, 10, "rows", OPTIONAL),
    "episode_videos": Box(5, 7, fill=OPTIONAL),
    "planning_tables": Box(5, 8, fill=OPTIONAL),
    "push_tables": Box(5, 9, fill=OPTIONAL),
    "goal_tables": Box(5, 10, fill=OPTIONAL),
    "episode_page": Box(6, 7, fill=OPTIONAL),
    "planning_page": Box(6, 9, fill=OPTIONAL),
}
"""The rules of the workflow."""
CHAIN_ARROWS = [
    ("policies", "rollouts"),
    ("rollouts", "dataset"),
    ("rollouts", "videos"),
    ("dataset", "videos"),
    ("dataset", "picture"),
    ("dataset", "export_format"),
    ("dataset", "train"),
    ("dataset", "ensembles"),
    ("dataset", "train_variant"),
    ("train", "predictions"),
    ("train", "evaluate"),
    ("train", "compare"),
    ("ensembles", "evaluate"),
    ("ensembles", "compare"),
    ("evaluate", "table_page"),
    ("evaluate", "upload"),
    ("videos", "video_page"),
    ("predictions", "video_page"),
    ("train_variant", "compare"),
    ("compare", "speed"),
    ("speed", "ablation_page"),
    ("train_variant", "scaling_curves"),
    ("scaling_curves", "scaling_page"),
    ("train", "episodes"),
    ("train", "pushes"),
    ("train", "goals"),
    ("episodes", "short_planning"),
    ("episodes", "episode_videos"),
    ("episodes", "planning_tables"),
    ("pushes", "push_tables"),
    ("goals", "goal_tables"),
    ("episode_videos", "episode_page"),
    ("planning_tables", "planning_page"),
    ("push_tables", "planning_page"),
    ("goal_tables", "planning_page"),
]
FACTS = {
    "settings": Box(0, 0, "config.yaml", MODEL),
    "code": Box(0, 1, "the package", MODEL),
    "stamp": Box(1.25, 0.5, "one per stage"),
    "job": Box(2.5, 0.5, "one command"),
    "file": Box(3.75, 0.5, "with its record"),
    "next job": Box(5, 0, "reads or refuses"),
    "nsf why": Box(5, 1, "says what changed", REPORT),
}
FACT_ARROWS = [
    ("settings", "stamp"),
    ("code", "stamp"),
    ("stamp", "job"),
    ("job", "file"),
    ("file", "next job"),
    ("file", "nsf why"),
]
GIVEN, NETWORK, FRAME = "#fdf6d8", "#f9d5d5", "#fafafa"
PARTS = {
    "FlowTransition.law": Box(0.9, 1.9, fill=FRAME, columns=3.2, rows=2.4),
    "x_s, s, t, c": Box(0, 0.5, "given", GIVEN),
    "agent_motion": Box(1, 0, "path, no noise"),
    "push": Box(2, 0, "along it, and aside"),
    "nominal": Box(3, 0, "displacements"),
    "normaliser": Box(3, 1, "from the data", GIVEN),
    "encoder": Box(4, 0.5, "features"),
    "flow": Box(1, 2.4, "networks", NETWORK),
    "within_step": Box(2, 2.4, "short gaps"),
    "agent_noise": Box(1, 3.2, "covariance"),
    "law": Box(3, 2.8, "px, px/s, rad"),
    "sample": Box(4.3, 2.4, "and log_prob", REPORT),
    "rollout": Box(4.3, 3.2, "sample by sample", REPORT),
}
"""The modules of the model, of which FlowTransition.law uses some; above them what is given."""
PART_ARROWS = [
    ("x_s, s, t, c", "agent_motion"),
    ("agent_motion", "push"),
    ("push", "nominal"),
    ("x_s, s, t, c", "encoder"),
    ("nominal", "encoder"),
    ("normaliser", "encoder"),
    ("encoder", "FlowTransition.law"),
    ("normaliser", "FlowTransition.law"),
    ("flow", "within_step"),
    ("agent_noise", "within_step"),
    ("within_step", "law"),
    ("agent_noise", "law"),
    ("law", "sample"),
    ("sample", "rollout"),
]


def draw(boxes: dict[str, Box], arrows: list[tuple[str, str]], title: str) -> str:
    """An SVG picture of boxes and the arrows between them."""
    right = max(box.left + box.width for box in boxes.values()) + MARGIN
    bottom = max(box.top + box.height for box in boxes.values()) + MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {right:.0f} {bottom:.0f}" '
        f'width="{right:.0f}" height="{bottom:.0f}" role="img" '
        'font-family="system-ui, sans-serif" font-size="13" text-anchor="middle">',
        f"<title>{escape(title)}</title>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#555"/></marker></defs>',
        f'<rect width="{right:.0f}" height="{bottom:.0f}" rx="8" fill="#fff"/>',
    ]
    frames = [name for name, box in boxes.items() if box.fill == FRAME]
    for name in frames:
        lines += _box(name, boxes[name])
    lines += [_arrow(boxes[start], boxes[end]) for start, end in arrows]
    for name in [name for name in boxes if name not in frames]:
        lines += _box(name, boxes[name])
    return "\n".join([*lines, "</svg>", ""])


def _arrow(start: Box, end: Box) -> str:
    middle = start.left + start.width / 2
    if start.column == end.column or end.fill == FRAME:
        x = min(max(middle, end.left + MARGIN), end.left + end.width - MARGIN)
        ends = (middle, start.top + start.height, x, end.top)
    else:
        ends = (start.left + start.width, _centre(start), end.left, _centre(end))
    x1, y1, x2, y2 = (f"{value:.0f}" for value in ends)
    return f'<path d="M{x1} {y1}L{x2} {y2}" stroke="#555" marker-end="url(#head)"/>'


def _centre(box: Box) -> float:
    return box.top + box.height / 2


def _box(name: str, box: Box) -> list[str]:
    # The name of what encloses other boxes stands at its top.
    middle, baseline = box.left + box.width / 2, box.top + min(HEIGHT, box.height) / 2
    lines = [
        f'<rect x="{box.left:.0f}" y="{box.top:.0f}" width="{box.width:.0f}" '
        f'height="{box.height:.0f}" rx="5" fill="{box.fill}" stroke="#777"/>',
        f'<text x="{middle:.0f}" y="{baseline + (-2 if box.note else 4):.0f}" fill="#222">'
        f"{escape(name)}</text>",
    ]
    if box.note:
        lines.append(
            f'<text x="{middle:.0f}" y="{baseline + 13:.0f}" fill="#555" font-size="11">'
            f"{escape(box.note)}</text>"
        )
    return lines


def floors() -> dict[str, Box]:
    """The rooms of the package, floor by floor, as the check of layers in pyproject.toml has it."""
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text("utf-8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    rows = [layer.split(" : ") for layer in layers if layer != "__main__"]
    across = 0.8 * max(map(len, rows))
    boxes = {}
    for row, rooms in enumerate(rows):
        columns = across / len(rooms)
        for place, room in enumerate(rooms):
            boxes[room] = Box(place * columns, row * 0.8, columns=columns)
    return boxes


def pictures() -> dict[str, str]:
    """The pictures by file name."""
    return {
        "chain.svg": draw(CHAIN, CHAIN_ARROWS, "The jobs of the workflow"),
        "facts.svg": draw(FACTS, FACT_ARROWS, "From settings and code to files"),
        "model.svg": draw(PARTS, PART_ARROWS, "From a state and a policy to a law"),
        "floors.svg": draw(floors(), [], "The rooms of the package, floor by floor"),
    }


if __name__ == "__main__":
    for name, picture in pictures().items():
        (DOCS / name).write_text(picture, "utf-8")
