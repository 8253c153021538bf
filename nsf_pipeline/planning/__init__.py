"""Planning: pushes that bring the block to a goal, chosen by asking a world model."""

from nsf_pipeline.planning.goal import Goal
from nsf_pipeline.planning.models import Nominal, WorldModel
from nsf_pipeline.planning.planner import Plan, plan, plan_batch
from nsf_pipeline.planning.pushes import Push

__all__ = ["Goal", "Nominal", "Plan", "Push", "WorldModel", "plan", "plan_batch"]
