"""The layouts of PushT's state, and the plane's rotation."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nsf_pipeline.config import ModelConfig
from nsf_pipeline.evaluation import metrics
from nsf_pipeline.pusht.state import (
    STATE,
    STATE_WITH_BLOCK_VELOCITY,
    STATE_WITHOUT_VELOCITY,
    layout_of,
    rotated,
)

AGENT, VELOCITY, BLOCK = np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.array([5.0, 6.0, 7.0])
BLOCK_VELOCITY = np.array([8.0, 9.0, 10.0])
LAYOUTS = {
    "ten": STATE_WITH_BLOCK_VELOCITY,
    "seven": STATE,
    "five": STATE_WITHOUT_VELOCITY,
}
PARTS = {
    "agent": [1.0, 2.0],
    "velocity": [3.0, 4.0],
    "block": [5.0, 6.0, 7.0],
    "block_position": [5.0, 6.0],
    "block_angle": [7.0],
    "block_velocity": [8.0, 9.0],
    "block_angular_velocity": [10.0],
}


def test_the_numbers_order_is_the_file_formats():
    assert STATE.join(AGENT, VELOCITY, BLOCK).tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert STATE_WITHOUT_VELOCITY.join(AGENT, VELOCITY, BLOCK).tolist() == [1, 2, 5, 6, 7]
    ten = STATE_WITH_BLOCK_VELOCITY.join(AGENT, VELOCITY, BLOCK, block_velocity=BLOCK_VELOCITY)
    assert ten.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    names, units = STATE_WITH_BLOCK_VELOCITY.names, STATE_WITH_BLOCK_VELOCITY.units
    assert (names[:7], units[:7]) == (STATE.names, STATE.units)
    assert dict(zip(names, units, strict=True)) == {
        "agent_x": "px",
        "agent_y": "px",
        "agent_velocity_x": "px/s",
        "agent_velocity_y": "px/s",
        "block_x": "px",
        "block_y": "px",
        "block_angle": "rad",
        "block_velocity_x": "px/s",
        "block_velocity_y": "px/s",
        "block_angular_velocity": "rad/s",
    }


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])
def test_parts_are_found_where_they_were_put(layout, xp):
    both = [xp.stack([xp.asarray(part)] * 2) for part in (AGENT, VELOCITY, BLOCK)]
    states = layout.join(*both, xp, block_velocity=xp.stack([xp.asarray(BLOCK_VELOCITY)] * 2))
    assert isinstance(states, np.ndarray if xp is np else jax.Array)
    assert states.shape == (2, layout.dim) == (2, len(layout.units))
    for name, expected in PARTS.items():
        place = getattr(layout, name)
        assert "velocity" in name or place is not None
        if place is not None:
            assert states[:, place].tolist() == [expected] * 2
    assert states[0, layout.angle] == 7.0
    planar = np.concatenate([np.arange(layout.dim)[part] for part in layout.planes])
    turning = [*range(layout.dim)[layout.block_angular_velocity or slice(0)]]
    assert sorted([*planar.tolist(), layout.angle, *turning]) == list(range(layout.dim))
    assert all(len(states[0, part]) == 2 for part in layout.planes)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_groups_are_those_of_the_tables(layout):
    state = layout.join(AGENT, VELOCITY, BLOCK, block_velocity=BLOCK_VELOCITY)
    found = {name: state[columns].tolist() for name, columns in layout.groups.items()}
    whole = {"state": [1, 2, 3, 4, 5, 6, 7]} if layout.velocity else {}
    assert found == whole | {
        "agent": [1, 2],
        "block_position": [5, 6],
        "block_angle": [7],
        "pose": [1, 2, 5, 6, 7],
    }
    assert {*metrics.GROUPS, *metrics.JOINTS} == {*STATE.groups}


def test_layouts_are_known_by_their_size():
    sizes = {*get_args(ModelConfig.model_fields["state_dim"].annotation)}
    assert {layout_of(size).dim for size in sizes} == sizes
    with pytest.raises(ValueError, match="expected state_dim 5, 7 or 10, got 6"):
        layout_of(6)


def test_ten_numbers_are_not_made_of_seven():
    with pytest.raises(ValueError, match="states of 10 numbers need the block's velocity"):
        STATE_WITH_BLOCK_VELOCITY.join(AGENT, VELOCITY, BLOCK)


def test_columns_are_found_by_name():
    assert STATE.columns(STATE_WITHOUT_VELOCITY.names) == [0, 1, 4, 5, 6]
    assert STATE_WITHOUT_VELOCITY.columns(["block_angle", "agent_x"]) == [4, 0]
    with pytest.raises(ValueError, match="not in tuple"):
        STATE.columns(["mass"])


def test_rotation_is_counterclockwise_from_x_to_y_and_back():
    angle = np.linspace(-7.0, 7.0, 29)
    cos, sin = np.cos(angle), np.sin(angle)
    turned = (3.0 - 2.0j) * np.exp(1j * angle)
    x, y = rotated(3.0, -2.0, cos, sin)
    np.testing.assert_allclose(x + 1j * y, turned, rtol=1e-14)
    back = rotated(x, y, cos, -sin)
    np.testing.assert_allclose(back, np.broadcast_to([[3.0], [-2.0]], (2, 29)), rtol=1e-14)
