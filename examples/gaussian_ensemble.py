"""An ensemble of Gaussian networks, as in PETS (Chua et al. 2018, arXiv:1805.12114), in PyTorch.

Each member gives a Gaussian of the state after one control step, from the state and the position
that the agent is sent to. A path keeps to one member (TS-infinity in the paper), and the next state
is drawn one control step after the other. So a prediction 2 s ahead takes 20 passes.
"""

import itertools
import math

import jax
import numpy as np
import torch

from examples.features import changed, changes, desired, features
from nsf_pipeline.timing import CONTROL_DT
from nsf_pipeline.user_models import normal

WEIGHT_OF_BOUNDS = 0.01
"""Of the sum of the bounds of the log-variance in the loss, as in the paper's code."""


class GaussianEnsemble:
    """A model of a user's class.

    Settings: members, hidden (units), layers, transitions (drawn once), steps, batch, rate.
    """

    def __init__(self, settings, dmp):
        known = {
            "members": 5,
            "hidden": 128,
            "layers": 3,
            "transitions": 200_000,
            "steps": 20_000,
            "batch": 256,
            "rate": 1e-3,
        }
        if unknown := settings.keys() - known:
            raise ValueError(f"unknown {min(unknown)}; expected some of {', '.join(known)}")
        self.settings, self.dmp = known | settings, dmp

    def fit(self, data, key, report):
        own = self.settings
        train_key, held_key, seed_key = jax.random.split(key, 3)
        torch.manual_seed(int(jax.random.randint(seed_key, (), 0, 2**31 - 1)))
        inputs, targets = self._pairs(data.train.sample(train_key, own["transitions"]))
        self.offset, self.scale = targets.mean(0), targets.std(0) + 1e-3
        held = self._pairs(data.validation.sample(held_key, 8192))
        self.networks = _Networks(own, inputs.shape[1], targets.shape[1])
        inputs, targets, held_inputs, held_targets = map(
            torch.from_numpy, (inputs, self._scaled(targets), held[0], self._scaled(held[1]))
        )
        optimiser = torch.optim.AdamW(self.networks.parameters(), lr=own["rate"])
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, own["steps"])
        every = max(1, own["steps"] // 10)
        for step in range(1, own["steps"] + 1):
            # Each member sees its own draws, with replacement, as in a bootstrap.
            rows = torch.randint(len(inputs), (own["members"], own["batch"]))
            loss = self.networks.loss(inputs[rows], targets[rows])
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.networks.parameters(), 10.0)
            optimiser.step()
            schedule.step()
            if step % every == 0 or step == own["steps"]:
                with torch.no_grad():
                    spread = (own["members"], *held_inputs.shape)
                    held_loss = self.networks.loss(
                        held_inputs.expand(spread), held_targets.expand((*spread[:1], -1, -1))
                    )
                report(step, loss=loss.item(), validation_loss=held_loss.item())

    def sample(self, keys, state, t_init, t_final, condition, num_samples):
        own, count = self.settings, len(state)
        steps = np.maximum(1, np.round((t_final - t_init) / CONTROL_DT).astype(int))
        longest = int(steps.max())
        times = t_init[:, None] + CONTROL_DT * np.arange(1, longest + 1)
        actions = np.repeat(desired(condition, times, self.dmp), num_samples, axis=0)
        noise = normal(keys, (num_samples, longest, 7)).reshape(-1, longest, 7)
        member = ((self._first(keys)[:, None] + np.arange(num_samples)) % own["members"]).ravel()
        states = np.repeat(state, num_samples, axis=0)
        conditions, last = (np.repeat(v, num_samples, axis=0) for v in (condition, steps))
        gap = np.full(len(states), CONTROL_DT)
        for step in range(longest):
            inputs = features(states, actions[:, step : step + 1], gap, conditions)
            mean, std = self._one_step(inputs, member)
            later = changed(states, mean + std * noise[:, step])
            states = np.where((step < last)[:, None], later, states)
        return states.reshape(count, num_samples, 7)

    def log_prob(self, next_state, state, t_init, t_final, condition):
        """The mixture of the members' Gaussians; known over one control step only."""
        path = desired(condition, t_final[:, None], self.dmp)
        inputs = features(state, path, t_final - t_init, condition)
        error = changes(state, next_state)
        found = []
        for member in range(self.settings["members"]):
            mean, std = self._one_step(inputs, np.full(len(inputs), member))
            z = (error - mean) / std
            found.append(-0.5 * (z**2 + np.log(2 * math.pi * std**2)).sum(axis=1))
        total = np.logaddexp.reduce(found, axis=0) - math.log(len(found))
        return np.where(t_final - t_init < 1.5 * CONTROL_DT, total, np.nan)

    def arrays(self):
        weights = {name: value.numpy() for name, value in self.networks.state_dict().items()}
        return {"offset": self.offset, "scale": self.scale, **weights}

    def load(self, arrays):
        arrays = dict(arrays)
        self.offset, self.scale = arrays.pop("offset"), arrays.pop("scale")
        self.networks = _Networks(self.settings, arrays["weight0"].shape[1], len(self.offset))
        weights = {name: torch.from_numpy(value) for name, value in arrays.items()}
        self.networks.load_state_dict(weights)

    def _first(self, keys):
        """(n) the member of each row's first draw: a random one, for many ask for one draw."""
        count = self.settings["members"]
        own = jax.vmap(lambda key: jax.random.randint(jax.random.fold_in(key, 0), (), 0, count))
        return np.asarray(own(keys))

    def _pairs(self, batch):
        start, end, s, t, condition = map(np.asarray, batch)
        path = desired(condition, t[:, None], self.dmp)
        return features(start, path, t - s, condition), changes(start, end)

    def _scaled(self, targets):
        return ((targets - self.offset) / self.scale).astype(np.float32)

    @torch.no_grad()
    def _one_step(self, inputs, member):
        """Means and standard deviations (n, 7) of the members' Gaussians, one member a row."""
        mean, std = np.empty((2, len(inputs), 7), np.float32)
        for number in np.unique(member):
            rows = member == number
            found, log_variance = self.networks(torch.from_numpy(inputs[rows])[None], [number])
            mean[rows] = found[0].numpy() * self.scale + self.offset
            std[rows] = np.exp(0.5 * log_variance[0].numpy()) * self.scale
        return mean, std


