"""Losses for one transition; `jax.vmap` maps them over a batch.

Both consistency losses bound, with the help of the bridge b, the disagreement between one step from
s to t and two steps through m (Neural Stochastic Flows, arXiv:2510.25769):

    1->2:  E [log p(x_t|x_s) + log b(x_m|x_s,x_t) - log p(x_m|x_s) - log p(x_t|x_m)],
           x_t ~ p(.|x_s), x_m ~ b(.|x_s,x_t)
    2->1:  E [log p(x_m|x_s) + log p(x_t|x_m) - log p(x_t|x_s) - log b(x_m|x_s,x_t)],
           x_m ~ p(.|x_s), x_t ~ p(.|x_m)

Each is a Kullback-Leibler divergence between laws of (x_m, x_t), so its mean is at least 0. That
holds for laws with atoms, too, if b has those that two steps lead to: the densities of both laws of
(x_m, x_t) are then with respect to the same measure. Gradients pass through the noise of a draw,
but not through the choice of its atoms: their probabilities are learnt where their law is the
divergence's second argument, so each loss teaches those of one side.

The distillation loss teaches one step from draws of two, without a bridge:

    E [-log p(x_t|x_s)],    x_m ~ p(.|x_s), x_t ~ p(.|x_m), both held fixed
"""

from collections.abc import Callable
from functools import partial
from operator import itemgetter
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from nsf_pipeline import checks
from nsf_pipeline.flow.distributions import Distribution
from nsf_pipeline.flow.guard import require_key, require_times

Scalar = Float[Array, ""]
State = Float[Array, " dim"]
Condition = Float[Array, " condition"] | None


@runtime_checkable
class Transition(Protocol):
    """p(x_t | x_s, s, t, c)."""

    def __call__(
        self, x_init: State, t_init: Scalar, t_final: Scalar, condition: Any, /
    ) -> Distribution:
        """The law of the state at t_final."""
        ...


@runtime_checkable
class EncodedTransition(Transition, Protocol):
    """A transition computed in two parts; the first has no trained parameters.

    `flow(x, s, t, c)` is `flow.law(flow.encode(x, s, t, c))`, so several losses can share an
    encoding.
    """

    def encode(self, x_init: State, t_init: Scalar, t_final: Scalar, condition: Any, /) -> Any:
        """A tuple: the four arguments, then what is computed from them without parameters."""
        ...

    def law(self, encoding: Any, /) -> Distribution:
        """The law of the state at t_final."""
        ...


@runtime_checkable
class Bridge(Protocol):
    """b(x_m | x_s, x_t, s, m, t, c)."""

    def __call__(
        self,
        x_init: State,
        x_final: State,
        t_init: Scalar,
        t_mid: Scalar,
        t_final: Scalar,
        condition: Any,
        /,
    ) -> Distribution:
        """The law of the state at t_mid."""
        ...


@runtime_checkable
class EncodedBridge(Bridge, Protocol):
    """A bridge that uses its transition's encoding of the step from t_init to t_final."""

    def law(self, encoding: Any, x_final: State, t_mid: Scalar, /) -> Distribution:
        """The law of the state at t_mid."""
        ...


def encode(flow: Transition, x_init: State, t_init: Scalar, t_final: Scalar, condition: Any) -> Any:
    """The flow's encoding, or the four arguments as a tuple if the flow has no `encode`."""
    if isinstance(flow, EncodedTransition):
        return flow.encode(x_init, t_init, t_final, condition)
    return x_init, t_init, t_final, condition


def _known(encoding: Any, flow: Transition, *given: Any) -> Any:
    """The encoding of the given arguments, computed if it is not known yet."""
    return encode(flow, *given) if encoding is None else encoding


def law_of(flow: Transition, encoding: Any) -> Distribution:
    """The flow's law, given what `encode` returned."""
    return flow.law(encoding) if isinstance(flow, EncodedTransition) else flow(*encoding)


def negative_log_likelihood(
    flow: Transition,
    x_init: State,
    x_final: State,
    t_init: Scalar,
    t_final: Scalar,
    condition: Condition = None,
    *,
    encoding: Any = None,
) -> Scalar:
    """-log p(x_t | x_s), in nats; `encoding` is the result of `encode`, if already computed."""
    encoding = _known(encoding, flow, x_init, t_init, t_final, condition)
    return -law_of(flow, encoding).log_prob(x_final)


