"""Train LeRobot's ACT, made small, on an export for a few steps: `make test-exports` runs this.

It runs in an environment of its own, with LeRobot and PyTorch. Its argument is the export's folder.
"""

import sys
import time
from importlib.metadata import version

import torch
from lerobot.datasets.factory import resolve_delta_timestamps
from lerobot.datasets.lerobot_dataset import LeRobotDataset, LeRobotDatasetMetadata
from lerobot.policies.factory import make_policy, make_policy_config, make_pre_post_processors

STEPS, BATCH = 20, 16
SMALL = {
    "chunk_size": 8,
    "n_action_steps": 8,
    "pretrained_backbone_weights": None,
    "dim_model": 64,
    "n_heads": 4,
    "dim_feedforward": 128,
    "n_encoder_layers": 1,
    "n_vae_encoder_layers": 1,
    "optimizer_lr": 1e-3,
    "device": "cpu",
    "push_to_hub": False,
}


def main(folder: str) -> None:
    """Read the export, sample batches, train."""
    torch.manual_seed(0)
    print(f"lerobot {version('lerobot')}, torch {version('torch')}")
    metadata = LeRobotDatasetMetadata("nsf_pipeline/pusht", root=folder)
    config = make_policy_config("act", **SMALL)
    data = LeRobotDataset(
        "nsf_pipeline/pusht",
        root=folder,
        delta_timestamps=resolve_delta_timestamps(config, metadata),
        video_backend="pyav",
    )
    print(
        f"{data.num_episodes} episodes, {data.num_frames} frames, splits {metadata.info['splits']}"
    )
    loader = torch.utils.data.DataLoader(data, BATCH, shuffle=True, drop_last=True)
    batch = next(iter(loader))
    for name in ("observation.image", "observation.state", "action"):
        print(f"batch {name}: {tuple(batch[name].shape)} {batch[name].dtype}")
    policy = make_policy(config, ds_meta=metadata)
    prepare, finish = make_pre_post_processors(config, dataset_stats=metadata.stats)
    optimiser = torch.optim.AdamW(policy.parameters(), lr=config.optimizer_lr)
    count = sum(each.numel() for each in policy.parameters())
    print(f"ACT with {count / 1e6:.1f} M parameters")
    policy.train()
    started, step, losses = time.monotonic(), 0, []
    while step < STEPS:
        for batch in loader:
            loss, _ = policy.forward(prepare(batch))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
            step += 1
            if step in (1, STEPS // 2, STEPS):
                print(f"step {step}: loss {loss.item():.3f}, {time.monotonic() - started:.0f} s")
            if step == STEPS:
                break
    policy.eval()
    item = data[0]
    seen = {name: item[name][None] for name in ("observation.image", "observation.state")}
    with torch.no_grad():
        action = finish(policy.select_action(prepare(seen)))
    print(f"action for the first frame: {[round(x) for x in action[0].tolist()]} px")
    assert min(losses[-3:]) < losses[0], losses


if __name__ == "__main__":
    main(sys.argv[1])
