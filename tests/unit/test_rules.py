"""The rules build on what Snakemake documents, and on nothing else of it."""

import ast
import re

import pytest
import yaml
from conftest import ROOT

RULES = [ROOT / "Snakefile", *sorted((ROOT / "workflow/rules").glob("*.smk"))]
PACKAGE = sorted((ROOT / "nsf_pipeline").rglob("*.py"))
DOCUMENTED = {"basedir", "cores", "current_basedir"}
"""Attributes of `workflow` that Snakemake's documentation names, or the docstring of the last."""


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_rules_touch_nothing_private_or_undocumented(path):
    text = re.sub(r"#.*", "", path.read_text())
    text = re.sub(r"\"[^\"\n]*\"", "", text)  # paths, among others
    assert set(re.findall(r"\bworkflow\.(\w+)", text)) <= DOCUMENTED
    assert not re.search(r"\bworkflow\.\w+ *=[^=]|\bsetattr\(|\bgetattr\(", text)
    assert not re.search(r"\w\._\w", text)
    imports = re.findall(r"^ *(?:from|import) (snakemake\S*)(?: import (.*))?$", text, re.M)
    assert imports in ([], [("snakemake.utils", "min_version")])


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_rules_hand_numbers_on_with_all_their_digits(path):
    """What reads a file holds its numbers against the settings."""
    assert not re.search(r":[^{}\"]*[efgEFG%]}", path.read_text())


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: path.stem)
def test_the_package_does_not_import_snakemake(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not [name for name in names if name.partition(".")[0] == "snakemake"]


def test_every_rule_is_in_a_file_that_the_snakefile_includes():
    included = re.findall(r'^include: "(.*)"$', RULES[0].read_text(), re.MULTILINE)
    assert {ROOT / path for path in included} == set(RULES[1:])


def test_the_default_profile_says_what_it_should():
    profile = yaml.safe_load((ROOT / "profiles/default/config.yaml").read_text())
    assert profile["rerun-incomplete"]
    assert profile["printshellcmds"]
    assert profile["max-checksum-file-size"] >= 10**12


def test_no_rule_lists_all_shards_while_it_is_read():
    """Every job on a cluster reads all rules."""
    texts = {path.name: path.read_text() for path in RULES}
    assert [name for name, text in texts.items() if "shard=SHARDS" in text] == ["common.smk"]


@pytest.mark.parametrize("name", ["slurm", "generic"])
def test_profiles_of_clusters_have_what_the_default_one_has(name):
    profiles = [ROOT / f"profiles/{each}/config.yaml" for each in (name, "default")]
    cluster, default = (yaml.safe_load(path.read_text()) for path in profiles)
    del default["cores"]
    assert {option: cluster.get(option) for option in default} == default
