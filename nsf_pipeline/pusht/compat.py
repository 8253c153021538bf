"""Lets gym-pusht 0.1.8 run on pymunk 7, which removed a method that gym-pusht calls."""

from collections.abc import Callable
from typing import Any

import pymunk


class _Phase:
    """One settable callback `(arbiter, space, data)` of a `_CollisionHandler`."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __set__(self, handler: "_CollisionHandler", callback: Callable[..., Any]) -> None:
        # These two say whether the collision is processed: in pymunk 6 by the value they return,
        # in pymunk 7 by an attribute of the arbiter.
        decides = self.name in ("begin", "pre_solve")

        def call(arbiter: Any, space: Any, data: Any) -> None:
            is_processed = callback(arbiter, space, data)
            if decides:
                arbiter.process_collision = bool(is_processed)

        handler.space.on_collision(*handler.types, **{self.name: call}, data=handler.data)


class _CollisionHandler:
    """pymunk 6's collision handler, through pymunk 7's `Space.on_collision`.

    One difference remains: if both `begin` and `pre_solve` are set, `pre_solve` decides. pymunk 6
    did not call it for a contact that `begin` had refused.
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
    """Add the method `add_collision_handler` to `pymunk.Space` if it is missing."""
    space_class: Any = pymunk.Space
    if not hasattr(space_class, "add_collision_handler"):
        space_class.add_collision_handler = _add_collision_handler
