"""The placement of arrays on the devices."""

from typing import NamedTuple, final

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from nsf_pipeline.errors import UserError


@final
class Devices(NamedTuple):
    """The placement of arrays: batches are divided among the devices, all else is on each."""

    mesh: Mesh

    @classmethod
    def all(cls, batch_size: int) -> "Devices":
        """All devices there are.

        Raises:
            UserError: they cannot share a batch evenly.
        """
        devices = jax.devices()
        if batch_size % len(devices):
            raise UserError(
                f"training.batch_size = {batch_size} does not divide among {len(devices)} devices; "
                f"make it a multiple of {len(devices)}, or hide some (CUDA_VISIBLE_DEVICES)"
            )
        return cls(Mesh(np.array(devices), ("batch",)))

    def everywhere(self, tree: PyTree) -> PyTree:
        """Arrays copied to each device."""
        return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec()))

    def batch(self, batch: PyTree) -> PyTree:
        """A batch divided along its first axis, if the number of devices divides its length."""
        return jax.device_put(batch, self._along(0, jax.tree.leaves(batch)[0].shape[0]))

    def batches(self, batches: PyTree) -> PyTree:
        """Batches along a first axis, each divided as in `batch`."""
        return jax.device_put(batches, self._along(1, jax.tree.leaves(batches)[0].shape[1]))

    def constrain(self, batch: PyTree) -> PyTree:
        """The same as `batch`, within a compiled function."""
        along = self._along(0, jax.tree.leaves(batch)[0].shape[0])
        return jax.lax.with_sharding_constraint(batch, along)

    def _along(self, axis: int, count: int) -> NamedSharding:
        parts = (None,) * axis + (("batch",) if count % self.mesh.size == 0 else ())
        return NamedSharding(self.mesh, PartitionSpec(*parts))
