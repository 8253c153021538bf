"""The page's pictures of policies, rollouts, predictions and plans, each an SVG."""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from nsf_pipeline import dmp
from nsf_pipeline.config import PolicyFile
from nsf_pipeline.data.policy_file import params_of, start_of
from nsf_pipeline.dmp import FIXED_SCALE
from nsf_pipeline.explorer import svg
from nsf_pipeline.explorer.believed import Belief, Score
from nsf_pipeline.explorer.controls import normalised
from nsf_pipeline.explorer.simulated import MEMBERS, Law, Rollout
from nsf_pipeline.planning import Plan
from nsf_pipeline.pusht.geometry import (
    AGENT_RADIUS,
    GOAL_POSE,
    SUCCESS_THRESHOLD,
    WALLS,
    WORKSPACE,
    t_outline,
)
from nsf_pipeline.pusht.state import STATE, layout_of
from nsf_pipeline.timing import CONTROL_DT

PATH, AGENT, BLOCK, GOAL = "#be28b4", "#4169e1", "#778899", "#90ee90"
X, Y = "#c2410c", "#0f766e"
SIMULATOR = "#c62828"
MODELS = ("#1f5fd0", "#0a8f5c")
"""The colours of the first and the second model."""
POINTS = 101
"""Of a drawn path."""
SIDE = WORKSPACE[1]
CANDIDATES = 20
"""Of a plan that are drawn."""
REST = 0.8
"""s; how long an animation stays at its end."""


def path_points(file: PolicyFile) -> tuple[np.ndarray, np.ndarray]:
    """Times (n) s, and the desired path (n, 2) px at these."""
    times = np.linspace(0.0, file.policy.duration, POINTS)
    path = dmp.integrate(params_of(file.policy), file.dmp)
    return times, dmp.evaluate(path, times, file.dmp)


def scene(file: PolicyFile) -> str:
    """The table: the goal, the block, the agent, and the policy's desired path."""
    _, path = path_points(file)
    start, goal = file.policy.start, file.policy.goal
    title = (
        f"The table from above. The path leads from {start[0]:.0f}, {start[1]:.0f} to "
        f"{goal[0]:.0f}, {goal[1]:.0f} px."
    )
    parts = [*_table(), *_body(start_of(file)), *_path(path, goal)]
    return svg.drawing("scene", title, (SIDE, SIDE), parts)


def charts(file: PolicyFile) -> str:
    """Position, velocity, phase and basis functions over time."""
    times, path = path_points(file)
    knots = dmp.integrate(params_of(file.policy), file.dmp)
    at = np.linspace(0.0, file.policy.duration, len(knots.position))
    velocity = knots.velocity / file.policy.duration
    phase, psi = dmp.phase_and_activations(file.dmp, times / file.policy.duration)
    active = psi / psi.sum(axis=1, keepdims=True)
    drawn = [
        svg.chart("position", "desired position (px)", _pair(times, path), y_range=WORKSPACE),
        svg.chart("velocity", "desired velocity (px/s)", _pair(at, velocity)),
        svg.chart("phase", "phase", [svg.Series("", svg.INK, times, phase)], y_range=(0.0, 1.0)),
        svg.chart(
            "basis",
            "share of each basis function",
            [
                svg.Series("", _shade(number, active.shape[1]), times, active[:, number])
                for number in range(active.shape[1])
            ],
            y_range=(0.0, 1.0),
        ),
    ]
    return "".join(drawn)


