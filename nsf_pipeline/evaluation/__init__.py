"""How close the learned law is to the test split: scores, tables and pictures."""

from nsf_pipeline.evaluation.comparison import evaluate_pusht

__all__ = ["evaluate_pusht"]
