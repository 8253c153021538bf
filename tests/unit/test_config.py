"""Settings: what is refused, in which words, and what goes through; files generated from them."""

import itertools
import json
import re
from typing import Any

import pytest
import yaml
from conftest import ROOT

from nsf_pipeline.config import Config, ConfigError, DMPConfig, load_config
from nsf_pipeline.config.__main__ import GENERATED, main
from nsf_pipeline.config.yaml_text import config_yaml, range_of
from nsf_pipeline.timing import num_steps

UNKNOWN = "unknown setting; did you mean"
# What a settings file holds, and what its one line of error says.
REFUSED = {
    "unknown section": ("trainig: {}", f"trainig: {UNKNOWN} training?"),
    "unknown setting": ("training: {bath_size: 3}", f"training.bath_size: {UNKNOWN} batch_size?"),
    "moved setting": (
        "simulation: {action_noise_std: 8.0}",
        "simulation: unknown setting; action_noise_std is now the range policies.action_noise_std",
    ),
    "one level of noise": ("policies: {action_noise_std: 8.0}", "expected a list, got 8.0"),
    "narrow scene": (
        "policies: {scene: {walls: [100, 290]}}",
        "policies.scene.walls = [100.0, 290.0] px leave 190 px, but block and agent need 202",
    ),
    "goal at a wall": (
        "policies: {scene: {goal_x: [100, 300]}}",
        "policies.scene.goal_x = [100.0, 300.0] px: the block at its goal may reach beyond",
    ),
    "second round in another scene": (
        "{policies: {scene: {goal_x: [200, 300]}}, second_round: {trajectories: 2500}}",
        "its pushes are planned for gym-pusht's scene",
    ),
    "negative noise": ("policies: {action_noise_std: [-1, 8]}", "policies.action_noise_std.0: exp"),
    "unknown setting, deep": ("model: {flow: {dept: 3}}", f"model.flow.dept: {UNKNOWN} depth?"),
    "nothing like it": (
        "videos: {zzz: 3}",
        "videos.zzz: unknown setting; expected one of trajectories, ranked",
    ),
    "a number as name": ("1: 2", "1: expected a name as text; put it in quotes"),
    "text for a number": ("seed: many", 'seed: expected a valid integer, got "many"'),
    "fraction for a count": ("training: {steps: 1.5}", "training.steps: expected a valid integer"),
    "truth for a number": ("training: {steps: true}", "a valid integer, got true"),
    "number for a truth": ("model: {autonomous: 1}", "model.autonomous: expected a valid boolean"),
    "section left empty": ("training:", "training: expected settings by name, got null"),
    "number for a section": ("training: 3", "training: expected settings by name, got 3"),
    "number for a range": ("policies: {duration: 3}", "policies.duration: expected a list, got 3"),
    "half a range": ("policies: {duration: [1.0]}", "expected one more number, got [1.0]"),
    "long range": ("policies: {weights: [1, 2, 3]}", "expected at most 2 items"),
    "empty list": ("ensembles: {horizons: []}", "ensembles.horizons: expected at least 1 item"),
    "empty text": ("wandb: {project: ''}", "expected at least 1 character"),
    "pushes that no machine holds": (
        "planning: {search: {contact: {beam: 1000, second_candidates: 100000}}}",
        "planning.search.contact: beam = 1000 times second_candidates = 100000 or",
    ),
    "episodes that no machine holds": (
        "protocols: {episodes: 100000, shard_size: 100000}",
        "protocols.shard_size: 100000 searches side by side, with up to 1000 pushes each, ask",
    ),
    "tasks that no machine holds": (
        "protocols: {goal_tasks: 100000}",
        "protocols.goal_tasks: 100000 searches side by side",
    ),
    "a second round that no machine holds": (
        "{second_round: {trajectories: 50000}, shard_size: 50000}",
        "makes 5000 searches side by side, which ask for more than 1000000 pushes at once",
    ),
    "a shard for each episode": (
        "protocols: {episodes: 100000, shard_size: 1}",
        "protocols: episodes = 100000 in shards of 1 makes more than 1000 shards of each row",
    ),
    "a variant named as a row": ("variants: {nominal: {}}", "variants.nominal: the tables have a"),
    "a variant named as a kind of row": ("variants: {a_steps: {}}", "that end in _steps stand for"),
    "a date": ("seed: 2020-01-01", "not plain settings"),
    "unknown choice": ("model: {state_dim: 6}", "model.state_dim: expected 5, 7 or 10, got 6"),
    "unknown name": (
        "model: {bridge: {activation: relu}}",
        "model.bridge.activation: expected 'silu', 'tanh', 'gelu' or 'softplus', got \"relu\"",
    ),
    "number read as text": (
        "training: {learning_rate: 1e-3}",
        'training.learning_rate: expected a valid number, got "1e-3" (a number given as text: '
        "write it as 1.0e-3",
    ),
    "not a number": (
        "training: {clip_ratio: .nan}",
        "clip_ratio: expected a finite number, got NaN",
    ),
    "infinite": ("policies: {weights: [-.inf, 1]}", "expected a finite number, got -Infinity"),
    "too small": ("num_trajectories: 0", "num_trajectories: expected greater than or equal to 1"),
    "too large": ("dataset: {test_fraction: 2}", "expected less than 1, got 2"),
    "past 64 bits": (f"seed: {2**63}", f"seed: expected less than {2**63}, got {2**63}"),
    "outside the table": ("policies: {goal_x: [-1, 400]}", "goal_x.0: expected greater than or eq"),
    "reversed range": (
        "policies: {duration: [3, 1]}",
        "policies.duration: the lower bound 3.0 exceeds the upper bound 1.0",
    ),
    "reversed workspace": ("dmp: {workspace: [400, 100]}", "dmp.workspace: the lower bound 400.0"),
    "no train split": (
        "dataset: {validation_fraction: 0.5, test_fraction: 0.5}",
        "validation_fraction + test_fraction = 1 leaves nothing to train on",
    ),
    "endless warm-up": (
        "training: {steps: 100, warmup_steps: 100}",
        "training: warmup_steps = 100 must be less than steps = 100",
    ),
    "between control steps": (
        "ensembles: {horizons: [0.15]}",
        "horizons: 0.15 s is not a multiple of the control step 0.1 s",
    ),
    "the same horizon twice": ("ensembles: {horizons: [0.1, 0.1]}", "names one horizon twice"),
    "nearly the same horizon twice": ("ensembles: {horizons: [1.0, 1.0000001]}", "horizon twice"),
    "horizon too long": (
        "ensembles: {horizons: [0.1, 4.0]}",
        "ensembles.horizons = 4 s is longer than any trajectory: policies.duration ends at 3.6 s",
    ),
    "gap too long": (
        "training: {max_gap: 3.7}",
        "training.max_gap = 3.7 s is longer than any trajectory",
    ),
    "short trajectories": (
        "{policies: {duration: [0.5, 1.0]}, training: {max_gap: 1.0}}",
        "ensembles.horizons = 2 s is longer than any trajectory: policies.duration ends at 1 s",
    ),
    "batch larger than the data": (
        "{num_trajectories: 10, shard_size: 5}",
        "training.batch_size = 512 is larger than the data: num_trajectories = 10 gives perhaps 80",
    ),
    "shard larger than the data": (
        "{num_trajectories: 500, shard_size: 501}",
        "shard_size = 501 is more than num_trajectories = 500",
    ),
    "too many ensemble shards": (
        "ensembles: {num_states: 30000, shard_size: 1}",
        "ensembles.num_states = 30000 in shards of 1 makes 120000 shards, more than 100000; raise",
    ),
    "more members than memory": (
        "ensembles: {num_members: 65536, shard_size: 100000}",
        "ensembles.num_members = 65536 for each of 8000 states takes 20.5 GiB, more than 2; lower",
    ),
    "more draws than memory": (
        "evaluation: {num_samples: 65536}",
        "evaluation.num_samples = 65536 for each of 2000 states takes 3.4 GiB, more than 2; lower",
    ),
    "files that part a shard": (
        "{num_trajectories: 100, shard_size: 10, dataset: {trajectories_per_file: 25}}",
        "dataset.trajectories_per_file = 25 is no multiple of shard_size = 10; make it one, or 0",
    ),
    "files smaller than a shard": (
        "{num_trajectories: 100, shard_size: 10, dataset: {trajectories_per_file: 5}}",
        "dataset.trajectories_per_file = 5 is no multiple of shard_size = 10",
    ),
    "too many files": (
        "{num_trajectories: 5001, shard_size: 1, dataset: {trajectories_per_file: 1}}",
        "divides num_trajectories = 5001 into 5001 files, more than 5000; raise it",
    ),
    "files of less than nothing": (
        "dataset: {trajectories_per_file: -2500}",
        "dataset.trajectories_per_file: expected greater than or equal to 0, got -2500",
    ),
    "too many shards": ("{num_trajectories: 100001, shard_size: 1}", "more than 100000; raise"),
    "video of no trajectory": (
        "{num_trajectories: 100, shard_size: 10, videos: {trajectories: [3, 100]}}",
        "videos.trajectories: there is no trajectory 100: they count from 0 and num_trajectories",
    ),
    "video of trajectory -1": (
        "videos: {trajectories: [-1]}",
        "videos.trajectories.0: expected gr",
    ),
    "the same video twice": (
        "videos: {trajectories: [5, 5]}",
        "trajectories: [5, 5] names one vid",
    ),
    "the same rank twice": ("videos: {ranked: [best, best]}", "names one video twice"),
    "unknown rank": (
        "videos: {ranked: [last]}",
        "videos.ranked.0: expected 'best', 'median' or 'worst', got \"last\"",
    ),
    "goals outside the workspace": (
        "policies: {goal_y: [20, 400]}",
        "policies.goal_y = [20.0, 400.0] px leaves dmp.workspace = [25, 487]",
    ),
    "workspace within the goals": ("dmp: {workspace: [100, 400]}", "policies.goal_x = [40.0, 472"),
    "unknown setting of a variant": (
        "variants: {gaussian: {model: {flow: {dept: 3}}}}",
        f"variants.gaussian.model.flow.dept: {UNKNOWN} depth?",
    ),
    "unknown section of a variant": (
        "variants: {wide: {training: {}, evaluation: {}}}",
        "variants.wide.evaluation: unknown setting; expected one of model, training",
    ),
    "text for a variant's number": (
        "variants: {wide: {training: {steps: many}}}",
        'variants.wide.training.steps: expected a valid integer, got "many"',
    ),
    "variant of no name": (
        "variants: {a b: {}}",
        "variants.a b: expected a name of small letters, digits and _",
    ),
    "variant of a name that is taken": ("variants: {flow: {}}", "a row of that name already"),
    "variant of a simulator's name": ("variants: {gym_pusht: {}}", "a row of that name already"),
    "truth as name": ("{seed: 1, on: 3}", ": true: expected a name as text; put it in quotes"),
    "nothing as name": ("variants: {wide: {~: 3}}", "variants.wide.null: expected a name"),
    "variant that contradicts what it leaves": (
        "variants: {short: {training: {steps: 100}}}",
        "variants.short: warmup_steps = 500 must be less than steps = 100",
    ),
    "variant larger than the data": (
        "variants: {large: {training: {batch_size: 2000000}}}",
        "variants.large: training.batch_size = 2000000 is larger than the data",
    ),
    "neural SDE over long gaps": (
        "variants: {neural_sde: {training: {max_gap: 0.3}}}",
        "variants.neural_sde: model.kind = neural_sde has a density only over one control step",
    ),
    "no push without the policy": (
        "{model: {physics: path, conditional: false}, protocols: {models: [nominal]}}",
        "model.physics = path changes nothing with model.conditional = false, which leaves out",
    ),
    "no push without the time": (
        "model: {physics: path, autonomous: true}",
        "model.physics = path changes nothing with model.autonomous = true, which leaves out",
    ),
    "physics that is none of these": ("model: {physics: ~}", "model.physics: expected "),
    "flow that cannot plan": (
        "model: {conditional: false}",
        "protocols.models: with model.conditional = false, flow knows nothing of the policy",
    ),
    "second round that cannot be planned": (
        "{model: {conditional: false}, protocols: {models: [nominal]}, second_round: "
        "{trajectories: 5000}}",
        "second_round.trajectories = 5000: with model.conditional = false, the flow knows nothing",
    ),
    "variant with the name of a scaling point": (
        "variants: {scaling_width_32: {}}",
        "names that start with scaling_ stand for the models of the section scaling; choose",
    ),
    "scaling with a value twice": (
        "scaling: {width: [32, 32]}",
        "scaling: width: [32, 32] names one value twice",
    ),
    "more trajectories than there are": (
        "training: {trajectories: 165000}",
        "training.trajectories = 165000 is more than the train split has, about 160000 of num_",
    ),
    "second round that would not be trained on": (
        "{training: {trajectories: 5000}, second_round: {trajectories: 5000}}",
        "training.trajectories = 5000 takes the first ones, so those of second_round.traj",
    ),
    "variant that cannot plan": (
        "protocols: {variants: [unconditional]}",
        "protocols.variants: with model.conditional = false, unconditional knows nothing of the",
    ),
    "variants without the flow": (
        "protocols: {variants: [path], models: [nominal]}",
        "protocols.variants = ['path'] get rows beside the flow's, but protocols.models leaves out",
    ),
    "no variants": ("variants:", "variants: expected settings by name, got null"),
    "a list": ("[1, 2]", "settings.yaml: expected settings by name, got list"),
    "a list in YAML": ("- 1", "settings.yaml: expected settings by name, got list"),
    "plain text": ("hello", "settings.yaml: expected settings by name, got str"),
    "broken YAML": ("training: {steps: 3", "not valid YAML: while parsing a flow mapping"),
    "a tab": ("training:\n\tsteps: 3", "not valid YAML: while scanning"),
}


