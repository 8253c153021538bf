"""Settings that no one can mean: each is one short line that names the setting, at once."""

import collections
import datetime
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT

from nsf_pipeline.cli import main
from nsf_pipeline.config import (
    Config,
    ConfigError,
    WandbConfig,
    check_file,
    files_given,
    json_schema,
    load_config,
    parse_config,
    require_free_name,
)
from nsf_pipeline.config.loading import STAMP
from nsf_pipeline.config.reading import MAX_BYTES, read_yaml
from nsf_pipeline.stages import generate
from nsf_pipeline.tracking import project_of

LONG = 300_000
DIGITS = "9" * 400
NOT_PLAIN = "not plain settings: expected a number, text, true or false, got "
READ_OTHERWISE = "programs that read the tables take that name for a missing value"
PROJECT = "wandb.project: expected at most 128 characters that can be printed"
MORE = "more than 200000 values, counting repeated ones"


def bomb(first, level):
    """YAML in which every value holds the one before ten times."""
    lines = [f"a: &a {first}"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} " + level.format(", ".join([f"*{before}"] * 10)))
    return "\n".join(lines)


YAML = {
    # Numbers.
    "400 digits": (f"seed: {DIGITS}", "seed: expected a smaller number, got one of about 40"),
    "400 digits, negative": (f"num_trajectories: -{DIGITS}", "num_trajectories: expected a small"),
    "400 digits in a list": (f"policies: {{weights: [0, {DIGITS}]}}", "policies.weights.1: exp"),
    "400 digits in a variant": (
        f"variants: {{wide: {{training: {{steps: {DIGITS}}}}}}}",
        "variants.wide.training.steps: expected a smaller number",
    ),
    "400 digits for a truth": (f"model: {{autonomous: {DIGITS}}}", "model.autonomous: expected a"),
    "400 digits for a text": (f"wandb: {{project: {DIGITS}}}", "wandb.project: expected a small"),
    "400 digits for a section": (f"training: {DIGITS}", "training: expected a smaller number"),
    "400 digits as a name": (f"{DIGITS}: 1", "a large number: expected a name as text"),
    "5000 digits": ("seed: " + "9" * 5000, f"seed: {NOT_PLAIN}999"),
    "5000 hexadecimal digits": ("seed: 0x" + "f" * 5000, "seed: expected a smaller number"),
    "trajectories": (f"num_trajectories: {10**18}", "num_trajectories: expected less than or eq"),
    "validation size": (f"training: {{validation_size: {10**15}}}", "training.validation_size: e"),
    "batch size": (f"training: {{batch_size: {10**12}}}", "training.batch_size: expected less"),
    "steps": (f"training: {{steps: {10**12}}}", "training.steps: expected less than or equal to"),
    "warm-up": (f"training: {{warmup_steps: {10**12}}}", "training.warmup_steps: expected less"),
    "validations": (f"training: {{validate_every: {10**12}}}", "training.validate_every: expected"),
    "weight 1->2": ("training: {one_to_two_weight: 1.0e+300}", "training.one_to_two_weight: exp"),
    "weight 2->1": ("training: {two_to_one_weight: 1.0e+39}", "training.two_to_one_weight: exp"),
    # The running norm could only fall.
    "clip ratio of 1": ("training: {clip_ratio: 1.0}", "training.clip_ratio: expected greater"),
    "large clip ratio": ("training: {clip_ratio: 1.0e+300}", "training.clip_ratio: expected less"),
    "small clip ratio": (
        "training: {clip_ratio: 1.0e-320}",
        "training.clip_ratio: expected gre",
    ),
    "tiny rate": ("training: {learning_rate: 1.0e-320}", "training.learning_rate: expected gre"),
    "tiny share": ("dataset: {test_fraction: 1.0e-320}", "dataset.test_fraction: expected great"),
    "tiny decay": ("dmp: {phase_decay: 1.0e-320}", "dmp.phase_decay: expected greater than"),
    "tiny damping": ("policies: {damping_ratio: [1.0e-320, 1]}", "policies.damping_ratio.0: expe"),
    "tiny fraction": ("training: {consistency_fraction: 1.0e-310}", "consistency_fraction: expec"),
    "long gap": ("training: {max_gap: 1.0e+308}", "training.max_gap: expected less than or equ"),
    "long trajectory": ("policies: {duration: [1, 1.0e+308]}", "policies.duration.1: expected le"),
    "long horizon": ("ensembles: {horizons: [1.0e+308]}", "ensembles.horizons.0: expected less"),
    "past double precision": ("policies: {duration: [1, 1.0e+999]}", "expected a finite number"),
    "infinite": ("policies: {duration: [1, .inf]}", "policies.duration.1: expected a finite num"),
    "not a number": ("training: {clip_ratio: .NaN}", "training.clip_ratio: expected a finite"),
    "checkpoints": (f"runtime: {{checkpoint_seconds: {10**18}}}", "runtime.checkpoint_seconds: e"),
    "memory": (f"runtime: {{data_memory: {10**18}}}", "runtime.data_memory: expected less than"),
    "video": (f"videos: {{trajectories: [{10**18}]}}", "videos.trajectories.0: expected less"),
    "prediction": (f"videos: {{predicted: [{10**18}]}}", "videos.predicted.0: expected less than"),
    "weights past memory": (
        "model: {flow: {hidden_size: 4096, depth: 16, num_flow_layers: 64}}",
        "model.flow has 65 GiB of weights, more than 16; lower its hidden_size, depth or num_flow",
    ),
    "a variant past memory": (
        "variants: {vast: {model: {bridge: {hidden_size: 4096, depth: 16, num_flow_layers: 64}}}}",
        "variants.vast: model.bridge has 65 GiB of weights",
    ),
    "a step past memory": (
        "{num_trajectories: 10000000, shard_size: 100000, training: {batch_size: 10000000}, "
        "model: {flow: {hidden_size: 4096, depth: 16}}}",
        "training.batch_size = 10000000 takes 9766 GiB in model.flow, more than 1024; lower it",
    ),
    "a validation past memory": (
        "{training: {validation_size: 10000000}, model: {flow: {hidden_size: 4096, depth: 16}}}",
        "training.validation_size = 10000000 takes 9766 GiB in model.flow",
    ),
    # Lists.
    "a size twice": ("speed: {sizes: [1, 2, 1]}", "sizes: [1, 2, 1] names one size twice"),
    "many sizes": (f"speed: {{sizes: {[*range(1, 5000)]}}}", "speed.sizes: expected at most 100"),
    "one size many times": (f"speed: {{sizes: {[7] * 5000}}}", "speed.sizes: expected at most"),
    "many horizons": (
        f"ensembles: {{horizons: {[each / 10 for each in range(1, 300)]}}}",
        "ensembles.horizons: expected at most 100 items, got [0.1, 0.2",
    ),
    "many ranks": (f"videos: {{ranked: {['best'] * 5000}}}", "videos.ranked: expected at most 3"),
    "many variants": (
        "variants: {" + ", ".join(f"v{each}: {{}}" for each in range(200)) + "}",
        "variants: expected at most 100 items, got",
    ),
    "a list for a section": ("training: [1]", "training: expected settings by name, got [1]"),
    "a section for a list": ("speed: {sizes: {a: 1}}", "speed.sizes: expected a list, got {"),
    "no sizes": ("speed: {sizes: []}", "speed.sizes: expected at least 1 item, got []"),
    # What else YAML reads.
    "date": ("seed: 2020-01-01", f"seed: {NOT_PLAIN}2020-01-01"),
    "date as a name": ("2020-01-01: 3", "2020-01-01: expected a name as text"),
    "time": ("seed: 2020-01-01T10:00:00Z", f"seed: {NOT_PLAIN}2020-01-01T10:00:00Z"),
    "to the base 60": ("training: {steps: 12:30:45}", f"training.steps: {NOT_PLAIN}12:30:45"),
    "fraction to the base 60": (
        "policies: {duration: [1, 1:30.5]}",
        f"policies.duration.1: {NOT_PLAIN}1:30.5",
    ),
    "to the base 8": ("seed: 0010", f"seed: {NOT_PLAIN}0010"),
    "empty hexadecimal": ("seed: 0x", 'seed: expected a valid integer, got "0x"'),
    "empty hexadecimal _": ("seed: 0x_", f"seed: {NOT_PLAIN}0x_"),
    "empty hexadecimal, negative": ("seed: -0x__", f"seed: {NOT_PLAIN}-0x__"),
    "empty binary": ("seed: 0b", 'seed: expected a valid integer, got "0b"'),
    "empty binary _": ("seed: 0b_", f"seed: {NOT_PLAIN}0b_"),
    "empty octal": ("seed: 0_", f"seed: {NOT_PLAIN}0_"),
    "code": ("seed: !!python/object/apply:os.system [echo]", f"seed: {NOT_PLAIN}!!python/object"),
    "tuple": ("speed: {sizes: !!python/tuple [1]}", f"speed.sizes: {NOT_PLAIN}!!python/tuple"),
    "name of a function": ("seed: !!python/name:os.system", f"seed: {NOT_PLAIN}!!python/name:os"),
    "bytes": ("seed: !!binary aGk=", f"seed: {NOT_PLAIN}!!binary aGk="),
    "set": ("videos: {ranked: !!set {best}}", f"videos.ranked: {NOT_PLAIN}!!set"),
    "ordered names": ("training: !!omap [steps: 1]", f"training: {NOT_PLAIN}!!omap"),
    "own tag": ("seed: !mine 3", f"seed: {NOT_PLAIN}!mine 3"),
    "wrong tag": ("seed: !!int many", f"seed: {NOT_PLAIN}many"),
    "wrong truth": ("model: {autonomous: !!bool maybe}", f"model.autonomous: {NOT_PLAIN}maybe"),
    "equals sign": ("seed: =", f"seed: {NOT_PLAIN}!!value ="),
    "list as a name": ("[1, 2]: 3", "a name that is a list: expected a name as text"),
    "values repeated ten billion times": (bomb("[x, x]", "[{}]"), MORE),
    "merges repeated ten billion times": (bomb("{k: 1}", "{{<<: [{}]}}"), "a: unknown setting"),
    "list in itself": ("seed: &a [*a]", "seed.0: contains itself"),
    "section in itself": ("training: &t {steps: *t}", "training.steps: contains itself"),
    "merged with itself": ("training: &t {<<: *t}", "training.<<: contains itself"),
    "all in itself": ("&a {seed: *a}", "seed: contains itself"),
    "merged with a number": ("training: {<<: 3}", "training.<<: unknown setting"),
    "anchor of nothing": ("seed: *nothing", "not valid YAML: found undefined alias 'nothing'"),
    "thousands of levels": ("seed: " + "[" * 5000 + "]" * 5000, "not valid YAML: nested too deep"),
    "some levels": ("seed: " + "[" * 30 + "]" * 30, "more than 20 levels deep"),
    "sections of sections": (
        "".join(f"{' ' * each}a:\n" for each in range(500)),
        "not valid YAML: nested too deeply",
    ),
    "two documents": ("seed: 1\n---\nseed: 2", "not valid YAML: expected a single document"),
    "a letter past unicode": ('seed: "\\U99999999"', "not valid YAML: "),
    "a version of 5000 digits": (f"%YAML 1.{'9' * 5000}\n--- {{}}", "not valid YAML: "),
    # Names that stand twice.
    "setting twice": ("seed: 1\nseed: 2", "seed: given twice, in lines 1 and 2; keep one"),
    "section twice": (
        "training: {steps: 900}\nseed: 1\ntraining: {batch_size: 3}",
        "training: given twice, in lines 1 and 3; keep one",
    ),
    "the same value twice": ("seed: 1\nseed: 1", "seed: given twice, in lines 1 and 2; keep one"),
    "once in quotes": ("seed: 1\n'seed': 1", "seed: given twice"),
    "once with a tag": ("seed: 1\n!!str seed: 1", "seed: given twice"),
    "twice in a section": ("training:\n  steps: 1\n  steps: 2", "training.steps: given twice"),
    "twice in a network": ("model: {flow: {depth: 1, depth: 2}}", "model.flow.depth: given twice"),
    "variant twice": ("variants: {wide: {}, wide: {}}", "variants.wide: given twice"),
    "twice in a list": ("speed: {sizes: [{a: 1, a: 2}]}", "speed.sizes.0.a: given twice"),
    "merged twice": ("flow: &f {}\n<<: *f\n<<: *f", "<<: given twice"),
    # Text.
    "NUL in a value": ('wandb: {project: "a\\0b"}', 'that can be printed, got "a\\x00b"'),
    "NUL in a name": ('"see\\0d": 3', "see\\x00d: expected a name that can be printed"),
    "NUL in a variant's name": ('variants: {"a\\0": {}}', "variants.a\\x00: expected a name"),
    "NUL in the file": ("seed: 1\0", "not valid YAML: unacceptable character #x0000"),
    "half a letter in a value": ('wandb: {project: "\\ud800"}', 'be printed, got "\\ud800"'),
    "half a letter in a name": ('"\\udfff": 3', "\\udfff: expected a name that can be printed"),
    "line break": ('wandb: {project: "a\\nb"}', "wandb.project: expected text that can be printed"),
    "terminal's colour": ('wandb: {project: "\\e[31m"}', 'be printed, got "\\x1b[31m"'),
    "text from right to left": ('wandb: {mode: "\\u202eoff"}', "wandb.mode: expected text that"),
    "long number": ("seed: " + "a" * LONG, "seed: expected a valid integer, got"),
    "long name": ("? " + "a" * LONG + "\n: 3", "... (300000 characters): unknown setting"),
    "long path": ("? a\n: {? " + "b" * LONG + " : 3}", "a: unknown setting"),
    "long choice": ("wandb: {mode: " + "a" * LONG + "}", "wandb.mode: expected 'offline'"),
    "long project": ("wandb: {project: " + "a" * LONG + "}", PROJECT),
    "long name of a variant": ("variants: {? " + "a" * LONG + " : {}}", "expected a name of small"),
    "other letters": ("ｓeed: 3", "ｓeed: unknown setting; did you mean seed?"),
    "thousands of names": (
        "\n".join(f"k{each}: 1" for each in range(3000)),
        "; and 2995 more",
    ),
    # Names that W&B or the tables cannot have.
    "project with a slash": ("wandb: {project: team/runs}", f"{PROJECT}, without / \\ # ? % : and"),
    "project with a backslash": ("wandb: {project: 'a\\b'}", PROJECT),
    "project with a colon": ("wandb: {project: 'a:b'}", PROJECT),
    "project with a question": ("wandb: {project: 'a?'}", PROJECT),
    "project with a percentage": ("wandb: {project: '%a'}", PROJECT),
    "project with a number sign": ("wandb: {project: 'a#'}", PROJECT),
    "project of blanks": ("wandb: {project: '  '}", PROJECT),
    "project after a blank": ("wandb: {project: ' a'}", PROJECT),
    "project of 129 letters": (f"wandb: {{project: {'a' * 129}}}", PROJECT),
    "variant nan": ("variants: {nan: {}}", f"variants.nan: {READ_OTHERWISE}"),
    "variant null": ("variants: {'null': {}}", f"variants.null: {READ_OTHERWISE}"),
    "variant none": ("variants: {none: {}}", f"variants.none: {READ_OTHERWISE}"),
    "variant na": ("variants: {na: {}}", f"variants.na: {READ_OTHERWISE}"),
    "variant inf": ("variants: {inf: {}}", f"variants.inf: {READ_OTHERWISE}"),
    "variant infinity": ("variants: {infinity: {}}", f"variants.infinity: {READ_OTHERWISE}"),
    "variant true": ("variants: {'true': {}}", f"variants.true: {READ_OTHERWISE}"),
    "variant left out, nan": ("variants: {nan: null}", f"variants.nan: {READ_OTHERWISE}"),
    "variant of two letters in one": ("variants: {'ﬁne': {}}", "variants.ﬁne: expected a name of"),
    "variant with an accent": ("variants: {'e\u0301': {}}", "expected a name of small letters"),
    "variant of 65 letters": (f"variants: {{{'a' * 65}: {{}}}}", "at most 64 of them"),
}
JSON = {
    "setting twice": ('{"seed": 1, "seed": 2}', "seed: given twice; keep one"),
    "twice in a section": ('{"model": {"kind": 1, "kind": 2}}', "model.kind: given twice; keep"),
    "twice in a list": ('{"seed": [0, {"a": 1, "a": 2}]}', "seed.1.a: given twice; keep one"),
    "twice, once escaped": ('{"seed": 1, "\\u0073eed": 2}', "seed: given twice; keep one"),
    "not a number": ('{"training": {"clip_ratio": NaN}}', "clip_ratio: expected a finite number"),
    "infinite": ('{"training": {"clip_ratio": -Infinity}}', "clip_ratio: expected a finite number"),
    "past double precision": ('{"training": {"clip_ratio": 1e999}}', "expected a finite number"),
    "400 digits": (f'{{"seed": {DIGITS}}}', "seed: expected a smaller number, got one of about"),
    "5000 digits": ('{"seed": -' + "9" * 5000 + "}", "seed: expected a valid integer"),
    "thousands of levels": ('{"seed": ' + "[" * 90_000 + "]" * 90_000 + "}", "nested too deep"),
    "levels left open": ('{"seed": ' + "[" * 90_000, "not valid JSON: nested too deep"),
    "half a letter": ('{"wandb": {"project": "\\ud800"}}', 'can be printed, got "\\ud800"'),
    "NUL in a name": ('{"\\u0000": 1}', "\\x00: expected a name that can be printed"),
    "line break in a name": ('{"a\n": 1}', "not valid JSON: Invalid control character"),
    "long name": ('{"' + "a" * LONG + '": 1}', "... (300000 characters): unknown setting"),
    "long number": ('{"seed": "' + "9" * LONG + '"}', "seed: expected a valid integer"),
    "100,000 sizes": (
        json.dumps({"speed": {"sizes": [*range(1, 100_001)]}}),
        "expected at most 100",
    ),
    "two texts": ("{} {}", "not valid JSON: Extra data"),
}
loop: list[Any] = []
loop.append(loop)
grown: list[Any] = ["x"] * 10
for _ in range(12):
    grown = [grown] * 10
