"""How the environment controls the agent, read from the environment itself."""

from typing import NamedTuple

from gym_pusht.envs import PushTEnv


class Control(NamedTuple):
    """The agent's PD control: in every substep, v <- v + h (K (target - p) - D v).

    Attributes:
        stiffness: K, per s^2.
        damping: D, per s.
        substep: h, s.
        substeps: of a control step, for which the target is held.
    """

    stiffness: float
    damping: float
    substep: float
    substeps: int

    @classmethod
    def of(cls, env: PushTEnv) -> "Control":
        """That of an environment, which need not have been reset."""
        substeps = int(1 / (env.dt * env.control_hz))  # as `PushTEnv.step` has it
        return cls(float(env.k_p), float(env.k_v), float(env.dt), substeps)


CONTROL = Control.of(PushTEnv())
"""That of gym-pusht's environment by default, as `Simulator` runs it."""
