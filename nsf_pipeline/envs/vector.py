"""Many environments of PushT in one process: episodes that end and begin, and the simulator's."""

import abc
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from nsf_pipeline import checks
from nsf_pipeline.envs import MAX_STEPS, outcome
from nsf_pipeline.errors import UserError
from nsf_pipeline.pusht import geometry
from nsf_pipeline.pusht.factors import USUAL, Factors
from nsf_pipeline.pusht.simulator import Simulator, observations
from nsf_pipeline.pusht.state import STATE

MOST_ENVS = 100_000


class Moved(NamedTuple):
    """What a step gives.

    Attributes:
        states: (n, 7) px, px/s, rad.
        more: what `info` tells besides, by name, with a first axis n.
    """

    states: np.ndarray
    more: dict[str, np.ndarray]

    def of(self, which: np.ndarray) -> "Moved":
        """Some of the rows."""
        more = {name: values[which] for name, values in self.more.items()}
        return Moved(self.states[which], more)

    def with_more(self, **more: np.ndarray) -> "Moved":
        """The same, of which `info` tells more."""
        return self._replace(more={**self.more, **more})


class BatchEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray], abc.ABC):
    """Many environments that step together, in all of Gymnasium's modes of autoreset.

    It resets and ends episodes, and computes observations, rewards and `info`. Subclasses say how
    states begin and move.

    Attributes:
        states: (n, 7) px, px/s, rad; the present ones.
        steps_taken: (n) in the present episodes.
        has_ended: (n) whether the last step ended the episode.
        generators: the environments' random generators.
    """

    single_action_space: spaces.Box
    single_observation_space: spaces.Box

    def __init__(
        self,
        num_envs: int,
        action_space: spaces.Box,
        factors: Factors,
        *,
        render_mode: str | None,
        max_episode_steps: int | None,
        autoreset_mode: AutoresetMode | str,
    ) -> None:
        """Create it.

        Args:
            num_envs: how many.
            action_space: of one environment.
            factors: what differs from gym-pusht's scene, checked.
            render_mode: `rgb_array` or None.
            max_episode_steps: after which an episode is truncated; None or -1 for never.
            autoreset_mode: when an episode that has ended is followed by the next.

        Raises:
            UserError: a setting is out of its range.
        """
        self.num_envs = checks.whole("num_envs", num_envs, 1, MOST_ENVS)
        self.factors = factors
        self.render_mode = outcome.render_mode(render_mode)
        self.max_episode_steps = None
        if max_episode_steps not in (None, -1):
            self.max_episode_steps = checks.whole("max_episode_steps", max_episode_steps, 1)
        try:
            self.autoreset_mode = AutoresetMode(autoreset_mode)
        except ValueError:
            known = ", ".join(mode.value for mode in AutoresetMode)
            raise UserError(
                f"expected autoreset_mode to be one of {known}, got {checks.shown(autoreset_mode)}"
            ) from None
        self.metadata = {**outcome.METADATA, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = outcome.observation_space()
        self.single_action_space = action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.generators = [np.random.default_rng() for _ in range(self.num_envs)]
        self._seeds: list[int | None] = [None] * self.num_envs
        self.states = np.zeros((self.num_envs, STATE.dim))
        self.steps_taken = np.zeros(self.num_envs, int)
        self.has_ended = np.ones(self.num_envs, bool)
        self._has_begun = np.zeros(self.num_envs, bool)

    @abc.abstractmethod
    def _begin(self, rows: np.ndarray, states: np.ndarray | None) -> Moved:
        """Begin episodes.

        Args:
            rows: (r) numbers of the environments.
            states: (r, 7) to enter; None to draw them as gym-pusht does, from `generators`.

        Returns:
            Where the episodes begin, with a first axis r.
        """

    @abc.abstractmethod
    def _move(self, rows: np.ndarray, actions: np.ndarray) -> Moved:
        """Carry out actions.

        Args:
            rows: (r) numbers of the environments that take theirs.
            actions: (n, a) of all environments.

        Returns:
            What comes of it, with a first axis r.
        """

    @abc.abstractmethod
    def _frame(self, row: int) -> np.ndarray:
        """(height, width, 3) uint8, of one environment."""

    @property  # type: ignore[misc]
    def np_random(self) -> Any:
        """The random generators of the environments, a tuple."""
        return tuple(self.generators)

    @property
    def np_random_seed(self) -> Any:
        """The seeds of the environments' random generators, a tuple; None where none was given."""
        return tuple(self._seeds)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Start episodes.

        Args:
            seed: of gym-pusht's reset: one for each environment, or the first of n numbers in a
                row; None goes on with the random numbers of the last episodes.
            options: `state`, the seven numbers to start in, (7) or (n, 7); and `reset_mask`, (n)
                bool, which environments start anew, all if absent.

        Returns:
            (n, 5) observations, and `info` of those that started.

        Raises:
            UserError: an unknown option, or an argument means nothing.
        """
        given = outcome.options_of(options, ("state", "reset_mask"))
        rows = np.flatnonzero(self._mask(given))
        states = None
        if "state" in given:
            shape = np.shape(given["state"])
            shape = (STATE.dim,) if len(shape) == 1 else (self.num_envs, STATE.dim)
            entered = outcome.state_in(given, shape)
            states = np.broadcast_to(entered, (self.num_envs, STATE.dim))[rows]
        for row, own in zip(rows, [self._seeds_of(seed)[row] for row in rows], strict=True):
            if own is not None:
                self.generators[row], self._seeds[row] = seeding.np_random(own)
        info = self._restart(rows, states)
        return self._observations(), info

    def step(
        self, actions: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Take one action in each environment.

        Args:
            actions: (n, a) one row for each.

        Returns:
            (n, 5) observations, (n) rewards, (n) whether the block covers the goal, (n) whether the
            episode was cut short, and `info`.

        Raises:
            UserError: another shape, an action is not in the space, or an environment was not
                reset.
        """
        shape = self.num_envs, *self.single_action_space.shape
        given = outcome.actions_in(self.single_action_space, actions, shape)
        begins = self._restarts()
        rows = np.flatnonzero(~begins)
        rewards, ended, cut = (np.zeros(self.num_envs, kind) for kind in (float, bool, bool))
        info: dict[str, Any] = {}
        if len(rows):
            moved = self._move(rows, given)
            self.states[rows] = moved.states
            self.steps_taken[rows] += 1
            factors = self.factors
            poses = moved.states[:, STATE.block]
            share = geometry.coverage(poses, factors.goal, factors.block_scale)
            rewards[rows] = geometry.reward(share)
            ended[rows] = share > geometry.SUCCESS_THRESHOLD
            if self.max_episode_steps is not None:
                cut[rows] = self.steps_taken[rows] >= self.max_episode_steps
            moved = moved.with_more(is_success=ended[rows], coverage=share)
            if self.autoreset_mode is AutoresetMode.SAME_STEP and (ended | cut).any():
                begins = ended | cut
                info = self._final(begins, moved)
                rows, moved = rows[~begins], moved.of(~begins)
            info |= self._info(rows, moved) if len(rows) else {}
        self.has_ended = ended | cut
        if begins.any():
            info = _joined(info, self._restart(np.flatnonzero(begins), None))
        return self._observations(), rewards, ended, cut, info

    def render(self) -> tuple[np.ndarray, ...] | None:
        """(height, width, 3) uint8 of each environment; None if `render_mode` is None."""
        if self.render_mode is None:
            return None
        return tuple(self._frame(row) for row in range(self.num_envs))

    def _restarts(self) -> np.ndarray:
        """(n) whether an environment begins an episode in this step, in place of its action."""
        if not self._has_begun.all():
            raise UserError("expected a reset before the first step; call reset()")
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            return self.has_ended.copy()
        if self.has_ended.any():
            raise UserError(
                f"environment {self.has_ended.argmax()}: its episode has ended; call "
                "reset(options={'reset_mask': ...}), or use another autoreset_mode"
            )
        return np.zeros(self.num_envs, bool)

    def _final(self, ended: np.ndarray, moved: Moved) -> dict[str, Any]:
        """What `info` tells of the ends of episodes that are followed by others at once."""
        seen, final = self._observations(), np.full(self.num_envs, None, object)
        for row in np.flatnonzero(ended):
            final[row] = seen[row]
        last = self._info(np.flatnonzero(ended), moved.of(ended))
        return {"final_obs": final, "_final_obs": ended, "final_info": last, "_final_info": ended}

    def _mask(self, options: dict[str, Any]) -> np.ndarray:
        mask = options.get("reset_mask", np.ones(self.num_envs, bool))
        fits = isinstance(mask, np.ndarray) and mask.dtype == bool
        if not fits or mask.shape != (self.num_envs,) or not mask.any():
            raise UserError(
                f"expected the option reset_mask to be an array of {self.num_envs} booleans, one "
                f"of them true, got {checks.shown(mask)}"
            )
        return mask

    def _seeds_of(self, seed: Any) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, list | tuple | np.ndarray):
            if len(seed) != self.num_envs:
                raise UserError(f"expected {self.num_envs} seeds, got {len(seed)}")
            return [None if own is None else checks.whole("seed", own, most=2**63) for own in seed]
        first = checks.whole("seed", seed, most=2**63)
        return [first + row for row in range(self.num_envs)]

    def _observations(self) -> np.ndarray:
        return observations(self.states, np.float64)

    def _restart(self, rows: np.ndarray, states: np.ndarray | None) -> dict[str, Any]:
        """Begin episodes, and what `info` tells of them."""
        begun = self._begin(rows, states)
        self.states[rows] = begun.states
        self.steps_taken[rows] = 0
        self.has_ended[rows], self._has_begun[rows] = False, True
        return self._info(rows, begun.with_more(is_success=np.zeros(len(rows), bool)))

    def _info(self, rows: np.ndarray, moved: Moved) -> dict[str, Any]:
        """`info` of some environments, as Gymnasium joins it: with masks, by names with _."""
        found = outcome.info_of(moved.states, self.factors) | moved.more
        joined = {}
        for name, values in found.items():
            joined[name] = np.zeros((self.num_envs, *values.shape[1:]), values.dtype)
            joined[f"_{name}"] = np.zeros(self.num_envs, bool)
            joined[name][rows], joined[f"_{name}"][rows] = values, True
        return joined