VALUES: dict[str, tuple[dict[Any, Any], str]] = {
    "date": ({"seed": datetime.date(2020, 1, 1)}, f"seed: {NOT_PLAIN}2020-01-01"),
    "time": ({"seed": datetime.datetime(2020, 1, 1)}, f"seed: {NOT_PLAIN}2020-01-01 00:00:00"),
    "bytes": ({"seed": b"\0"}, f"seed: {NOT_PLAIN}"),
    "set": ({"speed": {"sizes": {1}}}, f"speed.sizes: {NOT_PLAIN}"),
    "array": ({"speed": {"sizes": np.arange(3)}}, f"speed.sizes: {NOT_PLAIN}"),
    "complex number": ({"seed": 1j}, f"seed: {NOT_PLAIN}1j"),
    "pair as a name": ({(1, 2): 3}, "(1, 2): expected a name as text"),
    "NaN as a name": ({float("nan"): 3}, "nan: expected a name as text"),
    "5000 digits": ({"seed": 10**5000}, "seed: expected a smaller number, got one of about 500"),
    "5000 digits as a name": ({10**5000: 1}, "a large number: expected a name as text"),
    "list in itself": ({"seed": loop}, "more than 20 levels deep"),
    "ten billion values": ({"seed": grown}, MORE),
    "list for variants": ({"variants": [1]}, "variants: expected settings by name, got [1]"),
    "long variant": ({"variants": {"a" * LONG: {}}}, "expected a name of small letters"),
}


