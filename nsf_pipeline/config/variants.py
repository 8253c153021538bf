"""Variants of the model: what they may change, and the default ones."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, Field, model_serializer, model_validator

from nsf_pipeline.config.model import ModelConfig
from nsf_pipeline.config.section import Section
from nsf_pipeline.config.training import TrainingConfig
from nsf_pipeline.timing import CONTROL_DT

UNTRAINED = (
    *(
        "flow",
        "second_round",
        "nominal",
        "random",
        "simulator",
        "persistence",
        "kinematic",
        "recursive",
    ),
    *("simulator_from_10", "simulator_from_7", "simulator_all_cores", "gym_pusht"),
)
"""Names of the other rows in the tables, which no variant can have."""


MAX_VARIANTS = 100
"""Variants, at most; one command names the models of all."""
IN_STEPS = "_steps"
POINT = "scaling_"
"""Begins the names of the points of the section `scaling`, which are trained like variants."""
NAME = "^[a-z][a-z0-9_]{0,63}$"
READ_OTHERWISE = {"nan", "null", "none", "na", "inf", "infinity", "true", "false"}
"""Names that pandas and others who read the tables take for no value, a number or a truth value."""


class TrainingChanges(TrainingConfig):
    """Some training settings; whether they agree is checked once all others are known."""

    @model_validator(mode="after")
    def _warms_up_in_time(self) -> "TrainingChanges":
        return self


class Variant(Section):
    """What a variant changes; settings that are left out stay as they are."""

    model: ModelConfig = ModelConfig()
    training: TrainingChanges = TrainingChanges()

    @model_serializer
    def changes(self) -> dict[str, Any]:
        """Only what is changed, by section."""
        given = sorted(self.model_fields_set)
        return {name: getattr(self, name).model_dump(exclude_unset=True) for name in given}


def require_free_name(name: str) -> str:
    """Refuse a name of a model that the tables cannot show, and return it.

    Raises:
        ValueError: one line that does not contain the name.
    """
    if name in UNTRAINED:
        raise ValueError("the tables have a row of that name already; choose another name")
    if name.lower() in READ_OTHERWISE:
        raise ValueError(
            "programs that read the tables take that name for a missing value, a number or a "
            "truth value; choose another name"
        )
    return name


def _variant_name(name: str) -> str:
    if not re.fullmatch(NAME, name):
        raise ValueError("expected a name of small letters, digits and _, at most 64 of them")
    if name.endswith(IN_STEPS):
        raise ValueError(
            f"in planning, names that end in {IN_STEPS} stand for a model that goes in control "
            "steps; choose another name"
        )
    if name.startswith(POINT):
        raise ValueError(
            f"names that start with {POINT} stand for the models of the section scaling; choose "
            "another name"
        )
    return require_free_name(name)


VariantName = Annotated[
    str,
    Field(json_schema_extra={"pattern": NAME, "maxLength": 64}),
    AfterValidator(_variant_name),
]


class Default(NamedTuple):
    """A default variant.

    Attributes:
        meaning: the comment in `config.yaml`.
        changes: its settings.
    """

    meaning: str
    changes: dict[str, Any]


LIKELIHOOD_ONLY = {
    name: 0 for name in ("one_to_two_weight", "two_to_one_weight", "distillation_weight")
}
DEFAULTS = {
    "gaussian": Default(
        "A Gaussian law: the same features, no couplings.",
        {"model": {"flow": {"num_flow_layers": 0}}},
    ),
    "unconditional": Default(
        "Without the policy, which shows what knowing it is worth.",
        {"model": {"conditional": False}},
    ),
    "path": Default(
        "Without the nominal push: the agent's path alone.",
        {"model": {"conditional": True, "autonomous": False, "physics": "path"}},
    ),
    "plain": Default(
        "Without any physics in the features: state, times and policy as plain numbers.",
        {"model": {"physics": "none"}},
    ),
    "no_consistency": Default(
        "Trained by the likelihood alone, without consistency losses and distillation.",
        {"training": LIKELIHOOD_ONLY},
    ),
    "autonomous": Default(
        "A law that depends on t - s alone.",
        {"model": {"autonomous": True}},
    ),
    "state5": Default(
        "Without the agent's velocity.",
        {"model": {"state_dim": 5}},
    ),
    "neural_sde": Default(
        "A neural SDE of the flow's size, with a density over one control step.",
        {
            "model": {"kind": "neural_sde", "path_points": 3, "flow": {"hidden_size": 262}},
            "training": {"max_gap": CONTROL_DT, **LIKELIHOOD_ONLY},
        },
    ),
}


def default_variants() -> dict[VariantName, Variant | None]:
    """The default variants, by name."""
    return {name: Variant(**default.changes) for name, default in DEFAULTS.items()}


def merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with some of them changed, section by section."""
    both = {**settings, **changes}
    for name in settings.keys() & changes.keys():
        if isinstance(settings[name], Mapping) and isinstance(changes[name], Mapping):
            both[name] = merged(settings[name], changes[name])
    return both
