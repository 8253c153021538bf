"""Conditional flow matching of the transition (Lipman et al. 2023, arXiv:2210.02747).

A network of scikit-learn's learns the velocity that carries noise at time 0 to the change of the
state at time 1 along straight lines; a draw follows it by Heun's method. The time that passes is
given to the network, so a draw at any later time takes the same number of evaluations.
"""

import jax
import numpy as np
from sklearn.neural_network import MLPRegressor

from examples.features import changed, changes, desired, features
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.user_models import normal

POINTS = 8
"""Points of the agent's desired path that the network sees."""


class FlowMatching:
    """A model of a user's class.

    Settings: hidden (units), layers, rounds (each on new transitions), transitions (of a round),
    batch, rate, averaged (over which share of the rounds, the last, weights are averaged), and
    solver_steps.
    """

    def __init__(self, settings, dmp):
        known = {
            "hidden": 256,
            "layers": 3,
            "rounds": 500,
            "transitions": 16_384,
            "batch": 256,
            "rate": 5e-4,
            "averaged": 0.2,
            "solver_steps": 8,
        }
        if unknown := settings.keys() - known:
            raise ValueError(f"unknown {min(unknown)}; expected some of {', '.join(known)}")
        self.settings, self.dmp = known | settings, dmp

    def fit(self, data, key, report):
        own = self.settings
        size_key, held_key, seed_key, key = jax.random.split(key, 4)
        random = np.random.default_rng(int(jax.random.randint(seed_key, (), 0, 2**31 - 1)))
        _, sizes = self._pairs(data.train.sample(size_key, 16_384))
        self.scale = sizes.std(axis=0) + 1e-3
        held = self._regression(random, data.validation.sample(held_key, 8192))
        network = MLPRegressor(
            hidden_layer_sizes=(own["hidden"],) * own["layers"],
            batch_size=own["batch"],
            learning_rate_init=own["rate"],
            alpha=0.0,
            random_state=int(random.integers(2**31)),
        )
        first = own["rounds"] - max(1, round(own["averaged"] * own["rounds"]))
        every, averaged = max(1, own["rounds"] // 10), []
        for number in range(own["rounds"]):
            batch = data.train.sample(jax.random.fold_in(key, number), own["transitions"])
            network.partial_fit(*self._regression(random, batch))
            now = [*network.coefs_, *network.intercepts_]
            if number >= first:
                share = 1.0 / (number - first + 1)
                averaged = [a + share * (n - a) for a, n in zip(averaged or now, now, strict=True)]
            if (number + 1) % every == 0:
                error = np.square(network.predict(held[0]) - held[1]).mean()
                steps = (number + 1) * -(-own["transitions"] // own["batch"])
                report(steps, loss=network.loss_, validation_loss=0.5 * error)
        self.weights = averaged[: len(network.coefs_)]
        self.biases = averaged[len(network.coefs_) :]

    def sample(self, keys, state, t_init, t_final, condition, num_samples):
        inputs, base, root = self._inputs(state, t_init, t_final, condition)
        inputs, base, root, start = (
            np.repeat(values, num_samples, axis=0) for values in (inputs, base, root, state)
        )
        x = normal(keys, (num_samples, 7)).reshape(-1, 7)
        steps = self.settings["solver_steps"]
        for step in range(steps):
            first = self._velocity(x, step / steps, inputs)
            second = self._velocity(x + first / steps, (step + 1) / steps, inputs)
            x = x + (first + second) / (2 * steps)
        later = changed(start, base + root * self.scale * x)
        return later.reshape(len(state), num_samples, 7)

    def arrays(self):
        weights = {f"weight{n}": values for n, values in enumerate(self.weights)}
        biases = {f"bias{n}": values for n, values in enumerate(self.biases)}
        return {"scale": self.scale, **weights, **biases}

    def load(self, arrays):
        self.scale, layers = arrays["scale"], range(self.settings["layers"] + 1)
        self.weights = [arrays[f"weight{n}"] for n in layers]
        self.biases = [arrays[f"bias{n}"] for n in layers]

    def _inputs(self, state, s, t, condition):
        """Features; the change if the agent follows its path and all else stays; root of s."""
        times = s[:, None] + (t - s)[:, None] * np.arange(1, POINTS + 1) / POINTS
        path = desired(condition, times, self.dmp)
        followed = state.copy()
        followed[:, STATE.agent] = path[:, -1]
        base = changes(state, followed)
        return features(state, path, t - s, condition), base, np.sqrt(t - s)[:, None]

    def _pairs(self, batch):
        """Features, and what is to be drawn: what remains of the change, per root second."""
        start, end, s, t, condition = map(np.asarray, batch)
        inputs, base, root = self._inputs(start, s, t, condition)
        return inputs, (changes(start, end) - base) / root

    def _regression(self, random, batch):
        """Inputs and targets of the network, of new noise and times for each transition."""
        inputs, target = self._pairs(batch)
        noise, time = random.normal(size=target.shape), random.random((len(target), 1))
        ends = target / self.scale
        given = np.concatenate([noise + time * (ends - noise), time, inputs], axis=1)
        return given.astype(np.float32), (ends - noise).astype(np.float32)

    def _velocity(self, x, time, inputs):
        times = np.full((len(x), 1), time)
        values = np.concatenate([x, times, inputs], axis=1).astype(np.float32)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            values = np.maximum(values @ weight + bias, 0.0)  # as MLPRegressor.predict does
        return values @ self.weights[-1] + self.biases[-1]