def in_words(file: PolicyFile) -> str:
    """The policy in the normalised control space, and what that is in px, as HTML."""
    (sx, sy), (gx, gy) = file.policy.start, file.policy.goal
    if file.dmp.scale_forcing_by_goal_delta:
        scale = (
            f"A weight of 1 pulls by goal − start: {abs(gx - sx):.0f} px along x and "
            f"{abs(gy - sy):.0f} px along y."
        )
    else:
        scale = f"A weight of 1 pulls by one unit, {FIXED_SCALE:.0f} px, along x and along y."
    ratio = file.policy.damping / (2.0 * np.sqrt(file.policy.stiffness))
    return (
        '<p class="nsf-words">In the control space [−1, 1]², whose unit is '
        f"{FIXED_SCALE:.0f} px and whose origin is the table's centre, the policy goes from "
        f"<b>({normalised(sx):+.2f}, {normalised(sy):+.2f})</b> to "
        f"<b>({normalised(gx):+.2f}, {normalised(gy):+.2f})</b>, in pixels from "
        f"({sx:.0f}, {sy:.0f}) to ({gx:.0f}, {gy:.0f}). {scale} "
        f"The damping is {ratio:.2f} times the critical one.</p>"
    )


def animation(file: PolicyFile, made: Rollout) -> str:
    """A rollout of the simulator, played again and again."""
    states, steps = made.states, len(made.states) - 1
    still = round(REST / CONTROL_DT)
    states = np.concatenate([states, np.repeat(states[-1:], still, axis=0)])
    seconds = CONTROL_DT * (len(states) - 1)
    outline = t_outline(np.zeros(3))
    places = [f"{x:.2f} {y:.2f}" for x, y in states[:, STATE.block_position]]
    turns = [f"{angle:.2f}" for angle in np.rad2deg(states[:, STATE.angle])]
    agents = [f"{x:.2f} {y:.2f}" for x, y in states[:, STATE.agent]]
    block = svg.moved("rotate", turns, seconds, svg.polyline(outline, closed=True, fill=BLOCK))
    _, path = path_points(file)
    title = (
        f"A rollout in the simulator, {CONTROL_DT * steps:.1f} s; at its end the block covers "
        f"{made.coverage[-1]:.0%} of the goal."
    )
    parts = [
        *_table(),
        svg.polyline(
            t_outline(made.states[0, STATE.block]), closed=True, fill="none", stroke=BLOCK
        ),
        svg.moved("translate", places, seconds, block),
        *_path(path, file.policy.goal),
        svg.polyline(made.states[:, STATE.agent], stroke=AGENT, stroke_width=2.2),
        svg.moved("translate", agents, seconds, svg.circle((0, 0), AGENT_RADIUS, fill=AGENT)),
    ]
    return svg.drawing("animation", title, (SIDE, SIDE), parts)


def coverage(made: Rollout) -> str:
    """How much of the goal the block covers, over time."""
    times = CONTROL_DT * np.arange(len(made.coverage))
    aim = np.full(2, SUCCESS_THRESHOLD)
    series = [
        svg.Series("success", "#2e7d32", times[[0, -1]], aim, "4 3"),
        svg.Series("rollout", SIMULATOR, times, made.coverage),
    ]
    return svg.chart("coverage", "coverage of the goal", series, y_range=(0.0, 1.0))


def prediction(file: PolicyFile, law: Law | None, beliefs: Sequence[Belief], time_s: float) -> str:
    """Agent and block at one time: the simulator's ensemble, and over it the models' draws.

    Args:
        file: where it started.
        law: the simulator's; None to leave it out.
        beliefs: the models' draws.
        time_s: s since the policy started.
    """
    names = [*(["the simulator"] if law else []), *(belief.name for belief in beliefs)]
    title = f"Agent and block after {time_s:.1f} s, by {', '.join(names)}."
    _, path = path_points(file)
    parts = [*_table(), *_path(path, file.policy.goal)]
    clouds = [("simulator", law.members, SIMULATOR)] if law else []
    for belief, colour in zip(beliefs, MODELS, strict=False):
        clouds.append((belief.name, belief.draws, colour))
    for number, (name, states, colour) in enumerate(clouds, 1):
        parts += _cloud(name, states, colour)
        style = {"fill": colour, "font_size": 14, "font_weight": 600}
        parts.append(svg.text(14, 8 + 18 * number, name, **style))
    return svg.drawing("prediction", title, (SIDE, SIDE), parts)


