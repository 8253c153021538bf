"""How the environment controls the agent, read from the environment itself."""

from typing import NamedTuple

from gym_pusht.envs import PushTEnv


class Control(NamedTuple):
    """The agent's PD control: in every substep, v <- v + h (K (target - p) - D v).

    Attributes:
        stiffness: K, per s^2.
        damping: D, per s.
        substep: h, s.
        substeps: number of substeps in a control step, during which the target is constant.
    """

    stiffness: float
    damping: float
    substep: float
    substeps: int

    @classmethod
    def of(cls, env: PushTEnv) -> "Control":
        """The control of an environment, which need not have been reset."""
        substeps = int(1 / (env.dt * env.control_hz))  # as in `PushTEnv.step`
        return cls(float(env.k_p), float(env.k_v), float(env.dt), substeps)


CONTROL = Control.of(PushTEnv())
"""The control of gym-pusht's default environment, which `Simulator` runs."""
