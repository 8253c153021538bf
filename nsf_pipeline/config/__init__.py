"""Every setting: its type, default, range, unit and meaning, one module per section.

A section's module holds its types and finds contradictions with other sections. `root` puts the
sections together, `loading` reads and checks settings. `python -m nsf_pipeline.config` generates
`config.yaml` and `workflow/schemas/config.schema.json` from the types; a test keeps them in step.
"""

from nsf_pipeline.config.dataset import DatasetConfig
from nsf_pipeline.config.dmp import DMPConfig
from nsf_pipeline.config.ensembles import EnsembleConfig
from nsf_pipeline.config.evaluation import EvaluationConfig
from nsf_pipeline.config.exports import ExportConfig, ExportFormat, FrameSize, Split
from nsf_pipeline.config.loading import (
    STAMP,
    check_file,
    files_given,
    load_config,
    parse_config,
    require_points,
)
from nsf_pipeline.config.model import KINDS, BridgeConfig, ModelConfig, NetworkConfig
from nsf_pipeline.config.planning import (
    CEMConfig,
    ContactConfig,
    Planner,
    PlanningConfig,
    SearchConfig,
)
from nsf_pipeline.config.policies import PolicyConfig
from nsf_pipeline.config.policy_file import Policy, PolicyFile
from nsf_pipeline.config.protocols import ProtocolConfig
from nsf_pipeline.config.root import Config
from nsf_pipeline.config.runtime import MAX_CHECKPOINT_SECONDS, MAX_DATA_MEMORY, RuntimeConfig
from nsf_pipeline.config.scaling import AXES, ScalingConfig
from nsf_pipeline.config.scene import SceneConfig
from nsf_pipeline.config.schema import json_schema
from nsf_pipeline.config.second_round import SecondRoundConfig
from nsf_pipeline.config.section import ConfigError
from nsf_pipeline.config.shards import (
    MAX_PARTS,
    MAX_SHARD_SIZE,
    MAX_SHARDS,
    MAX_TRAJECTORIES,
    Division,
)
from nsf_pipeline.config.speed import SpeedConfig
from nsf_pipeline.config.training import TrainingConfig
from nsf_pipeline.config.variants import UNTRAINED, TrainingChanges, Variant, require_free_name
from nsf_pipeline.config.videos import Rank, VideoConfig
from nsf_pipeline.config.wandb import WandbConfig, project_name

__all__ = [
    "AXES",
    "KINDS",
    "MAX_CHECKPOINT_SECONDS",
    "MAX_DATA_MEMORY",
    "MAX_PARTS",
    "MAX_SHARDS",
    "MAX_SHARD_SIZE",
    "MAX_TRAJECTORIES",
    "STAMP",
    "UNTRAINED",
    "BridgeConfig",
    "CEMConfig",
    "Config",
    "ConfigError",
    "ContactConfig",
    "DMPConfig",
    "DatasetConfig",
    "Division",
    "EnsembleConfig",
    "EvaluationConfig",
    "ExportConfig",
    "ExportFormat",
    "FrameSize",
    "ModelConfig",
    "NetworkConfig",
    "Planner",
    "PlanningConfig",
    "Policy",
    "PolicyConfig",
    "PolicyFile",
    "ProtocolConfig",
    "Rank",
    "RuntimeConfig",
    "ScalingConfig",
    "SceneConfig",
    "SearchConfig",
    "SecondRoundConfig",
    "SpeedConfig",
    "Split",
    "TrainingChanges",
    "TrainingConfig",
    "Variant",
    "VideoConfig",
    "WandbConfig",
    "check_file",
    "files_given",
    "json_schema",
    "load_config",
    "parse_config",
    "project_name",
    "require_free_name",
    "require_points",
]
