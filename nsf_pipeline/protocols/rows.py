"""The rows of the tables: which planner and model play which episodes.

The workflow reads this module, so it imports nothing that takes time.
"""

from typing import NamedTuple

from nsf_pipeline.config import ProtocolConfig

FLOW, NOMINAL, SIMULATOR = "flow", "nominal", "simulator"
UNTRAINED = (NOMINAL, SIMULATOR)
CEM, CONTACT = "cem", "contact"
STANDARD, SHORT = "standard", "short"
DISTURBED, HELD, HIDDEN = "disturbed", "held", "velocity_hidden"


class Row(NamedTuple):
    """A row of the tables.

    Attributes:
        planner: `cem` or `contact`.
        model: the name of a world model (`planning.models`).
        action_noise_std: px.
        variation: what else is different: one of the names above.
        episodes: how many.
    """

    planner: str
    model: str
    action_noise_std: float = 0.0
    variation: str = STANDARD
    episodes: int = 0

    @property
    def name(self) -> str:
        """The name of the row's folder."""
        noise = f"noise{self.action_noise_std:g}"
        plain = self.variation == STANDARD
        return "-".join([self.planner, self.model, noise, *([] if plain else [self.variation])])

    @property
    def trained(self) -> str:
        """The trained model behind it: `flow`, a variant's name, or empty if there is none."""
        return trained(self.model)


def trained(model: str) -> str:
    """The trained model behind a world model: `flow`, a variant's name, or empty."""
    base = model.rpartition("_")[0] or model
    return "" if base in UNTRAINED else base


def standard(config: ProtocolConfig) -> list[Row]:
    """The rows of the standard protocol, without action noise and with 8 px."""
    found = []
    for noise, simulator in ((0.0, "simulator_0"), (8.0, "simulator_8")):
        for planner, models in (
            (CONTACT, ("flow_4", "flow_16", "flow_mean", NOMINAL, simulator)),
            (CEM, ("flow_4", NOMINAL)),
        ):
            for model in models:
                if (model, noise) != ("flow_mean", 8.0):  # it knows of no noise
                    found.append(Row(planner, model, noise, episodes=config.episodes))
            found += [
                Row(planner, f"{variant}_4", noise, episodes=config.episodes)
                for variant in config.variants
                if planner == CONTACT
            ]
    return found


def harder(config: ProtocolConfig) -> list[Row]:
    """The rows of the harder protocols."""
    count = config.harder_episodes
    variants = [f"{name}_4" for name in config.variants]
    found = [
        Row(CONTACT, model, 16.0, episodes=count)
        for model in ("flow_4", "flow_16", NOMINAL, "simulator_8", *variants)
    ]
    for noise, simulator in ((0.0, "simulator_0"), (8.0, "simulator_8")):
        models = ("flow_4", NOMINAL, simulator, *variants)
        for variation in (DISTURBED, HELD):
            found += [Row(CONTACT, model, noise, variation, count) for model in models]
        found += [
            Row(CONTACT, model, noise, HIDDEN, count) for model in ("flow_4", NOMINAL, *variants)
        ]
    found.append(Row(CONTACT, "flow_steps", 0.0, episodes=count))
    return found


def short(config: ProtocolConfig) -> list[Row]:
    """The rows of the short table in the default run."""
    count = config.short_episodes
    models = ("flow_4", NOMINAL, "simulator_0")
    return [Row(CEM, model, 0.0, SHORT, count) for model in models] if count else []
