"""gym-pusht's physics without the environment's overhead, and with the same results bit for bit.

One control step of `PushTEnv.step` is ten substeps of PD control and Chipmunk, with much Python
around them. Here the same substeps act on the environment's own space and bodies, and the control
is computed in plain floats. The operations and their order are the same, and so are the results.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from gym_pusht.envs import PushTEnv

from nsf_pipeline import checks
from nsf_pipeline.errors import UserError
from nsf_pipeline.pusht.compat import ensure_add_collision_handler
from nsf_pipeline.pusht.environment import CONTROL
from nsf_pipeline.pusht.factors import USUAL, Factors
from nsf_pipeline.pusht.state import (
    STATE,
    STATE_WITH_BLOCK_VELOCITY,
    STATE_WITHOUT_VELOCITY,
    StateLayout,
)

try:  # pymunk's own handle on Chipmunk: nearly twice as fast, but private
    from pymunk._chipmunk_cffi import lib as _chipmunk
except ImportError:  # pragma: no cover
    _chipmunk = None

FRAME_SIZE = 512
"""Width and height of a rendered frame in px."""
WALL_LINES = (5, 506)
"""px; coordinates between which gym-pusht draws the middle lines of its walls."""
T_SCALE = 30
"""px; the width of the T's strokes in gym-pusht."""
FARTHEST = 1e6
"""px, px/s, rad; no number of a state or action may be farther from 0."""


class _QuietEnv(PushTEnv):
    """gym-pusht's environment with other factors, and with a space that is reused.

    It has no contact counter unless that is asked for. The counter is a Python callback for each
    contact; it does not affect the physics. `PushTEnv` sets it on the handler in the attribute
    `collision_handeler` (misspelt there); without a counter, the handler is discarded.
    """

    _restart: Callable[[], None] | None = None

    def __init__(self, factors: Factors, has_counter: bool, size: tuple[int, int]) -> None:
        super().__init__(visualization_width=size[0], visualization_height=size[1])
        self._factors, self._has_counter, self._handler = factors, has_counter, SimpleNamespace()
        self.n_contact_points = 0

    @property
    def collision_handeler(self) -> Any:
        return self._handler

    @collision_handeler.setter
    def collision_handeler(self, handler: Any) -> None:
        if self._has_counter:
            self._handler = handler

    def _handle_collision(self, arbiter: Any, space: Any, data: Any) -> None:
        self.n_contact_points += 1  # gym-pusht tells only whether there was any

    def add_segment(self, space: Any, a: Any, b: Any, radius: Any) -> Any:
        low, high = self._factors.walls
        place = {WALL_LINES[0]: low - radius, WALL_LINES[1]: high + radius}
        ends = ((place[x], place[y]) for x, y in (a, b))
        return super().add_segment(space, *ends, radius)

    def add_circle(self, space: Any, position: Any, radius: Any) -> Any:
        return super().add_circle(space, position, self._factors.agent_radius)

    def add_tee(self, space: Any, position: Any, angle: Any) -> Any:
        scale = T_SCALE * self._factors.block_scale
        return super().add_tee(space, position, angle, scale=scale)

    def _setup(self) -> None:
        if self._restart:
            self._restart()
            return
        super()._setup()
        self.goal_pose = self._factors.goal
        if _chipmunk:
            self._restart = _native_restart(self)


def _native_restart(env: PushTEnv) -> Callable[[], None]:
    """A function that brings a newly set-up space back to its present state, bit for bit.

    Creating a space takes as long as ten control steps. Instead, the function removes the moving
    shapes, and their contacts with them. It then adds them again with the same poses, in the same
    order and with the same numbers, by which Chipmunk orders its work.
    """
    lib, space, walls = _chipmunk, env.space._space, env.space.static_body
    bodies = [
        (body._body, tuple(body.position), float(body.angle)) for body in (env.agent, env.block)
    ]
    shapes = [shape._shape for shape in env.space.shapes if shape.body is not walls]
    first_number = lib.cpSpaceGetShapeIDCounter(space) - len(shapes)

    def restart() -> None:
        for shape in shapes:
            lib.cpSpaceRemoveShape(space, shape)
        lib.cpSpaceSetShapeIDCounter(space, first_number)
        for body, position, angle in bodies:
            lib.cpBodyUpdatePosition(body, 0.0)  # clears pending corrections of overlaps
            lib.cpBodySetVelocity(body, (0.0, 0.0))
            lib.cpBodySetAngularVelocity(body, 0.0)
            lib.cpBodySetAngle(body, angle)
            lib.cpBodySetPosition(body, position)
        for shape in shapes:
            lib.cpSpaceAddShape(space, shape)

    return restart


