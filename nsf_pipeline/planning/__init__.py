"""Planning: pushes that bring the block to a goal, chosen by asking a world model."""

from nsf_pipeline.planning.file import PlanFile, load_plan, save_plan
from nsf_pipeline.planning.goal import Goal, Tolerance
from nsf_pipeline.planning.models import (
    InSteps,
    Noiseless,
    Nominal,
    OfUser,
    OnePass,
    Random,
    Simulated,
    WorldModel,
)
from nsf_pipeline.planning.planner import Plan, plan, plan_batch
from nsf_pipeline.planning.pushes import Push

__all__ = [
    "Goal",
    "InSteps",
    "Noiseless",
    "Nominal",
    "OfUser",
    "OnePass",
    "Plan",
    "PlanFile",
    "Push",
    "Random",
    "Simulated",
    "Tolerance",
    "WorldModel",
    "load_plan",
    "plan",
    "plan_batch",
    "save_plan",
]
