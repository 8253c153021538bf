"""Simulators of the scenes of trajectories."""

from nsf_pipeline.pusht.factors import Factors
from nsf_pipeline.pusht.simulator import Simulator


class Simulators:
    """A simulator for any factors; that of the last is kept, for most need only one."""

    def __init__(self) -> None:
        self._last = Simulator()

    def of(self, factors: Factors) -> Simulator:
        """The simulator of some factors; it may have been used before."""
        if self._last.factors != factors:
            self._last = Simulator(factors)
        return self._last
