"""Settings of planning."""

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from nsf_pipeline.config.policies import Duration
from nsf_pipeline.config.section import Range, Section

Planner = Literal["cem", "contact", "both"]
MOST_AT_ONCE = 1_000_000
"""Pushes that a model is asked about at once, at most: some 6 GB."""
Count = Annotated[int, Field(ge=1, le=100_000)]


class CEMConfig(Section):
    """The planner `cem`: rounds of DMPs from where the agent is."""

    candidates: Count = 1000
    """Policies tried in a round."""
    rounds: int = Field(default=5, ge=1, le=100)
    """Rounds; in each after the first, the best are varied, by less and less."""
    elites: Count = 20
    """How many of the best are varied."""
    duration: Range[Duration] = (0.6, 1.8)
    """s; how long a push lasts."""

    @model_validator(mode="after")
    def _has_candidates_for_its_elites(self) -> "CEMConfig":
        if self.elites > self.candidates:
            raise ValueError(
                f"elites = {self.elites} is more than candidates = {self.candidates}; lower the "
                "one or raise the other"
            )
        return self


class ContactConfig(Section):
    """The planner `contact`: pushes from a point of the block's outline, two in a row."""

    candidates: Count = 400
    """First pushes drawn."""
    varied: int = Field(default=200, ge=0, le=100_000)
    """Variations of the best of them."""
    beam: int = Field(default=16, ge=1, le=1000)
    """First pushes after which a second one is looked for."""
    per_face: int = Field(default=4, ge=1, le=1000)
    """How many of these may push the same one of the block's eight sides."""
    second_candidates: Count = 60
    """Second pushes drawn, after each of these."""
    second_varied: int = Field(default=30, ge=0, le=100_000)
    """Variations of the best of them."""

    @model_validator(mode="after")
    def _fits_into_memory(self) -> "ContactConfig":
        if self.most_at_once > MOST_AT_ONCE:
            raise ValueError(
                f"beam = {self.beam} times second_candidates = {self.second_candidates} or "
                f"second_varied = {self.second_varied} is more than {MOST_AT_ONCE}; lower them"
            )
        return self

    @property
    def most_at_once(self) -> int:
        """Candidates of an episode that a model is asked about at once."""
        second = self.beam * max(self.second_candidates, self.second_varied)
        return max(self.candidates, self.varied, second)


class SearchConfig(Section):
    """The search for a push: which planner, and the budgets of each."""

    planner: Planner = "contact"
    """cem: a DMP from where the agent is; contact: round the block first, two pushes ahead; both:
    the cheaper of these two."""
    cem: CEMConfig = CEMConfig()
    """Rounds of DMPs from where the agent is."""
    contact: ContactConfig = ContactConfig()
    """Pushes from a point of the block's outline."""

    @property
    def most_at_once(self) -> int:
        """Candidates of an episode that a model is asked about at once, by either planner."""
        return max(map(self.at_once_by, get_args(Planner)))

    def at_once_by(self, planner: str) -> int:
        """Candidates of an episode that a planner asks a model about at once; 0 if it asks none."""
        by = {"cem": self.cem.candidates, "contact": self.contact.most_at_once}
        return max(by.values()) if planner == "both" else by.get(planner, 0)


class PlanningConfig(Section):
    """Planning with a model."""

    search: SearchConfig = SearchConfig()
    """How a push is searched for."""