class _Chipmunk(NamedTuple):
    """The handles of an environment's space and bodies, and the calls that stepping needs.

    `get_block` gives the block's pose (px, px, rad) and velocity (px/s, px/s, rad/s).
    """

    space: Any
    agent: Any
    block: Any
    set_velocity: Callable[[Any, tuple[float, float]], None]
    step: Callable[[Any, float], None]
    get_position: Callable[[Any], Any]
    get_block: Callable[[Any], tuple[float, ...]]


def _native_block(block: Any) -> tuple[float, ...]:
    lib = _chipmunk
    position, velocity = lib.cpBodyGetPosition(block), lib.cpBodyGetVelocity(block)
    angle, angular_velocity = lib.cpBodyGetAngle(block), lib.cpBodyGetAngularVelocity(block)
    return position.x, position.y, angle, velocity.x, velocity.y, angular_velocity


def _block(block: Any) -> tuple[float, ...]:
    return (*block.position, block.angle, *block.velocity, block.angular_velocity)


def _chipmunk_of(env: PushTEnv) -> _Chipmunk:
    """Chipmunk's C functions, or pymunk's public methods where these are missing."""
    if _chipmunk:
        return _Chipmunk(
            env.space._space,
            env.agent._body,
            env.block._body,
            _chipmunk.cpBodySetVelocity,
            _chipmunk.cpSpaceStep,
            _chipmunk.cpBodyGetPosition,
            _native_block,
        )
    return _Chipmunk(
        env.space,
        env.agent,
        env.block,
        lambda agent, velocity: setattr(agent, "velocity", velocity),
        lambda space, dt: space.step(dt),
        lambda agent: agent.position,
        _block,
    )


def _control_step(
    chipmunk: _Chipmunk,
    x: float,
    y: float,
    velocity_x: float,
    velocity_y: float,
    target_x: float,
    target_y: float,
) -> tuple[float, float, float, float]:
    """Step a space while the agent is drawn to a target; returns its position and velocity."""
    space, agent, _, set_velocity, step, get_position, _ = chipmunk
    stiffness, damping, substep, substeps = CONTROL
    for _ in range(substeps):
        velocity_x += (stiffness * (target_x - x) + damping * (0.0 - velocity_x)) * substep
        velocity_y += (stiffness * (target_y - y) + damping * (0.0 - velocity_y)) * substep
        set_velocity(agent, (velocity_x, velocity_y))
        step(space, substep)
        position = get_position(agent)
        x, y = position.x, position.y
    return x, y, velocity_x, velocity_y