def message_of(source):
    with pytest.raises(ConfigError) as caught:
        load_config(source)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("case", REFUSED)
def test_an_error_is_one_line_that_names_file_and_setting(case, tmp_path):
    text, expected = REFUSED[case]
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    message = message_of(path)
    assert message.startswith(f"{path}: ")
    assert expected in message
    assert message.count(path.name) == 1


def test_all_wrong_settings_are_named_together(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("{sed: 1, num_trajectories: 0, training: {steps: many}}")
    message = message_of(path)
    for name in ("sed: unknown", "num_trajectories: expected", "training.steps: expected"):
        assert name in message


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    missing, folder, binary = (tmp_path / name for name in ("missing.yaml", "folder", "binary"))
    folder.mkdir()
    binary.write_bytes(b"\x89HDF\r\n\x1a\n\xff\xfe")
    for path, reason in [
        (missing, "No such file or directory"),
        (folder, "Is a directory"),
        (binary, "not a text file"),
    ]:
        assert message_of(path) == f"{path}: cannot read the settings: {reason}"


@pytest.mark.parametrize("text", ["", "{}", "# nothing but a comment\n"])
def test_what_is_left_out_has_its_default(text, tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    assert load_config(path) == Config()
    assert load_config(str(path)) == Config()


def test_a_variant_is_the_settings_with_its_changes(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(
        "{training: {steps: 900}, variants: {gaussian: {training: {steps: 800}}, autonomous: null, "
        "wide: {model: {flow: {hidden_size: 256}}, training: {warmup_steps: 600}}}}"
    )
    config = load_config(path)
    assert set(config.variant_names) == set(Config().variant_names) - {"autonomous"} | {"wide"}
    with pytest.raises(KeyError):
        config.variant("autonomous")
    wide, gaussian = config.variant("wide"), config.variant("gaussian")
    changes = {"hidden_size": 256}
    assert wide.model.flow == config.model.flow.model_copy(update=changes)
    assert wide.model.bridge == config.model.bridge
    changes = {"warmup_steps": 600}
    assert wide.training == config.training.model_copy(update=changes)
    # Its own default changes stay, as those of any section do.
    assert gaussian.model.flow.num_flow_layers == 0
    assert gaussian.training.steps == 800
    for section in ("seed", "dmp", "dataset", "evaluation", "variants"):
        assert getattr(wide, section) == getattr(config, section)
    assert load_config(config.model_dump_json()) == config


def test_a_run_may_distil_beside_the_default_variants(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("training: {distillation_weight: 0.1}")
    config = load_config(path)
    for name in config.variant_names:
        alone = name in ("no_consistency", "neural_sde")
        assert config.variant(name).training.distillation_weight == (0.0 if alone else 0.1)


def test_settings_survive_as_json_text():
    config = Config()
    changed = config.model_copy(
        update={
            "seed": 2**63 - 1,
            "policies": config.policies.model_copy(update={"weights": (-1 / 3, 1e-300)}),
        }
    )
    for original in (config, changed):
        assert load_config(original.model_dump_json()) == original
        assert load_config(json.dumps(original.model_dump(mode="json"), indent=1)) == original


def test_json_of_one_stage_is_checked_for_itself(tmp_path):
    # Taken with the defaults of the settings left out, these would contradict them.
    assert load_config('{"policies": {"duration": [0.5, 1.0]}}').max_steps == 10
    (tmp_path / "0.stamp.json").write_text('{"dmp": {"phase_decay": 1e-05}}')
    stamp = load_config(tmp_path / "0.stamp.json")
    assert stamp.dmp.phase_decay == 1e-5
    assert stamp.held == {"dmp", "runtime", "wandb"}
    with pytest.raises(ConfigError, match="the settings given have no training: they are the"):
        _ = stamp.training
    assert (
        message_of('{"seed": -1}') == "--config: seed: expected greater than or equal to 0, got -1"
    )
    assert message_of('{"seed": ').startswith("--config: not valid JSON: Expecting value")


def test_a_file_may_be_json(tmp_path):
    path = tmp_path / "my.json"
    path.write_text('{"dmp": {"phase_decay": 1e-05}}')
    assert load_config(path) == Config(dmp=DMPConfig(phase_decay=1e-5))
    path.write_text('{"policies": {"duration": [0.5, 1.0]}}')
    assert message_of(path).startswith(f"{path}: training.max_gap = 3.6 s is longer than any")


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Config().seed = 1


@pytest.mark.parametrize(
    ("duration", "steps"),
    [(1e-12, 1), (0.05, 1), (0.1, 1), (0.1 + 1e-6, 2), (0.3, 3), (0.1 + 0.2, 3), (3.6, 36)],
)
def test_control_steps_cover_the_duration(duration, steps):
    assert num_steps(duration) == steps


@pytest.mark.parametrize(
    ("num_trajectories", "shard_size", "last"),
    [(10, 5, (5, 10)), (11, 5, (10, 11)), (4, 5, (0, 4)), (1, 1, (0, 1))],
)
def test_shards_divide_all_trajectories(num_trajectories, shard_size, last):
    config = Config(num_trajectories=num_trajectories, shard_size=shard_size)
    ranges = [config.shard_range(shard) for shard in range(config.num_shards)]
    assert ranges[-1] == last
    assert [i for first, stop in ranges for i in range(first, stop)] == list(
        range(num_trajectories)
    )


# The files that are generated from the types.


@pytest.mark.parametrize("name", GENERATED)
def test_generated_files_are_in_step_with_the_types(name):
    assert (ROOT / name).read_text() == GENERATED[name](), (
        f"{name} is out of step with nsf_pipeline/config/; run: python -m nsf_pipeline.config"
    )


def test_the_command_writes_what_is_out_of_step_alone(tmp_path, capsys):
    paths = [tmp_path / name for name in GENERATED]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    paths[0].write_text("seed: 1\n")
    main(tmp_path)
    assert capsys.readouterr().out.count(": written") == len(paths)
    assert [path.read_text() for path in paths] == [make() for make in GENERATED.values()]
    times = [path.stat().st_mtime_ns for path in paths]
    main(tmp_path)
    assert [path.stat().st_mtime_ns for path in paths] == times


def test_the_command_writes_into_a_checkout_alone(tmp_path):
    with pytest.raises(SystemExit, match="expected a checkout of the repository"):
        main(tmp_path)
    assert not list(tmp_path.iterdir())


def leaves(settings, path=()):
    """Every setting's path."""
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name)


def test_config_yaml_shows_every_default():
    shown = yaml.safe_load(config_yaml())
    assert Config.model_validate_json(json.dumps(shown)) == Config()
    assert list(leaves(shown)) == list(leaves(Config().model_dump()))


def test_config_yaml_explains_every_setting():
    path: list[str] = []
    explained = set()
    lines = config_yaml().splitlines()
    assert max(map(len, lines)) <= 100
    for above, line in itertools.pairwise(lines):
        match = re.match(r"( *)(\w+): *([^#]*?) *(#.*)?$", line)
        if match:
            indent, name, value, comment = match.groups()
            path[len(indent) // 2 :] = [name]
            # The comment of a long line stands above it.
            if value and (comment or above.startswith(f"{indent}# ")):
                explained.add(tuple(path))
    # Variants change settings that are explained above them.
    assert {path for path in leaves(Config().model_dump()) if path[0] != "variants"} == explained


def properties(schema):
    """Path and schema of every setting; those of a section are below its class."""
    for name, section in {"Config": schema, **schema["$defs"]}.items():
        for setting, allowed in section["properties"].items():
            yield f"{name}.{setting}", allowed


def test_every_section_and_setting_has_a_text():
    schema = Config.model_json_schema()
    # The sections have theirs at their classes, a variant's too.
    own = {name: each for name, each in properties(schema) if "$ref" not in each}
    assert [name for name, each in own.items() if not each.get("description")] == []
    assert [name for name, each in schema["$defs"].items() if not each.get("description")] == []


def test_every_number_has_a_range():
    numbers = {
        name: range_of(each)
        for name, each in properties(Config.model_json_schema())
        if re.search("integer|number", json.dumps(each.get("type", "")) + str(each.get("items")))
    }
    assert len(numbers) > 40
    assert [name for name, allowed in numbers.items() if not allowed] == []


RANGES: dict[str, dict[str, Any]] = {
    "0 to 512": {"minimum": 0.0, "maximum": 512.0},
    "0.1 to 60": {"minimum": 0.1, "maximum": 60.0},
    "above 0, to 20": {"exclusiveMinimum": 0.0, "maximum": 20.0},
    "above 0, below 1": {"exclusiveMinimum": 0.0, "exclusiveMaximum": 1.0},
    "0 or more, below 2^63": {"minimum": 0, "exclusiveMaximum": 2**63},
    "1 or more": {"minimum": 1},
    "above 0": {"exclusiveMinimum": 0.0},
    "silu, tanh or gelu": {"enum": ["silu", "tanh", "gelu"]},
    "5 or 7": {"enum": [5, 7]},
    "0 or more, at most 1000 of them": {"items": {"minimum": 0}, "maxItems": 1000},
    "-1 to 1": {"prefixItems": [{"minimum": -1.0, "maximum": 1.0}] * 2, "minItems": 2},
    "not empty": {"type": "string", "minLength": 1},
    "1 to 128 characters": {"type": "string", "minLength": 1, "maxLength": 128},
    "best or worst": {"items": {"enum": ["best", "worst"]}, "maxItems": 2},
    "10^-12 to 10^30": {"minimum": 1e-12, "maximum": 1e30},
    "1 to 1000000": {"minimum": 1, "maximum": 1_000_000},
    "0 or more, below 10^9": {"minimum": 0, "exclusiveMaximum": 1_000_000_000},
    "1 to 2^24": {"minimum": 1, "maximum": 1 << 24},
    "": {"type": "boolean"},
}


@pytest.mark.parametrize("words", RANGES)
def test_a_range_is_worded_as_the_schema_has_it(words):
    assert range_of(RANGES[words]) == words
