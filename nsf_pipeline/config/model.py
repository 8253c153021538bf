"""Settings of the model and of its networks."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from nsf_pipeline.config.section import Section
from nsf_pipeline.config.training import TrainingConfig
from nsf_pipeline.timing import CONTROL_DT

Width = Annotated[int, Field(ge=1, le=4096)]
Activation = Literal["silu", "tanh", "gelu", "softplus"]
ScaleFunction = Literal["tanh_exp", "exp", "softplus"]
Coupling = Literal["affine", "spline"]
Physics = Literal["push", "path", "none"]


KINDS = ("flow", "neural_sde")
"""The kinds of model that this package has."""
CLASS = r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*"
"""A class of a user's: a module, a colon and the class's name."""


def _kind(kind: str) -> str:
    if kind not in KINDS and not re.fullmatch(CLASS, kind):
        raise ValueError(
            f"expected {', '.join(KINDS)} or a class of your own as package.module:Class"
        )
    return kind


Kind = Annotated[
    str,
    Field(max_length=200, json_schema_extra={"pattern": f"^({'|'.join(KINDS)}|{CLASS})$"}),
    AfterValidator(_kind),
]
UserSetting = Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$", max_length=64)]
UserSettings = Annotated[dict[UserSetting, Any], Field(max_length=100)]

MAX_WEIGHTS, MAX_STEP = 16, 1024
"""GiB that a model's weights, and one step of its training, may take; both take some times more."""


class NetworkConfig(Section):
    """The networks of a flow."""

    hidden_size: Width = 128
    """Units per hidden layer."""
    depth: int = Field(default=2, ge=1, le=16)
    """Hidden layers per network."""
    num_flow_layers: int = Field(default=3, ge=0, le=64)
    """Number of couplings; 0 gives a Gaussian law."""
    activation: Activation = "silu"
    """Activation of the hidden layers."""
    scale_function: ScaleFunction = "tanh_exp"
    """How a coupling's scale is made positive."""
    coupling: Coupling = "spline"
    """affine: as in the paper, cheaper; spline: any monotone shape."""
    num_bins: int = Field(default=8, ge=1, le=64)
    """Pieces of a spline coupling."""

    @property
    def layers(self) -> int:
        """Hidden layers of all its networks, about."""
        return self.depth * (self.num_flow_layers + 1)


class BridgeConfig(NetworkConfig):
    """The networks of the bridge, which are smaller."""

    hidden_size: Width = 64
    """Units per hidden layer."""
    num_flow_layers: int = Field(default=2, ge=0, le=64)
    """Number of couplings; 0 gives a Gaussian law."""
    coupling: Coupling = "affine"
    """affine: as in the paper, cheaper; spline: any monotone shape."""


class ModelConfig(Section):
    """The model of PushT."""

    kind: Kind = "flow"
    """flow, or neural_sde for comparison: drift, diffusion and a solver. In a variant it may be a
    class of your own, as package.module:Class; its code is imported and run as any code of yours.
    Such a model reads no other setting of this section than `settings`."""
    settings: UserSettings = Field(default_factory=dict)
    """What a class of your own is given: any names and values."""
    state_dim: Literal[5, 7, 10] = 7
    """7: agent position, velocity, block pose; 10: and the block's velocity; 5: no velocity (not
    Markov)."""
    conditional: bool = True
    """false, for comparison: the networks see nothing of the policy."""
    autonomous: bool = False
    """true, for comparison: the law depends on t - s alone, not on s."""
    physics: Physics = "push"
    """What the networks are given of the physics. push: the agent's path without noise and the push
    that follows from it, seen from the block; path, for comparison: without the push; none, for
    comparison: state, time and policy as plain numbers."""
    rest: bool = True
    """The law says how probable it is that the block rests exactly; false, for comparison: it has a
    density everywhere. A neural SDE always has."""
    path_points: int = Field(default=24, ge=1, le=256)
    """Points of the agent's nominal path that the networks see."""
    flow: NetworkConfig = NetworkConfig()
    """The transition p(x_t | x_s), or a neural SDE's drift and diffusion."""
    bridge: BridgeConfig = BridgeConfig()
    """The bridge b(x_m | x_s, x_t), used in training only."""

    @property
    def user_class(self) -> str:
        """The user's class that the kind names; empty if it is a kind of this package."""
        return "" if self.kind in KINDS else self.kind

    @property
    def knows_rest(self) -> bool:
        """Whether the model gives a block at rest a probability, not a density."""
        return self.rest and self.kind == "flow"

    def contradictions(self, training: TrainingConfig) -> Iterator[str]:
        """One line for each contradiction with another section."""
        if self.settings and not self.user_class:
            yield f"model.settings are for a class of your own, and model.kind is {self.kind}"
        if self.kind == "neural_sde" and (
            training.max_gap >= 2 * CONTROL_DT
            or training.consistency_weight
            or training.distillation_weight
        ):
            yield (
                "model.kind = neural_sde has a density only over one control step: set "
                f"training.max_gap = {CONTROL_DT}, training.one_to_two_weight = 0, "
                "training.two_to_one_weight = 0 and training.distillation_weight = 0"
            )
        for name, value in (("conditional", False), ("autonomous", True)):
            if self.physics == "path" and getattr(self, name) == value:
                yield (
                    f"model.physics = path changes nothing with model.{name} = "
                    f"{str(value).lower()}, which leaves out the push too; set it to push or none"
                )
        if self.user_class and self.state_dim != ModelConfig().state_dim:
            yield f"model.state_dim = {self.state_dim}: a class of your own is given all 7 numbers"
        for name in ("flow", "bridge"):
            network: NetworkConfig = getattr(self, name)
            size = network.layers * network.hidden_size**2 / 2**28  # four bytes each
            if size > MAX_WEIGHTS:
                yield (
                    f"model.{name} has {size:.0f} GiB of weights, more than {MAX_WEIGHTS}; lower "
                    "its hidden_size, depth or num_flow_layers"
                )
            for rows in ("batch_size", "validation_size"):
                count = getattr(training, rows)
                size = count * network.layers * network.hidden_size / 2**28
                if size > MAX_STEP:
                    yield (
                        f"training.{rows} = {count} takes {size:.0f} GiB in model.{name}, more "
                        f"than {MAX_STEP}; lower it, or the network's hidden_size, depth or "
                        "num_flow_layers"
                    )
