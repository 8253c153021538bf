"""Conditional Neural Stochastic Flows: transition laws drawn in one pass, with exact densities.

This package knows nothing of PushT: it serves any Markov process that has transitions to learn.
"""

from nsf_pipeline.flow.atoms import Atom, LawWithAtoms
from nsf_pipeline.flow.bijectors import ContinuousAffineCoupling, ContinuousSplineCoupling
from nsf_pipeline.flow.bridge import ConditionalAuxiliaryFlow
from nsf_pipeline.flow.distributions import ContinuousNormalizingFlow, MultivariateNormalDiag
from nsf_pipeline.flow.losses import (
    combined_loss,
    consistency_losses,
    distillation_loss,
    negative_log_likelihood,
    one_to_two_loss,
    two_to_one_loss,
)
from nsf_pipeline.flow.transition import (
    ConditionalGaussianTransition,
    ConditionalNeuralStochasticFlow,
)

__all__ = [
    "Atom",
    "ConditionalAuxiliaryFlow",
    "ConditionalGaussianTransition",
    "ConditionalNeuralStochasticFlow",
    "ContinuousAffineCoupling",
    "ContinuousNormalizingFlow",
    "ContinuousSplineCoupling",
    "LawWithAtoms",
    "MultivariateNormalDiag",
    "combined_loss",
    "consistency_losses",
    "distillation_loss",
    "negative_log_likelihood",
    "one_to_two_loss",
    "two_to_one_loss",
]
