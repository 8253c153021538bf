"""The planner `contact`: the agent goes to a point of the block's outline and pushes there.

A candidate is a point on one of the T's eight sides, the angle between the push and the side's
normal, and how deep the agent pushes. The agent first goes round the block to a place in front of
the point (`transit`), then a DMP without forcing moves it in a straight line. Two pushes in a row
are looked at: after the best first ones, a second one is searched for, from where a first one is
predicted to end. Only the first is executed.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nsf_pipeline.config import ContactConfig, DMPConfig, PolicyConfig
from nsf_pipeline.data.policies import sample_policy
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.planning.goal import PX_PER_RAD
from nsf_pipeline.planning.pushes import Candidates, joined
from nsf_pipeline.planning.search import KEPT, Found, Search
from nsf_pipeline.planning.transit import arrivals, in_room, is_free, to_room, transits
from nsf_pipeline.pusht.geometry import AGENT_RADIUS, T_CENTRE, T_INERTIA, t_outline
from nsf_pipeline.pusht.state import STATE, rotated, rotated_back

GAP = 10.0
"""px between agent and block before the push."""
LENGTH_ADDED = 30.0
"""px; a side is drawn in proportion to its length plus this, so that short ones are drawn too."""
TURN_SPREAD, TURNED = np.deg2rad(15.0), 0.5
"""rad; standard deviation of the angle to the normal, and the share of pushes that have one."""
SHALLOWEST, DEEPEST = 1.0, 160.0
"""px; how deep a push goes into where the block was."""
GUESSED, GUESS_SPREAD = 0.5, 0.2
"""The share of pushes as deep as the remaining error asks for; their spread, of the logarithm."""
SHORTEST, SECONDS_PER_PX = 1.0, 1.0 / 160.0
"""s; s/px; how long a push lasts: the first, plus the second for each px of its way."""
BEST = 20
"""How many first pushes are varied; of the second ones, BEST_SECOND."""
BEST_SECOND = 5
ALONG_SPREAD, ANGLE_SPREAD, DEPTH_SPREAD = 8.0, np.deg2rad(5.0), 0.25
"""px; rad; of the logarithm: standard deviations of the variations."""
TRIES = 3
"""How many times as many contacts are drawn as are needed, for some are out of reach."""

_CORNERS = t_outline(np.zeros(3))
_SIDES = np.roll(_CORNERS, -1, axis=0) - _CORNERS
LENGTHS = np.linalg.norm(_SIDES, axis=1)
_ALONG = _SIDES / LENGTHS[:, None]
_NORMALS = np.stack([_ALONG[:, 1], -_ALONG[:, 0]], axis=1)
_SHARES = (LENGTHS + LENGTH_ADDED) / (LENGTHS + LENGTH_ADDED).sum()
NO_SIDE = len(LENGTHS)
"""The number that stands for no side: of a policy that starts where the agent is."""


class Contacts(NamedTuple):
    """Pushes in the block's frame, with leading axes (states, pushes).

    Attributes:
        side: the number of the T's side, in the order of `geometry.t_outline`.
        along: px from the side's first corner to the point.
        turn: rad between push and normal.
        depth: px that the agent would go into the block if that stood still.
    """

    side: np.ndarray
    along: np.ndarray
    turn: np.ndarray
    depth: np.ndarray

    def take(self, row: int, columns: np.ndarray) -> "Contacts":
        """Some pushes of one state, with one axis."""
        return Contacts(*(values[row][columns] for values in self))

    @property
    def point(self) -> np.ndarray:
        """(..., 2) px, where the agent touches the T first."""
        return _CORNERS[self.side] + self.along[..., None] * _ALONG[self.side]

    @property
    def place(self) -> np.ndarray:
        """(..., 2) px, where the push starts."""
        return self.point + (AGENT_RADIUS + GAP) * _NORMALS[self.side]

    @property
    def direction(self) -> np.ndarray:
        """(..., 2) the unit vector along which the agent pushes."""
        inward, cos, sin = -_NORMALS[self.side], np.cos(self.turn), np.sin(self.turn)
        return np.stack(rotated(inward[..., 0], inward[..., 1], cos, sin), axis=-1)


def find(search: Search, config: ContactConfig) -> list[Found]:
    """The best pushes of each episode, best first."""
    episodes = np.arange(len(search.states))
    firsts, contacts = _round(search, episodes, search.states, config.candidates, config.varied)
    beams = [_beam(each, sides, config) for each, sides in zip(firsts, contacts, strict=True)]
    # Where a second push starts: the end that is in the middle, by cost, of a first push's draws.
    starts, begun, reached = [], [], []
    for goal, found, rows in zip(search.goals, firsts, beams, strict=True):
        chosen = found.take(rows)
        seconds = chosen.candidates.seconds
        costs = goal.cost(chosen.ends, seconds[:, None])
        middle = np.argsort(costs, axis=1)[:, costs.shape[1] // 2]
        starts.append(chosen.ends[np.arange(len(rows)), middle])
        reached.append(costs[np.arange(len(rows)), middle])
        begun.append(seconds)
    rows_of = np.repeat(episodes, [len(rows) for rows in beams])
    laters, _ = _round(
        search,
        rows_of,
        np.concatenate(starts),
        config.second_candidates,
        config.second_varied,
        np.concatenate(begun),
        BEST_SECOND,
    )
    best = np.array([found.costs.min() for found in laters])
    gains = np.maximum(np.concatenate(reached) - best, 0.0)
    results = []
    for episode, (found, rows) in enumerate(zip(firsts, beams, strict=True)):
        costs = found.costs.copy()
        costs[rows] -= gains[rows_of == episode]
        results.append(found._replace(costs=costs).best(KEPT))
    return results


def _round(
    search: Search,
    episodes: np.ndarray,
    states: np.ndarray,
    count: int,
    varied: int,
    begun: np.ndarray | float = 0.0,
    best: int = BEST,
) -> tuple[list[Found], list[np.ndarray]]:
    """Pushes from some states, drawn and then varied, not sorted; and the sides that they push.

    Args:
        search: the episodes.
        episodes: (n) the episode that each state belongs to.
        states: (n, 7) px, px/s, rad.
        count: pushes drawn from each.
        varied: variations of the best of them.
        begun: (n) s; when they start.
        best: how many are varied.
    """
    begun = np.broadcast_to(begun, len(states))
    drawn = _drawn(search, episodes, states, count)
    found, sides = _evaluated(search, episodes, states, drawn, begun)
    if varied:
        chosen = [np.argsort(each.costs, kind="stable")[:best] for each in found]
        others = _varied(search, episodes, drawn, chosen, varied)
        more, more_sides = _evaluated(search, episodes, states, others, begun)
        found = [_both(*pair) for pair in zip(found, more, strict=True)]
        sides = [np.concatenate(pair) for pair in zip(sides, more_sides, strict=True)]
    return found, sides


def _drawn(search: Search, episodes: np.ndarray, states: np.ndarray, count: int) -> Contacts:
    """Contacts in reach from each state, or any where there are too few of these."""
    poses = states[:, STATE.block]
    errors = _errors(search, episodes, poses)
    rows = []
    for row, (episode, pose) in enumerate(zip(episodes, poses, strict=True)):
        random, drawn = search.randoms[episode], TRIES * count
        side = random.choice(len(LENGTHS), drawn, p=_SHARES)
        along = LENGTHS[side] * random.random(drawn)
        turn = random.normal(0.0, TURN_SPREAD, drawn) * (random.random(drawn) < TURNED)
        contacts = Contacts(side, along, turn, np.zeros(drawn))
        place = contacts.place
        fits = is_free(place) & in_room(to_room(pose[None], place[None])[0])
        kept = np.argsort(~fits, kind="stable")[:count]
        contacts = Contacts(*(values[kept] for values in contacts))
        any_depth = np.exp(random.uniform(np.log(SHALLOWEST), np.log(DEEPEST), count))
        guess = _depth(contacts, errors[row])
        known = guess * np.exp(random.normal(0.0, GUESS_SPREAD, count))
        is_guess = (random.random(count) < GUESSED) & (guess > SHALLOWEST)
        depth = np.where(is_guess, known, any_depth).clip(SHALLOWEST, DEEPEST)
        rows.append(contacts._replace(depth=depth))
    return Contacts(*(np.stack(values) for values in zip(*rows, strict=True)))


def _varied(
    search: Search,
    episodes: np.ndarray,
    contacts: Contacts,
    chosen: Sequence[np.ndarray],
    count: int,
) -> Contacts:
    """Variations of the chosen pushes, all about equally often."""
    rows = []
    for row, (episode, best) in enumerate(zip(episodes, chosen, strict=True)):
        random = search.randoms[episode]
        some = contacts.take(row, best[np.arange(count) % len(best)])
        along = some.along + random.normal(0.0, ALONG_SPREAD, count)
        turn = some.turn + random.normal(0.0, ANGLE_SPREAD, count)
        depth = some.depth * np.exp(random.normal(0.0, DEPTH_SPREAD, count))
        rows.append(
            Contacts(
                some.side,
                along.clip(0.0, LENGTHS[some.side]),
                turn,
                depth.clip(SHALLOWEST, DEEPEST),
            )
        )
    return Contacts(*(np.stack(values) for values in zip(*rows, strict=True)))


def _errors(search: Search, episodes: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """(n, 3) px, px, rad; how the block must move and turn, in its own frame."""
    pairs = zip(episodes, poses, strict=True)
    dx, dy, turn = np.stack([search.goals[episode].error(pose) for episode, pose in pairs]).T
    own = rotated_back(dx, dy, np.cos(poses[:, 2]), np.sin(poses[:, 2]))
    return np.stack([*own, turn], axis=-1)


def _depth(contacts: Contacts, error: np.ndarray) -> np.ndarray:
    """(k) px; the depth that leaves the least error, for a push that the block gives way to.

    A push of depth s with the lever l about the centre of mass moves that by p = s / (1 + l^2 / I)
    along the push and turns the block by p l / I, with I the moment of inertia over the mass
    (`model.push`). p minimises |d - p u|^2 + (55 px)^2 (θ - p l / I)^2.
    """
    direction, arm = contacts.direction, contacts.point - T_CENTRE
    lever = arm[..., 0] * direction[..., 1] - arm[..., 1] * direction[..., 0]
    per_px = lever / T_INERTIA
    wanted = direction @ error[:2] + PX_PER_RAD**2 * error[2] * per_px
    return wanted / (1.0 + (PX_PER_RAD * per_px) ** 2) * (1.0 + lever * per_px)


def _evaluated(
    search: Search,
    episodes: np.ndarray,
    states: np.ndarray,
    contacts: Contacts,
    begun: np.ndarray,
) -> tuple[list[Found], list[np.ndarray]]:
    """What the model says of contacts (n, k): for each state what was found, and the sides."""
    pushes, sides = _pushes(search, episodes, states, contacts)
    count = contacts.side.shape[1]
    starts = np.searchsorted(episodes, np.arange(len(search.states) + 1)) * count
    parts = [pushes.take(np.arange(*span)) for span in itertools.pairwise(starts)]
    when = [np.repeat(begun, count)[slice(*span)] for span in itertools.pairwise(starts)]
    whole = search.evaluate(parts, when)
    found = []
    for each in whole:
        rows = np.arange(len(each.costs)).reshape(-1, count)
        found += [each.take(own) for own in rows]
    return found, list(sides)


def _pushes(
    search: Search, episodes: np.ndarray, states: np.ndarray, contacts: Contacts
) -> tuple[Candidates, np.ndarray]:
    """Contacts (n, k) as n k candidates, and (n, k) the sides that these push.

    Where there is no way to a contact, the candidate is a policy from where the agent is.
    """
    poses, dmp = states[:, STATE.block], search.model.dmp
    shape = contacts.side.shape
    ends = to_room(poses, contacts.place)
    ways = transits(states[:, STATE.agent], poses, ends)
    reach = (GAP + contacts.depth)[..., None] * contacts.direction
    goals = to_room(poses, contacts.place + reach)
    noise = np.repeat(search.noise[episodes], shape[1])
    policies = _straight(ends, goals, contacts.depth, noise, dmp)
    steps, arrived = ways.steps, np.repeat(states, shape[1], axis=0)
    flat = ways.targets.reshape(-1, *ways.targets.shape[2:])
    arrived = arrivals(arrived, flat, steps.ravel())
    candidates = Candidates(flat, steps.ravel(), arrived, policies)
    lost = ~ways.exists
    sides = np.where(lost, NO_SIDE, contacts.side)
    if lost.any():
        candidates = _with_direct(search, episodes, states, candidates, lost)
    return candidates, sides


def _straight(
    starts: np.ndarray, goals: np.ndarray, depth: np.ndarray, noise: np.ndarray, dmp: DMPConfig
) -> DMPParams:
    """DMPs without forcing between points (n, k, 2), with one leading axis n k."""
    (stiffness, _), (damping_ratio, _) = PRIOR.stiffness, PRIOR.damping_ratio
    count = depth.size
    return DMPParams(
        duration=SHORTEST + SECONDS_PER_PX * (GAP + depth).ravel(),
        start=starts.reshape(-1, 2),
        goal=goals.reshape(-1, 2).clip(*dmp.workspace),
        weights=np.zeros((count, 2, dmp.n_basis)),
        stiffness=np.full(count, stiffness),
        damping=np.full(count, 2.0 * damping_ratio * np.sqrt(stiffness)),
        action_noise_std=noise,
    )


def _with_direct(
    search: Search,
    episodes: np.ndarray,
    states: np.ndarray,
    candidates: Candidates,
    lost: np.ndarray,
) -> Candidates:
    """The candidates, with policies from where the agent is in the place of the lost ones."""
    count = lost.shape[1]
    parts, places = [candidates], np.arange(lost.size)
    free = lost.size
    for row in np.flatnonzero(lost.any(axis=1)):
        columns = np.flatnonzero(lost[row])
        random = search.randoms[episodes[row]]
        noise = float(search.noise[episodes[row]])
        policies = sample_policy(
            random, states[row], PRIOR, search.model.dmp, noise, (len(columns),)
        )
        parts.append(Candidates.without_transit(states[row], policies))
        places[row * count + columns] = free + np.arange(len(columns))
        free += len(columns)
    return joined(parts).take(places)


def _beam(found: Found, sides: np.ndarray, config: ContactConfig) -> np.ndarray:
    """Rows of the first pushes after which a second one is looked for."""
    order = np.argsort(found.costs, kind="stable")
    is_side = sides[order][:, None] == np.arange(NO_SIDE + 1)
    rank = np.cumsum(is_side, axis=0)[np.arange(len(order)), sides[order]]
    return order[rank <= config.per_face][: config.beam]


def _both(one: Found, other: Found) -> Found:
    return Found(
        joined([one.candidates, other.candidates]),
        np.concatenate([one.ends, other.ends]),
        np.concatenate([one.costs, other.costs]),
    )


PRIOR = PolicyConfig(duration=(1.0, 2.6))