def one_line(call):
    """The message of the error that a call gives: one short line that can be printed."""
    with pytest.raises(ConfigError) as caught:
        call()
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 2100
    return message


@pytest.mark.parametrize("case", YAML)
def test_strange_yaml_is_one_line_that_names_the_setting(case, tmp_path):
    text, expected = YAML[case]
    path = tmp_path / "my.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    message = one_line(lambda: load_config(path))
    assert message.startswith(f"{path}: ")
    assert expected in message


@pytest.mark.parametrize("case", JSON)
def test_strange_json_is_one_line_that_names_the_setting(case, tmp_path):
    text, expected = JSON[case]
    path, stamp = tmp_path / "my.json", tmp_path / f"0{STAMP}"
    for file in (path, stamp):
        file.write_text(text)
        assert expected in one_line(lambda file=file: load_config(file))
    message = one_line(lambda: load_config(text))
    assert message.startswith("--config: ")
    assert expected in message


@pytest.mark.parametrize("case", VALUES)
def test_strange_values_are_one_line_that_names_the_setting(case):
    settings, expected = VALUES[case]
    message = one_line(lambda: parse_config(settings, "config"))
    assert message.startswith("config: ")
    assert expected in message


def fifo(path):
    os.mkfifo(path)


def vast(path):
    with path.open("wb") as file:
        file.truncate(5 << 30)