class PushTVectorEnv(BatchEnv):
    """Many environments of PushT in the simulator, stepped one after the other in one process.

    Environment i is `PushTEnv` with the same settings and the seed of its own.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        render_mode: str | None = "rgb_array",
        max_episode_steps: int | None = MAX_STEPS,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        visualization_width: int = outcome.VISUALISED,
        visualization_height: int = outcome.VISUALISED,
        block_scale: float = USUAL.block_scale,
        agent_radius: float = USUAL.agent_radius,
        goal_pose: Any = USUAL.goal_pose,
        walls: Any = USUAL.walls,
        action_noise_std: float = 0.0,
    ) -> None:
        """Create it; for the settings that are not here see `PushTEnv` and `BatchEnv`.

        Args:
            num_envs: how many.
            render_mode: `rgb_array` or None.
            max_episode_steps: after which an episode is truncated; None or -1 for never.
            autoreset_mode: one of Gymnasium's.
            visualization_width: px, of rendered frames.
            visualization_height: px.
            block_scale: as in `PushTEnv`.
            agent_radius: px.
            goal_pose: (3) px, px, rad.
            walls: (2) px.
            action_noise_std: px.

        Raises:
            UserError: a setting is out of its range.
        """
        factors = Factors(block_scale, agent_radius, goal_pose, walls).checked()
        super().__init__(
            num_envs,
            outcome.target_space(*geometry.WORKSPACE),
            factors,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
            autoreset_mode=autoreset_mode,
        )
        self.action_noise_std = outcome.noise_std(action_noise_std)
        size = outcome.frame_size(visualization_width, visualization_height)
        self.simulators = [
            Simulator(factors, notes_contacts=True, frame_size=size) for _ in range(self.num_envs)
        ]

    def _begin(self, rows: np.ndarray, states: np.ndarray | None) -> Moved:
        for place, row in enumerate(rows.tolist()):
            if states is None:
                self.simulators[row].reset(self.generators[row])
            else:
                self.simulators[row].enter(states[place])
        return self._found(rows)

    def _move(self, rows: np.ndarray, actions: np.ndarray) -> Moved:
        targets, more = actions[rows], {}
        if self.action_noise_std:
            noise = [self.generators[row].normal(0.0, self.action_noise_std, 2) for row in rows]
            executed = (targets + noise).clip(*geometry.WORKSPACE).astype(np.float32)
            targets, more = executed, {"executed_action": executed}
        for row, target in zip(rows.tolist(), targets.tolist(), strict=True):
            self.simulators[row].move(*target)
        return self._found(rows).with_more(**more)

    def _found(self, rows: np.ndarray) -> Moved:
        own = [self.simulators[row] for row in rows]
        states = np.array([simulator.state() for simulator in own])
        return Moved(states, {"n_contacts": np.array([int(each.touched) for each in own])})

    def _frame(self, row: int) -> np.ndarray:
        return self.simulators[row].render()


def _joined(info: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """`info` of some environments and of others."""
    joined = dict(info)
    for name, values in other.items():
        if name.startswith("_"):
            joined[name] = joined[name] | values if name in joined else values
            continue
        rows = other[f"_{name}"].reshape(-1, *[1] * (values.ndim - 1))
        joined[name] = np.where(rows, values, joined[name]) if name in joined else values
    return joined
