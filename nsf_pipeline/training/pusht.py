"""What the training of the PushT model says of itself, and how much data sizes are measured on."""

import equinox as eqx
import jax

from nsf_pipeline.data.sources import Source
from nsf_pipeline.data.streaming import StreamedTransitions
from nsf_pipeline.model import PushTModel

NORMALISER_SIZE = 65_536
"""Transitions that the residuals' sizes are measured on."""


def summary(training: Source, model: PushTModel) -> str:
    """One line about the size of the data and the model, and the devices."""
    count = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)))
    devices = jax.devices()
    where = f"{len(devices)} x " * (len(devices) > 1) + devices[0].device_kind
    data = "streamed from the file" if isinstance(training, StreamedTransitions) else "in memory"
    return f"{len(training)} starts, {data}; {count} parameters, on {where}"