NOT_READ = {
    "FIFO": (fifo, "expected a file, got a FIFO"),
    "endless device": (lambda path: path.symlink_to("/dev/zero"), "expected a file, got a device"),
    "link to itself": (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    "gigabytes": (vast, f"{5 << 30} bytes, expected at most {MAX_BYTES}"),
    "UTF-16": (lambda path: path.write_bytes("seed: 1".encode("utf-16")), "not a text file"),
    "Latin 1": (lambda path: path.write_bytes(b"seed: 1  # \xe9"), "not a text file"),
}


@pytest.mark.parametrize("suffix", ["yaml", "json", "stamp.json"])
@pytest.mark.parametrize("case", NOT_READ)
def test_what_is_no_file_of_settings_is_refused_at_once(case, suffix, tmp_path):
    make, expected = NOT_READ[case]
    path = tmp_path / f"my.{suffix}"
    make(path)
    message = one_line(lambda: load_config(path))
    assert message == f"{path}: cannot read the settings: {expected}"


@pytest.mark.parametrize("name", ["a" * LONG, "a\0b", "a\nb", "\ud800"])
def test_a_strange_path_is_one_short_line(name):
    assert ": cannot read the settings: " in one_line(lambda: load_config(name))


SOUND = {
    "byte order mark": b"\xef\xbb\xbfseed: 3",
    "other line ends": b"seed: 3\r\nwandb: {mode: disabled}\r\n",
    "hexadecimal": b"seed: 0x3",
    "binary": b"seed: 0b11",
    "digits in groups": b"seed: 3\nnum_trajectories: 1_000_000",
    "a sign": b"seed: +3",
    "tags of plain values": b"seed: !!int '3'\nwandb: !!map {project: !!str 12}",
    "JSON in a file of YAML": b'{"seed": 3, "dmp": {"phase_decay": 1e-05}}',
    "names that stand for values": b"seed: &s 3\nmodel: {flow: &f {depth: 1}, bridge: *f}",
    "large but sane": b"{seed: 3, num_trajectories: 1000000, shard_size: 10000, "
    b"training: {steps: 1000000000, clip_ratio: 1.0e+30, batch_size: 1000000}}",
    "project with blanks and accents": "{seed: 3, wandb: {project: 'Größe 1 (b)'}}".encode(),
}


@pytest.mark.parametrize("case", SOUND)
def test_what_can_be_meant_goes_through(case, tmp_path):
    path = tmp_path / "my.yaml"
    path.write_bytes(SOUND[case])
    assert load_config(path).seed == 3
    check_file(path)


def test_merged_names_mean_what_yaml_says():
    text = """
        first: &first {a: 1, b: {c: 2}}
        second: &second {a: 3, d: 4}
        one: {<<: *first, b: 5}
        both: {e: 6, <<: [*first, *second], d: 7}
        nested: {<<: {<<: *second, a: 8}}
        """
    assert read_yaml(text, "") == yaml.safe_load(text)
    for name in ("config.yaml", "tests/smoke.yaml"):
        text = (ROOT / name).read_text()
        assert read_yaml(text, "") == yaml.safe_load(text)


def test_a_file_that_snakemake_reads_is_checked_for_what_gets_lost(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("other: {when: 2020-01-01, takes: 12:30:45}\n")
    check_file(path, plain=False)  # the file of a workflow that uses this one as a module
    assert f"other.when: {NOT_PLAIN}2020-01-01" in one_line(lambda: check_file(path))
    path.write_text("other: {a: 1, a: 2}\n")
    assert "other.a: given twice" in one_line(lambda: check_file(path, plain=False))


COMMANDS = {
    "one": ["-n", "--configfile", "a.yaml"],
    "with an equals sign": ["--configfile=a.yaml", "-n"],
    "several": ["all", "--configfiles", "a.yaml", "b.yaml", "none.yaml", "--cores", "1"],
    "twice": ["--configfile", "a.yaml", "--config", "b.yaml=1", "--configfile", "b.yaml"],
    "none": ["-n", "--config", "a.yaml", "--", "b.yaml"],
    "an option without a file": ["--configfile"],
    "options of another program": ["--conf", "a.yaml", "-c", "b.yaml"],
}


@pytest.mark.parametrize("case", COMMANDS)
def test_files_that_a_command_line_names_are_found(case, tmp_path, monkeypatch):
    arguments = COMMANDS[case]
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")  # as after the option --directory
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).touch()
    named = {"one": "a", "with an equals sign": "a", "several": "ab", "twice": "ab"}.get(case, "")
    expected = [tmp_path / f"{name}.yaml" for name in named]
    monkeypatch.setenv("PWD", str(tmp_path))
    assert files_given(arguments) == expected
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PWD")
    assert [path.absolute() for path in files_given(arguments)] == expected


# Bounds: found in the JSON schema, so that no setting is forgotten.


def parts(schema, path=""):
    """Path and schema of everything in a JSON schema that a value is held against."""
    yield path, schema
    for name, each in {**schema.get("$defs", {}), **schema.get("properties", {})}.items():
        yield from parts(each, f"{path}.{name}")
    for name in ("items", "propertyNames", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            yield from parts(schema[name], f"{path}.{name}")
    for name in ("prefixItems", "anyOf"):
        for place, each in enumerate(schema.get(name, [])):
            yield from parts(each, f"{path}.{place}")
    for each in schema.get("patternProperties", {}).values():
        yield from parts(each, f"{path}.value")


def unbounded(schema):
    """Paths of the numbers, texts, lists and mappings in a JSON schema without bounds."""
    for path, each in parts(schema):
        choices = "enum" in each or "const" in each
        match each.get("type"):
            case "integer" | "number" if not choices:
                low = each.get("minimum", -np.inf)
                high = each.get("maximum", each.get("exclusiveMaximum", np.inf))
                # A bound of zero that is excluded lets through what single precision has as zero.
                single = all(abs(each) < 1e38 or each == 2**63 for each in (low, high))
                if not single or "exclusiveMinimum" in each or 0 < low < 1e-37:
                    yield path
            case "string" if not choices:
                if "maxLength" not in each or "pattern" not in each:
                    yield path
            case "array" if "maxItems" not in each:
                yield path
            case "object" if each.get("additionalProperties") is not False:
                if "maxProperties" not in each or "patternProperties" not in each:
                    yield path


UNBOUNDED = {
    "number without a bound": {"type": "number", "minimum": 0.0},
    "number past single precision": {"type": "number", "minimum": 0, "maximum": 1e300},
    "number just above zero": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    "count without a bound": {"type": "integer", "minimum": 0},
    "item of a list": {"type": "array", "maxItems": 3, "items": {"type": "integer"}},
    "long list": {"type": "array", "items": {"enum": ["best"]}},
    "long text": {"type": "string", "pattern": "^a*$"},
    "any text": {"type": "string", "maxLength": 9},
    "any names": {"type": "object", "maxProperties": 3},
}


@pytest.mark.parametrize("case", UNBOUNDED)
def test_a_setting_without_bounds_is_found(case):
    assert list(unbounded({"properties": {"seed": UNBOUNDED[case]}}))


def test_every_setting_has_bounds():
    schema = json.loads(json_schema())
    assert len(list(parts(schema))) > 80
    assert list(unbounded(schema)) == []


def test_bounds_change_no_default():
    defaults = Config().model_dump(mode="json")
    assert load_config(json.dumps(defaults)).model_dump(mode="json") == defaults
    assert parse_config(collections.OrderedDict(seed=0)) == Config()


# Names.


def test_no_name_of_a_model_is_read_as_something_else(tmp_path):
    """What pandas reads from a table is the name, whatever else its values are."""
    names = ["gaussian", "con", "e5", "x", "y", "no", "off", "nil", "inf2", "nano"]
    table = tmp_path / "table.csv"
    for name in names:
        assert require_free_name(name) == name
        table.write_text(f"model,score\n{name},1.0\n")
        assert list(pd.read_csv(table)["model"]) == [name]
    for name in ["nan", "NaN", "NA", "null", "NULL", "None", "inf", "Infinity", "true", "False"]:
        table.write_text(f"model,score\n{name},1.0\n")
        assert list(pd.read_csv(table)["model"]) != [name]
        with pytest.raises(ValueError, match=READ_OTHERWISE):
            require_free_name(name)


@pytest.mark.parametrize("name", ["team/runs", "a" * 129, "a\nb", "a:b", "\udcff", " "])
def test_a_project_from_the_environment_that_wandb_refuses_is_not_used(name, monkeypatch):
    config = WandbConfig(project="mine")
    monkeypatch.setenv("WANDB_PROJECT", name)
    project, wrong = project_of(config)
    assert project == "mine"
    assert wrong.startswith("WANDB_PROJECT: expected at most 128 characters")
    assert wrong.isprintable()
    monkeypatch.setenv("WANDB_PROJECT", "other")
    assert project_of(config) == ("other", "")
    monkeypatch.setenv("WANDB_PROJECT", "")
    assert project_of(config) == ("mine", "")


# Options of the command line.

POLICIES = ["policies", "--output", "out.h5"]
VIDEO = ["video", "--source", "none.h5", "--output", "out.mp4", "--trajectory"]
EVALUATE = ["evaluate", "--config", "{}", "--variant"]
OPTIONS = {
    "--first of 400 digits": [*POLICIES, "--stop", "3", "--first", DIGITS],
    "--first of 5000 digits": [*POLICIES, "--stop", "3", "--first", "9" * 5000],
    "--first below zero": [*POLICIES, "--stop", "3", "--first", "-1"],
    "--first of long text": [*POLICIES, "--stop", "3", "--first", "a" * LONG],
    "--first with NUL": [*POLICIES, "--stop", "3", "--first", "1\0"],
    "--first of half a letter": [*POLICIES, "--stop", "3", "--first", "\ud800"],
    "--stop": [*POLICIES, "--first", "0", "--stop", f"{10**18}"],
    "--first of a shard": ["rollouts", "--policies", "a.h5", *POLICIES[1:], "--first", f"{10**18}"],
    "--stop of a shard": ["rollouts", "--policies", "a.h5", *POLICIES[1:], "--stop", DIGITS],
    "--jobs": ["generate-data", "--jobs", f"{10**18}"],
    "--jobs of ensembles": ["ensembles", "--jobs", DIGITS],
    "--threads": ["train", "--threads", f"{10**18}"],
    "--bar": ["train", "--bar", f"{10**18}"],
    "--checkpoint-seconds": ["train", "--checkpoint-seconds", f"{10**18}"],
    "--data-memory": ["train", "--data-memory", f"{2**41}"],
    "--place": ["predicted-video", "--output", "out.mp4", "--place", DIGITS],
    "--shard": ["ensembles", "--shard", DIGITS],
    "--shard below zero": ["ensembles", "--shard", "-1"],
    "--trajectory of 5000 digits": [*VIDEO, "9" * 5000],
    "--trajectory past the last": [*VIDEO, "1000000000"],
    "--trajectory in other digits": [*VIDEO, "٣"],
    "--trajectory of half a letter": [*VIDEO, "1\ud800"],
    "--trajectory of long text": [*VIDEO, "a" * LONG],
    "--variant without a path": [*EVALUATE, "wide="],
    "--variant without a name": [*EVALUATE, "=model.eqx"],
    "--variant with an accent": [*EVALUATE, "é=model.eqx"],
    "--variant with NUL": [*EVALUATE, "a\0=model.eqx"],
    "--variant of half a letter": [*EVALUATE, "\ud800=model.eqx"],
    "--variant of a long name": [*EVALUATE, "a" * LONG + "=model.eqx"],
    "--variant nan": [*EVALUATE, "nan=model.eqx"],
    "--variant NULL": [*EVALUATE, "NULL=model.eqx"],
    "--variant None": [*EVALUATE, "None=model.eqx"],
    "--variant true": [*EVALUATE, "True=model.eqx"],
    "--variant of training": ["train", "--config", "{}", "--variant", "a" * LONG],
    "--variant of training, two lines": ["train", "--config", "{}", "--variant", "a\nb"],
    "--config of a long name": ["settings-page", "--output", "out.html", "--config", "a" * LONG],
    "--config of 5000 digits": [
        *["settings-page", "--output", "out.html", "--config"],
        '{"seed": ' + "9" * 5000 + "}",
    ],
}


@pytest.mark.parametrize("case", OPTIONS)
def test_a_strange_option_is_one_short_line_that_names_it(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(OPTIONS[case]) in (1, 2)
    printed = capsys.readouterr()
    *usage, line = printed.err.splitlines()
    assert len(line) < 700
    assert line.isprintable()
    assert case.split()[0] in line or case.startswith("--config")
    # Below the usage where the option alone is wrong.
    assert not usage or (usage[0].startswith("Usage: nsf ") and re.match("Error: ", line))
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("jobs", "calls", "processes"), [(4096, 3, 3), (2, 3, 2)])
def test_no_more_processes_start_than_there_are_calls(jobs, calls, processes, monkeypatch):
    started = []

    def pool(count, **options):
        started.append(count)
        raise KeyboardInterrupt

    monkeypatch.setattr(generate, "processes", pool)
    config = Config(num_trajectories=calls, shard_size=1)
    with pytest.raises(KeyboardInterrupt):
        generate.data(config, Path(), jobs)
    assert started == [processes]