def consistency_losses(
    flow: Transition,
    bridge: Bridge,
    x_init: State,
    t_init: Scalar,
    t_mid: Scalar,
    t_final: Scalar,
    condition: Condition = None,
    *,
    encoding: Any = None,
    key: PRNGKeyArray,
) -> tuple[Scalar, Scalar]:
    """The 1->2 and the 2->1 loss, each on one sample; terms that both need are computed once.

    Args:
        flow: p.
        bridge: b.
        x_init: the state at t_init.
        t_init: s.
        t_mid: m.
        t_final: t.
        condition: c.
        encoding: the result of `encode` for t_init to t_final, if already computed.
        key: for the samples.

    Raises:
        ValueError: a time that is known is not finite, or not in order, or the key is no single
            key.
    """
    require_times(t_init=t_init, t_mid=t_mid, t_final=t_final)
    require_key(key)
    encoding = _known(encoding, flow, x_init, t_init, t_final, condition)
    x_init, t_init, t_final, condition = encoding[:4]

    def draw(encoding: Any, key: PRNGKeyArray) -> tuple[State, Scalar]:
        return law_of(flow, encoding).sample_and_log_prob(key)

    def density(encoding: Any, x_final: State) -> Scalar:
        return law_of(flow, encoding).log_prob(x_final)

    def bridge_law(x_final: State) -> Distribution:
        if isinstance(bridge, EncodedBridge):
            return bridge.law(encoding, x_final, t_mid)
        return bridge(x_init, x_final, t_init, t_mid, t_final, condition)

    # Steps that do not depend on one another are evaluated together. Names that end in _ belong to
    # the samples of 2->1, the others to those of 1->2.
    key, *keys = jax.random.split(key, 4)
    first = encode(flow, x_init, t_init, t_mid, condition)
    (x_final, x_mid_), (log_one_step, log_first) = _call_together(
        draw, (encoding, keys[0]), (first, keys[1])
    )
    x_mid, log_bridge = bridge_law(x_final).sample_and_log_prob(keys[2])
    both = _call_together(lambda x: encode(flow, x, t_mid, t_final, condition), (x_mid,), (x_mid_,))
    second, second_ = (jax.tree.map(itemgetter(place), both) for place in range(2))
    x_final_, log_second = draw(second_, key)
    log_one_step_, log_mid, log_final = _call_together(
        density, (encoding, x_final_), (first, x_mid), (second, x_final)
    )
    one_to_two = log_one_step + log_bridge - log_mid - log_final
    two_to_one = log_first + log_second - log_one_step_ - bridge_law(x_final_).log_prob(x_mid_)
    return one_to_two, two_to_one


def distillation_loss(
    flow: Transition,
    x_init: State,
    t_init: Scalar,
    t_mid: Scalar,
    t_final: Scalar,
    condition: Condition = None,
    *,
    encoding: Any = None,
    key: PRNGKeyArray,
) -> Scalar:
    """The distillation loss on one sample; for the arguments see `consistency_losses`.

    Raises:
        ValueError: a time that is known is not finite, or not in order, or the key is no single
            key.
    """
    require_times(t_init=t_init, t_mid=t_mid, t_final=t_final)
    require_key(key)
    encoding = _known(encoding, flow, x_init, t_init, t_final, condition)
    x_init, t_init, t_final, condition = encoding[:4]
    keys = jax.random.split(key)
    x_mid = flow(x_init, t_init, t_mid, condition).sample(keys[0])
    x_final = flow(x_mid, t_mid, t_final, condition).sample(keys[1])
    return -law_of(flow, encoding).log_prob(jax.lax.stop_gradient(x_final))


def _call_together(function: Callable[..., Any], *calls: tuple[Any, ...]) -> Any:
    """Make several calls of a function as one, by `jax.vmap`; shared arrays are not copied.

    Args:
        function: takes trees of arrays.
        calls: the arguments of each call.

    Returns:
        The results along a new first axis.
    """
    leaves, structure = jax.tree.flatten(calls[0])
    columns = list(zip(leaves, *map(jax.tree.leaves, calls[1:]), strict=True))
    shared = [all(value is column[0] for value in column) for column in columns]
    arguments = [c[0] if one else jnp.stack(c) for c, one in zip(columns, shared, strict=True)]
    axes = [None if one else 0 for one in shared]
    rebuild = partial(jax.tree.unflatten, structure)
    return jax.vmap(function, rebuild(axes))(*rebuild(arguments))


def one_to_two_loss(
    flow: Transition,
    bridge: Bridge,
    x_init: State,
    t_init: Scalar,
    t_mid: Scalar,
    t_final: Scalar,
    condition: Condition = None,
    *,
    key: PRNGKeyArray,
) -> Scalar:
    """The 1->2 loss on one sample."""
    return consistency_losses(flow, bridge, x_init, t_init, t_mid, t_final, condition, key=key)[0]


def two_to_one_loss(
    flow: Transition,
    bridge: Bridge,
    x_init: State,
    t_init: Scalar,
    t_mid: Scalar,
    t_final: Scalar,
    condition: Condition = None,
    *,
    key: PRNGKeyArray,
) -> Scalar:
    """The 2->1 loss on one sample."""
    return consistency_losses(flow, bridge, x_init, t_init, t_mid, t_final, condition, key=key)[1]


def combined_loss(
    flow: Transition,
    bridge: Bridge,
    x_init: State,
    x_final: State,
    t_init: Scalar,
    t_mid: Scalar,
    t_final: Scalar,
    condition: Condition = None,
    *,
    one_to_two_weight: float,
    two_to_one_weight: float,
    key: PRNGKeyArray,
) -> Scalar:
    """Negative log-likelihood plus both consistency losses, weighted.

    Raises:
        ValueError: a weight is negative or not finite, or as for `consistency_losses`.
    """
    for weight in (one_to_two_weight, two_to_one_weight):
        if not checks.is_traced(weight):
            checks.number("the weight of a loss", weight, least=0.0)
    encoding = encode(flow, x_init, t_init, t_final, condition)
    one_to_two, two_to_one = consistency_losses(
        flow, bridge, x_init, t_init, t_mid, t_final, condition, encoding=encoding, key=key
    )
    return (
        negative_log_likelihood(
            flow, x_init, x_final, t_init, t_final, condition, encoding=encoding
        )
        + one_to_two_weight * one_to_two
        + two_to_one_weight * two_to_one
    )
