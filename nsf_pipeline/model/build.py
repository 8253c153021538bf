"""Untrained models, of the kind that their settings name."""

import itertools
from typing import Any

import jax
from jaxtyping import PRNGKeyArray

from nsf_pipeline.config import DMPConfig, ModelConfig, NetworkConfig
from nsf_pipeline.flow import ConditionalAuxiliaryFlow, ConditionalNeuralStochasticFlow
from nsf_pipeline.flow.atoms import Atom
from nsf_pipeline.flow.guard import require_key
from nsf_pipeline.model.encoder import Encoder
from nsf_pipeline.model.model import PushTModel
from nsf_pipeline.model.normaliser import Normaliser
from nsf_pipeline.model.transition import FlowTransition, PushTBridge
from nsf_pipeline.numerics import with_defaults
from nsf_pipeline.pusht.state import StateLayout

ACTIVATIONS = {
    "silu": jax.nn.silu,
    "tanh": jax.nn.tanh,
    "gelu": jax.nn.gelu,
    "softplus": jax.nn.softplus,
}
MIN_STD = 0.02
"""Least noise of a residual's number, in units of its scale and per root of TIME_UNIT."""
WHOLE_MIN_STD = 0.005
"""The same without the nominal push: residuals are whole motions then, and their scale is larger;
the block's about three times."""
VELOCITY_MIN_STD = 0.1
"""The same of the block's velocity, which nothing needs to know more closely: in the substep for
which the block moves with it, a tenth of its scale is less than 0.1 px."""
AGENT_MIN_STD = 0.3
"""The same of the agent where its noise is known, in units of that noise."""


@with_defaults
def build_model(
    config: ModelConfig, dmp: DMPConfig, normaliser: Normaliser, *, key: PRNGKeyArray
) -> PushTModel:
    """An untrained model.

    Args:
        config: its kind and sizes.
        dmp: what all policies share.
        normaliser: see `fit_normaliser`.
        key: for the initial weights.

    Raises:
        ValueError: the normaliser's numbers mean nothing, or the key is no single key.
    """
    normaliser.require_meaning(config.state_dim)
    require_key(key)
    encoder = Encoder(config, dmp, normaliser)
    if config.kind == "neural_sde":
        # Its solver is slow to import.
        from nsf_pipeline.model.neural_sde import SDETransition

        sizes = config.flow
        shape = sizes.hidden_size, sizes.depth, ACTIVATIONS[sizes.activation]
        least = _min_std(config)
        return PushTModel(SDETransition.build(encoder, *shape, least, key=key), None)
    flow_key, bridge_key, rest_key = jax.random.split(key, 3)
    transition = FlowTransition(
        flow=_flow(encoder, key=flow_key),
        rest=_rests(encoder, 1, config.flow.hidden_size, key=rest_key),
        encoder=encoder,
    )
    bridge = PushTBridge(*_bridge(encoder, key=bridge_key), encoder)
    return PushTModel(transition, bridge)


def _flow(encoder: Encoder, *, key: PRNGKeyArray) -> ConditionalNeuralStochasticFlow:
    layout, least = encoder.layout, _min_std(encoder.config)
    agents = AGENT_MIN_STD if encoder.knows_noise else least
    agent = layout.block.start
    # Couplings move the block's position given the rest, its angle given the rest, and the agent.
    # Where the agent's noise is known the agent's law is Gaussian, for nothing pushes the agent
    # back: no coupling moves it.
    parts = [layout.block_position, layout.block_angle, slice(0, agent)]
    if encoder.knows_noise:
        parts.pop()
    sizes, widths = _network(encoder.config.flow), [agents] * agent + [least] * (layout.dim - agent)
    if layout.block_velocity is not None:
        widths[layout.block.stop :] = [VELOCITY_MIN_STD] * (layout.dim - layout.block.stop)
        # Unless the law is Gaussian, one coupling more moves the block's velocity given the rest.
        count = sizes["num_flow_layers"]
        parts = [*itertools.islice(itertools.cycle(parts), count), slice(layout.block.stop, None)]
        sizes["num_flow_layers"] += count > 0
    return ConditionalNeuralStochasticFlow(
        layout.dim,
        encoder.feature_dim,
        autonomous=True,  # s enters by the features alone, where the model may know it
        min_std=tuple(widths),
        **sizes,
        moved=[_mask(layout, part) for part in parts],
        groups=_groups(layout),
        key=key,
    )


def _bridge(
    encoder: Encoder, *, key: PRNGKeyArray
) -> tuple[ConditionalAuxiliaryFlow, tuple[Atom, ...]]:
    layout, config = encoder.layout, encoder.config.bridge
    key, rest_key = jax.random.split(key)
    parts = (layout.block, layout.velocity or layout.agent)
    flow = ConditionalAuxiliaryFlow(
        layout.dim,
        encoder.feature_dim,
        autonomous=True,
        min_std=_min_std(encoder.config),
        **_network(config),
        moved=[_mask(layout, part) for part in parts],
        groups=_groups(layout),
        key=key,
    )
    return flow, _rests(encoder, 2, config.hidden_size, key=rest_key)


def _rests(
    encoder: Encoder, count: int, hidden_size: int, *, key: PRNGKeyArray
) -> tuple[Atom, ...]:
    """`count` atoms of a block at rest and, if the state holds it, that of a velocity of 0."""
    layout = encoder.layout
    if not encoder.config.rest:
        return ()
    pinned = [_mask(layout, slice(layout.block.start, None))] * count
    if layout.block_velocity is not None:
        pinned.append(_mask(layout, slice(layout.block.stop, None)))
    keys = jax.random.split(key, len(pinned))
    return tuple(
        Atom(each, hidden_size, hidden_size, key=own)
        for each, own in zip(pinned, keys, strict=True)
    )


def _mask(layout: StateLayout, part: slice) -> list[bool]:
    places = range(*part.indices(layout.dim))
    return [place in places for place in range(layout.dim)]


def _groups(layout: StateLayout) -> list[int]:
    """The agent, the block's pose, its velocity: none changes the law of those before it."""
    starts = layout.block.start, layout.block.stop
    return [sum(place >= start for start in starts) for place in range(layout.dim)]


def _min_std(config: ModelConfig) -> float:
    return MIN_STD if config.physics == "push" else WHOLE_MIN_STD


def _network(config: NetworkConfig) -> dict[str, Any]:
    return {**dict(config), "activation": ACTIVATIONS[config.activation]}
