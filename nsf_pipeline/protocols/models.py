"""World models by their names in the tables."""

from nsf_pipeline.config import DMPConfig
from nsf_pipeline.planning.models import Learnt, Nominal, Random, Simulated, WorldModel, learned
from nsf_pipeline.protocols.rows import NOMINAL, RANDOM, SIMULATOR, parsed


def world_model(name: str, model: Learnt | None, dmp: DMPConfig) -> WorldModel:
    """The world model of a name.

    Args:
        name: as `rows.parsed` takes it.
        model: the trained model behind it; None where there is none.
        dmp: what all DMPs have in common.

    Raises:
        UserError: the name has no meaning, or too large a number.
    """
    base, kind, count = parsed(name)
    if base == NOMINAL:
        return Nominal(dmp)
    if base == RANDOM:
        return Random(dmp)
    if base == SIMULATOR:
        return Simulated(dmp, count)
    assert model is not None, name
    return learned(model, count, base, in_steps=kind == "steps")