def scores(found: Sequence[Score]) -> str:
    """The CRPS of the simulator and the models, and the time that each took, as an HTML table."""
    if not found:
        return "<p>Tick “simulate PushT” to compare this with the simulator.</p>"
    columns = [*found[0].crps]
    head = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in columns)
    rows = "".join(
        f"<tr><th>{escape(each.name)}</th>"
        + "".join(f"<td>{each.crps[name]:.3g}</td>" for name in columns)
        + f"<td>{1000 * each.seconds:.1f}</td></tr>"
        for each in found
    )
    return (
        '<div class="nsf-scores"><table><caption>CRPS against other rollouts of the simulator: '
        f"smaller is better. The time is that of {MEMBERS} rollouts or draws.</caption>"
        f"<tr><th></th>{head}<th>time (ms)</th></tr>{rows}</table></div>"
    )


def scores_in_words(found: Sequence[Score]) -> str:
    """The same as lines of text."""
    return "\n".join(
        f"{each.name}: CRPS "
        + ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in each.crps.items())
        + f"; {1000 * each.seconds:.1f} ms"
        for each in found
    )


def plan(file: PolicyFile, found: Plan, planner: str) -> str:
    """A plan and the best candidates that were considered, with where each was predicted to end."""
    considered = found.considered
    count = min(CANDIDATES, len(considered.costs))
    parts = [*_table(), *_body(start_of(file))]
    for row in range(count)[::-1]:
        push = considered.candidates.push(row)
        route = np.concatenate([[start_of(file)[STATE.agent]], push.targets(file.dmp)])
        best = row == 0
        style: dict[str, Any] = (
            {"stroke_width": 2.4} if best else {"stroke_width": 1, "opacity": 0.45}
        )
        parts.append(svg.polyline(route, stroke=PATH if best else BLOCK, **style))
        for end in considered.ends[row][:: 1 if best else len(considered.ends[row])]:
            outline = t_outline(end[STATE.block])
            colour = MODELS[0] if best else BLOCK
            parts.append(
                svg.polyline(outline, closed=True, fill="none", stroke=colour, opacity=0.6)
            )
    title = f"A plan by {planner}, of {found.push.seconds:.1f} s, and {count - 1} other candidates."
    return svg.drawing("plan", title, (SIDE, SIDE), parts)


def _table() -> list[str]:
    low, high = WALLS
    walls = np.array([(low, low), (high, low), (high, high), (low, high)])
    return [
        svg.polyline(walls, closed=True, fill="none", stroke="#bbb", stroke_width=2),
        svg.polyline(t_outline(GOAL_POSE), closed=True, fill=GOAL),
    ]


def _body(state: np.ndarray) -> list[str]:
    return [
        svg.polyline(t_outline(state[STATE.block]), closed=True, fill=BLOCK, opacity=0.9),
        svg.circle(state[STATE.agent], AGENT_RADIUS, fill=AGENT, opacity=0.9),
    ]


def _path(path: np.ndarray, goal: tuple[float, float]) -> list[str]:
    return [
        svg.polyline(path, stroke=PATH, stroke_width=2.2),
        svg.circle(goal, 7, fill="none", stroke=PATH, stroke_width=2.2),
    ]


def _cloud(name: str, states: np.ndarray, colour: str) -> list[str]:
    layout = layout_of(states.shape[-1])
    inner: list[str] = []
    for state in states:
        outline = t_outline(state[layout.block])
        inner.append(svg.polyline(outline, closed=True, fill="none", stroke=colour))
        inner.append(svg.circle(state[layout.agent], 2.5, fill=colour))
    return [f'<g data-of="{escape(name)}" opacity="0.3">', *inner, "</g>"]


def _pair(times: np.ndarray, values: np.ndarray) -> list[svg.Series]:
    return [svg.Series("x", X, times, values[:, 0]), svg.Series("y", Y, times, values[:, 1])]


def _shade(number: int, count: int) -> str:
    return f"hsl({round(360 * number / count)} 60% 42%)"
