"""Small classes of a user's, for the tests of models that users bring."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from nsf_pipeline import dmp as policies
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.user_models import normal


class Brownian:
    """The agent is where its policy wants it, the rest stays; all of it with Gaussian noise."""

    def __init__(self, settings, dmp):
        self.floor, self.dmp = settings["floor"], dmp
        if not self.floor > 0.0:
            raise ValueError("floor: expected a number above 0")

    def fit(self, data, key, report):
        for step, source in enumerate((data.train, data.validation), 1):
            batch = source.sample(key, 512)
            error = np.asarray(batch.x_final) - self._mean(*map(np.asarray, batch[:1] + batch[2:]))
            self.std = np.maximum(error.std(axis=0), self.floor).astype(np.float32)
            report(step, loss=np.log(self.std).sum())

    def sample(self, keys, state, t_init, t_final, condition, num_samples):
        mean = self._mean(state, t_init, t_final, condition)
        return jnp.asarray(mean[:, None] + self.std * normal(keys, (num_samples, 7)))

    def log_prob(self, next_state, state, t_init, t_final, condition):
        z = (next_state - self._mean(state, t_init, t_final, condition)) / self.std
        return -0.5 * (z**2 + np.log(2 * np.pi * self.std**2)).sum(axis=1)

    def arrays(self):
        return {"std": self.std, "count": np.int64(2), "none": np.zeros((0, 3), bool)}

    def load(self, arrays):
        self.std = arrays["std"]

    def _mean(self, state, t_init, t_final, condition):
        path = policies.integrate(DMPParams.from_vector(condition.astype(float)), self.dmp)
        mean = np.array(state)
        mean[:, STATE.agent] = policies.evaluate(path, t_final[:, None], self.dmp)[:, 0]
        return mean


class Without(Brownian):
    """It has no density."""

    log_prob: Any = None
