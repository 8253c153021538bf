"""Settings of the scene, where it differs from gym-pusht's."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from nsf_pipeline.config.section import Pixel, Range, Section

Scale = Annotated[float, Field(ge=0.25, le=2.0)]
Radius = Annotated[float, Field(ge=1.0, le=60.0)]
Degrees = Annotated[float, Field(ge=-36000.0, le=36000.0)]
REACH = 121.0
"""px; no point of gym-pusht's T is farther from the block's position."""
EXTENT = 142.0
"""px; no two points of gym-pusht's T are farther apart."""
LEAST_ROOM = 200.0
"""px; between walls that face each other."""


class SceneConfig(Section):
    """The scene of each trajectory. Ranges are sampled uniformly; the defaults are gym-pusht's.

    Models know gym-pusht's block, agent and walls alone: with others, only the data are made.
    """

    block_scale: Range[Scale] = (1.0, 1.0)
    """Size of the T and of its goal, in multiples of gym-pusht's."""
    agent_radius: Range[Radius] = (15.0, 15.0)
    """px; of the agent's circle."""
    goal_x: Range[Pixel] = (256.0, 256.0)
    """px; x of the block's goal."""
    goal_y: Range[Pixel] = (256.0, 256.0)
    """px; y of the block's goal."""
    goal_degrees: Range[Degrees] = (45.0, 45.0)
    """deg; angle of the block's goal."""
    walls: Range[Pixel] = (7.0, 504.0)
    """px; least and greatest coordinate within the four walls, the same for all trajectories."""

    @property
    def is_usual(self) -> bool:
        """Whether all trajectories have gym-pusht's scene."""
        return self == SceneConfig()

    @property
    def suits_models(self) -> bool:
        """Whether models know the scenes: these may differ from gym-pusht's in the goal alone."""
        names = "block_scale", "agent_radius", "walls"
        return all(getattr(self, name) == getattr(SceneConfig(), name) for name in names)

    def contradictions(self) -> Iterator[str]:
        """One line for each contradiction between settings of this section."""
        room = self.walls[1] - self.walls[0]
        needed = self.block_scale[1] * EXTENT + 4.0 * self.agent_radius[1]
        if room < max(needed, LEAST_ROOM):
            yield (
                f"policies.scene.walls = {list(self.walls)} px leave {room:g} px, but block and "
                f"agent need {max(needed, LEAST_ROOM):g}; widen them, or lower block_scale or "
                "agent_radius"
            )
        reach = self.block_scale[1] * REACH
        low, high = self.walls[0] + reach, self.walls[1] - reach
        for name in ("goal_x", "goal_y"):
            goal = getattr(self, name)
            if goal[0] < low or goal[1] > high:
                yield (
                    f"policies.scene.{name} = {list(goal)} px: the block at its goal may reach "
                    f"beyond the walls; keep {reach:g} px away from them, or lower block_scale"
                )