def _checked(name: str, values: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    """The values as float64; a ValueError unless they are of the shape (None: any) and in reach."""
    array = checks.real(name, values)
    fits = array.ndim == len(shape) and all(
        want in (None, have) for want, have in zip(shape, array.shape, strict=True)
    )
    if not fits:
        expected = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
        raise UserError(f"{name}: expected shape {expected}, got {array.shape}")
    if not np.isfinite(array).all():  # Chipmunk would abort the process
        raise UserError(f"{name}: expected finite numbers, got NaN or infinity; check the source")
    return checks.numbers(name, array, least=-FARTHEST, most=FARTHEST)


def _place(env: PushTEnv, state: np.ndarray) -> None:
    """Set up the space again, with agent and block in a state (7,) or (10,) and no action taken."""
    env._setup()
    env._last_action = None
    env.agent.position = state[STATE.agent].tolist()
    env.agent.velocity = state[STATE.velocity].tolist()
    # The angle comes first: setting it turns the block about its centre of mass, so moves it.
    env.block.angle = float(state[STATE.angle])
    env.block.position = state[STATE.block_position].tolist()
    if len(state) == STATE_WITH_BLOCK_VELOCITY.dim:
        x, y, env.block.angular_velocity = state[STATE.dim :].tolist()
        env.block.velocity = x, y


class Simulator:
    """PushT's physics: reset or enter a state, then step, roll out or render.

    A simulator may be reused: what follows a `reset` or `enter` has the same bits as in a new
    process.
    """

    def __init__(
        self,
        factors: Factors = USUAL,
        *,
        notes_contacts: bool = False,
        frame_size: tuple[int, int] = (FRAME_SIZE, FRAME_SIZE),
    ) -> None:
        """Create it.

        Args:
            factors: what differs from gym-pusht's scene.
            notes_contacts: whether `touched` is known, which makes steps with contact slower.
            frame_size: width and height of rendered frames, px.

        Raises:
            ValueError: a factor is out of its range.
        """
        ensure_add_collision_handler()
        self.factors = factors.checked()
        self._env, self._canvas = (
            _QuietEnv(self.factors, has_counter, frame_size)
            for has_counter in (notes_contacts, False)
        )
        self._env._setup()
        self._has_stepped = False

    def reset(self, seed: int | np.random.Generator) -> np.ndarray:
        """Start as `PushTEnv.reset(seed=seed)` does.

        Args:
            seed: the environment's seed, a whole number below 2^64; or the generator that the state
                is drawn from, as the environment does when it is reset without a seed.

        Returns:
            (7,) float64, the state.

        Raises:
            ValueError: it is neither.
        """
        self._env.n_contact_points = 0
        if isinstance(seed, np.random.Generator):
            self._env.np_random = seed
            self._env.reset()
        else:
            self._env.reset(seed=checks.whole("seed", seed, most=2**64 - 1))
        self._env._last_action = None
        self._has_stepped = True
        return self.state()

    def enter(self, state: np.ndarray) -> None:
        """Put agent and block into a state, without earlier contacts.

        Every state that a simulator has reported is entered bit for bit. Chipmunk stores the
        block's centre of mass instead of its position, so it cannot represent every position. Any
        other is entered to within 6e-14 px, and `state()` returns the one entered.

        Seven numbers leave out the block's velocity and the solver's memory of contacts; the block
        is then at rest. A trajectory that is re-entered while the block rests continues with the
        same bits, or nearly, until a contact that existed at re-entry moves the block. Re-entered
        while the block is pushed, it is off by 0.04 px in the median after 1 s and 0.7 px at the
        90 % quantile; from ten numbers, which leave out only the solver's memory, by 0.002 px and
        0.3 px. Both have a long tail where the block is squeezed between the agent and a wall
        (docs/benchmarks.md).

        Args:
            state: (7,) as `STATE`, or (10,) as `STATE_WITH_BLOCK_VELOCITY`; the angle is kept as
                given, not wrapped.

        Raises:
            ValueError: a wrong shape, or a number that is not finite or farther from 0 than 1e6.
        """
        has_block_velocity = np.shape(state) == (STATE_WITH_BLOCK_VELOCITY.dim,)
        layout = STATE_WITH_BLOCK_VELOCITY if has_block_velocity else STATE
        _place(self._env, _checked("state", state, (layout.dim,)))
        self._has_stepped = False
        self._env.n_contact_points = 0

    def state(self, layout: StateLayout = STATE) -> np.ndarray:
        """The current state.

        Args:
            layout: which numbers.

        Returns:
            (dim,) float64 as the layout says.
        """
        agent, block = self._env.agent, _block(self._env.block)
        return layout.join(agent.position, agent.velocity, block[:3], block_velocity=block[3:])

    @property
    def touched(self) -> bool:
        """Whether anything touched the block in the last reset or step, if contacts are noted."""
        return self._env.n_contact_points > 0

    def step(self, action: np.ndarray) -> None:
        """One control step, as `PushTEnv.step`.

        Args:
            action: (2,) px, the agent's target.

        Raises:
            ValueError: as for `rollout`.
        """
        self.move(*_checked("action", action, (2,)).tolist())

    def move(self, target_x: float, target_y: float) -> None:
        """`step` for numbers that are known to be finite and within reach; they are not checked."""
        env = self._env
        env.n_contact_points = 0
        (x, y), velocity = env.agent.position, env.agent.velocity
        _control_step(_chipmunk_of(env), x, y, velocity.x, velocity.y, target_x, target_y)
        env._last_action = np.array((target_x, target_y))
        self._has_stepped = True

    def rollout(self, actions: np.ndarray, layout: StateLayout = STATE) -> np.ndarray:
        """Carry out actions from the current state.

        Args:
            actions: (T, 2) px, the agent's targets, one each control step of 0.1 s.
            layout: which numbers of the states are returned.

        Returns:
            (T + 1, dim) float64, the states as the layout says; row 0 is the current one.

        Raises:
            ValueError: a wrong shape, or a number that is not finite or farther from 0 than 1e6.
        """
        actions = _checked("actions", actions, (None, 2))
        env = self._env
        chipmunk = _chipmunk_of(env)
        block, get_block = chipmunk.block, chipmunk.get_block
        x, y = env.agent.position
        velocity_x, velocity_y = env.agent.velocity
        agents, velocities, blocks = [(x, y)], [(velocity_x, velocity_y)], [get_block(block)]
        for target_x, target_y in actions.tolist():
            x, y, velocity_x, velocity_y = _control_step(
                chipmunk, x, y, velocity_x, velocity_y, target_x, target_y
            )
            agents.append((x, y))
            velocities.append((velocity_x, velocity_y))
            blocks.append(get_block(block))
        if len(actions):
            env._last_action = actions[-1]
            self._has_stepped = True
        moving = np.array(blocks)
        return layout.join(agents, velocities, moving[:, :3], block_velocity=moving[:, 3:])

    def ensemble(self, state: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Many rollouts from one state, which is entered again before each.

        Args:
            state: (7,) or (10,), as for `enter`.
            actions: (M, T, 2) px, one row of targets per member.

        Returns:
            (M, T + 1, 7) float64.

        Raises:
            ValueError: a wrong shape, or a number that is not finite or farther from 0 than 1e6.
        """
        actions = _checked("actions", actions, (None, None, 2))
        states = np.empty((actions.shape[0], actions.shape[1] + 1, STATE.dim))
        for member, targets in enumerate(actions):
            self.enter(state)
            states[member] = self.rollout(targets)
        return states

    def render(self) -> np.ndarray:
        """The scene as the environment draws it, with a cross at the last action.

        Returns:
            (512, 512, 3) uint8.
        """
        if self._has_stepped:
            return self._env.render()
        # Until the first step, shapes are drawn where they were before the bodies were placed.
        # Reindexing corrects that but changes the order in which later contacts are solved, so it
        # is done in a second environment, the canvas, and not in the simulated space.
        _place(self._canvas, self.state())
        for body in (self._canvas.agent, self._canvas.block):
            self._canvas.space.reindex_shapes_for_body(body)
        return self._canvas.render()


def observations(states: np.ndarray, dtype: npt.DTypeLike = np.float32) -> np.ndarray:
    """gym-pusht's `state` observations of states.

    Args:
        states: (..., 7) as `STATE`.
        dtype: of the result; gym-pusht's is float64.

    Returns:
        (..., 5) as `STATE_WITHOUT_VELOCITY`, the angle in [0, 2π).

    Raises:
        ValueError: a wrong shape, or a number that is not finite.
    """
    layout = STATE_WITHOUT_VELOCITY
    states = checks.numbers("states", states, (..., STATE.dim))
    observed = states[..., STATE.columns(layout.names)]
    observed[..., layout.angle] %= 2 * np.pi
    return observed.astype(dtype)