class _Networks(torch.nn.Module):
    """All members at once: weights (members, inputs, outputs) of each layer."""

    def __init__(self, settings, inputs, outputs):
        super().__init__()
        sizes = [inputs, *[settings["hidden"]] * settings["layers"], 2 * outputs]
        self.depth = len(sizes) - 1
        for layer, (width, units) in enumerate(itertools.pairwise(sizes)):
            weight = torch.randn(settings["members"], width, units) / (2 * width**0.5)
            setattr(self, f"weight{layer}", torch.nn.Parameter(weight))
            bias = torch.zeros(settings["members"], 1, units)
            setattr(self, f"bias{layer}", torch.nn.Parameter(bias))
        self.lowest = torch.nn.Parameter(torch.full((outputs,), -10.0))
        self.highest = torch.nn.Parameter(torch.full((outputs,), 0.5))

    def forward(self, inputs, members):
        """Means and log-variances, each (members, n, outputs), of inputs (members, n, inputs)."""
        values = inputs
        for layer in range(self.depth):
            weight, bias = getattr(self, f"weight{layer}"), getattr(self, f"bias{layer}")
            values = values @ weight[members] + bias[members]
            if layer + 1 < self.depth:
                values = torch.nn.functional.silu(values)
        mean, log_variance = values.chunk(2, dim=-1)
        softplus = torch.nn.functional.softplus
        log_variance = self.highest - softplus(self.highest - log_variance)
        return mean, self.lowest + softplus(log_variance - self.lowest)

    def loss(self, inputs, targets):
        """The negative log-likelihood in nats, without its constant; a mean over members."""
        mean, log_variance = self(inputs, range(len(inputs)))
        squared = (targets - mean) ** 2 * torch.exp(-log_variance)
        bounds = WEIGHT_OF_BOUNDS * (self.highest.sum() - self.lowest.sum())
        return 0.5 * (squared + log_variance).sum(-1).mean() + bounds
