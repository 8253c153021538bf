"""Train stable-worldmodel's LeWM, made small, for a few steps: `make test-exports` runs this.

It runs in an environment of its own, with stable-worldmodel and PyTorch. Its arguments are an HDF5
file and a Lance table of the same data.
"""

import os
import sys
import time
import warnings
from importlib.metadata import version
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

warnings.simplefilter("ignore")  # of environments that are not installed

import gymnasium  # noqa: E402
import stable_worldmodel as swm  # noqa: E402
from stable_worldmodel.wm.lewm import LeWM, module  # noqa: E402
from stable_worldmodel.wm.loss import SIGReg  # noqa: E402

FRAMES, BATCH, STEPS, WIDTH = 4, 16, 20, 64


class Encoder(torch.nn.Module):
    """A small convolutional network with the interface of a vision transformer."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [3, 16, 32, 64]
        layers: list[torch.nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [torch.nn.Conv2d(before, after, 4, stride=4, padding=1), torch.nn.GELU()]
        pooled = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(64, WIDTH)]
        self.net = torch.nn.Sequential(*layers, *pooled)

    def forward(self, pixels: torch.Tensor, **options: Any) -> SimpleNamespace:
        """Embed pictures (n, 3, H, W) as the first token."""
        return SimpleNamespace(last_hidden_state=self.net(pixels)[:, None])


def model() -> LeWM:
    """LeWM with a predictor of one block."""
    predictor = module.Predictor(
        num_frames=FRAMES - 1,
        depth=1,
        heads=2,
        dim_head=32,
        mlp_dim=128,
        input_dim=WIDTH,
        hidden_dim=WIDTH,
        output_dim=WIDTH,
    )
    return LeWM(Encoder(), predictor, module.Embedder(2, 2, WIDTH))


def prepared(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A batch as LeWM takes it; the action of an episode's last row is NaN and not used."""
    return {
        "pixels": batch["pixels"].float() / 255.0,
        "action": batch["action"].nan_to_num(0.0),
    }


def train(data: Any, steps: int) -> list[float]:
    """Train a new model; returns its losses."""
    loader = torch.utils.data.DataLoader(data, BATCH, shuffle=True, drop_last=True)
    net, regulariser = model(), SIGReg(num_proj=64)
    losses: list[float] = []
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3)
    while len(losses) < steps:
        for batch in loader:
            encoded = net.encode(prepared(batch))
            found = net.predict(encoded["emb"][:, :-1], encoded["act_emb"][:, :-1])
            loss = (found - encoded["emb"][:, 1:]).square().mean()
            loss = loss + 0.1 * regulariser(encoded["emb"].transpose(0, 1))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
            if len(losses) == steps:
                break
    return losses


def replay(data: Any) -> float:
    """px and rad: how far the library's own environment strays from an episode's states."""
    env = gymnasium.make("swm/PushT-v1", disable_env_checker=True)
    episode = data.load_episode(0)
    states, actions = (episode[name].numpy() for name in ("state", "action"))
    env.reset(seed=0, options={"state": states[0].astype(np.float64)})
    farthest = 0.0
    for action, after in zip(actions[:-1], states[1:], strict=True):
        seen, *_ = env.step(action)
        farthest = max(farthest, float(np.abs(seen["state"][:5] - after[:5]).max()))
    return farthest


def main(file: str, table: str) -> None:
    """Read both exports, sample batches, train."""
    torch.manual_seed(0)
    print(f"stable-worldmodel {version('stable-worldmodel')}, torch {version('torch')}")
    for path in (file, table):
        data = swm.data.load_dataset(path, num_steps=FRAMES)
        print(f"{type(data).__name__}: {len(data.lengths)} episodes, {len(data)} clips")
        item = data[0]
        for name in ("pixels", "action", "state"):
            print(f"clip {name}: {tuple(item[name].shape)} {item[name].dtype}")
        started = time.monotonic()
        losses = train(data, STEPS)
        seconds = time.monotonic() - started
        print(f"LeWM: loss {losses[0]:.3f} at step 1, {losses[-1]:.3f} at {STEPS}, {seconds:.0f} s")
        assert min(losses[-3:]) < losses[0], losses
    data = swm.data.load_dataset(file, num_steps=FRAMES)
    print(f"replayed in swm/PushT-v1: at most {replay(data):.2g} px or rad from the states")


if __name__ == "__main__":
    main(*map(os.path.abspath, sys.argv[1:]))
