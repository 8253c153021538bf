"""gym-pusht 0.1.8 on pymunk 7, which removed a call it needs."""

from collections.abc import Callable
from typing import Any

import pymunk


class _Phase:
    """One settable callback `(arbiter, space, data)` of a `_CollisionHandler`."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __set__(self, handler: "_CollisionHandler", callback: Callable[..., Any]) -> None:
        # pymunk 6 took the verdict as the callback's value, pymunk 7 takes it from the arbiter.
        decides = self.name in ("begin", "pre_solve")

        def call(arbiter: Any, space: Any, data: Any) -> None:
            verdict = callback(arbiter, space, data)
            if decides:
                arbiter.process_collision = bool(verdict)

        handler.space.on_collision(*handler.types, **{self.name: call}, data=handler.data)


class _CollisionHandler:
    """pymunk 6's collision handler, through pymunk 7's `Space.on_collision`.

    One difference remains: where `begin` and `pre_solve` both judge a contact, `pre_solve` has the
    last word, while pymunk 6 did not ask it once `begin` had refused.
    """

    begin = _Phase()
    pre_solve = _Phase()
    post_solve = _Phase()
    separate = _Phase()

    def __init__(self, space: Any, types: tuple[int, int]) -> None:
        self.space = space
        self.types = types
        self.data: dict[Any, Any] = {}


def _add_collision_handler(
    space: Any, collision_type_a: int, collision_type_b: int
) -> _CollisionHandler:
    """The handler of one pair of collision types: the same object at every call."""
    types = min(collision_type_a, collision_type_b), max(collision_type_a, collision_type_b)
    handlers = vars(space).setdefault("_legacy_handlers", {})
    if types not in handlers:
        handlers[types] = _CollisionHandler(space, types)
    return handlers[types]


def ensure_add_collision_handler() -> None:
    """Give `pymunk.Space` its `add_collision_handler` back where pymunk 7 took it away."""
    space_class: Any = pymunk.Space
    if not hasattr(space_class, "add_collision_handler"):
        space_class.add_collision_handler = _add_collision_handler
