"""What all environments have in common: spaces, and what a step gives besides the state."""

from typing import Any

import numpy as np
from gymnasium import spaces

from nsf_pipeline import checks
from nsf_pipeline.config.policy_file import MOST_NOISE
from nsf_pipeline.errors import UserError
from nsf_pipeline.pusht import geometry
from nsf_pipeline.pusht.factors import Factors
from nsf_pipeline.pusht.simulator import FARTHEST
from nsf_pipeline.pusht.state import STATE

FULL_TURN = 2 * np.pi
METADATA: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}
"""As gym-pusht's, without the mode `human`."""
VISUALISED = 680
"""px; width and height of gym-pusht's rendered frames."""
MOST_PIXELS = 4096
"""px; width or height of a frame, at most."""


def observation_space() -> spaces.Box:
    """gym-pusht's, of its observation `state`: agent x, y, block x, y (px), angle (rad)."""
    high = np.array([*[geometry.WORKSPACE[1]] * 4, FULL_TURN])
    return spaces.Box(low=np.zeros(5), high=high, dtype=np.float64)


def target_space(low: float, high: float) -> spaces.Box:
    """Of actions that are targets (px) of the agent."""
    return spaces.Box(low=low, high=high, shape=(2,), dtype=np.float32)


def actions_in(space: spaces.Box, actions: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Actions as float64.

    Args:
        space: of one action.
        actions: real numbers.
        shape: of the actions: of one, or (n, numbers of one).

    Raises:
        UserError: another shape, or a number that is not finite or lies outside the space.
    """
    found = checks.numbers("action", actions, shape, finite=False)
    # Written so that NaN fails as well.
    if not ((found >= space.low) & (found <= space.high)).all():
        wrong = ~((found >= space.low) & (found <= space.high))
        place = tuple(np.argwhere(wrong)[0].tolist())
        low, high = space.low[place[-1]], space.high[place[-1]]
        where = f" at {list(place)}" if len(shape) > 1 else f", number {place[-1]}"
        raise UserError(
            f"expected action{where}, to be from {low:g} to {high:g}, got {found[place]:g}; "
            "clip actions to action_space"
        )
    return found


def options_of(options: Any, known: tuple[str, ...]) -> dict[str, Any]:
    """The options of a reset.

    Raises:
        UserError: they are no mapping, or one is not known.
    """
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise UserError(f"expected options to be a dict, got {checks.shown(options)}")
    for name in options:
        if name not in known:
            raise UserError(
                f"expected the options {' and '.join(known)} alone, got {checks.shown(name)}"
            )
    return options


def state_in(options: dict[str, Any], shape: tuple[int, ...]) -> np.ndarray:
    """The state or states to enter, of a shape.

    Raises:
        UserError: another shape, or a number that is not finite or farther from 0 than 1e6.
    """
    hint = "; its numbers are agent x, y, velocity x, y, block x, y, angle"
    state = checks.real("the option state", options["state"])
    checks.require_shape("the option state", state.shape, shape, hint)
    return checks.numbers("the option state", state, least=-FARTHEST, most=FARTHEST)


def noise_std(value: Any) -> float:
    """px; the setting `action_noise_std`.

    Raises:
        UserError: it is no number from 0 to 256.
    """
    return checks.number("action_noise_std", value, least=0.0, most=MOST_NOISE)


def render_mode(value: Any) -> str | None:
    """The setting `render_mode`.

    Raises:
        UserError: it is another than `rgb_array` or None.
    """
    if value not in (None, "rgb_array"):
        raise UserError(f"expected render_mode 'rgb_array' or None, got {checks.shown(value)}")
    return value


def frame_size(width: Any, height: Any) -> tuple[int, int]:
    """px; the settings `visualization_width` and `visualization_height`.

    Raises:
        UserError: one is no whole number from 1 to 4,096.
    """
    names = "visualization_width", "visualization_height"
    both = (
        checks.whole(name, each, 1, MOST_PIXELS)
        for name, each in zip(names, (width, height), strict=True)
    )
    found_width, found_height = both
    return found_width, found_height


def info_of(state: np.ndarray, factors: Factors) -> dict[str, Any]:
    """What gym-pusht tells of a state beside the observation; states may have leading axes.

    Args:
        state: (..., 7) px, px/s, rad.
        factors: of the scene.
    """
    goal = factors.goal
    return {
        "pos_agent": state[..., STATE.agent].copy(),
        "vel_agent": state[..., STATE.velocity].copy(),
        "block_pose": state[..., STATE.block].copy(),
        "goal_pose": np.tile(goal, (*state.shape[:-1], 1)) if state.ndim > 1 else goal,
    }
