"""The model's file: whatever stands in it, it is loaded as it was saved or refused in one line."""

import io
import json
import resource
from typing import Any

import equinox as eqx
import jax
import numpy as np
import pytest
from test_tables import refused

from nsf_pipeline import label
from nsf_pipeline.config import BridgeConfig, DMPConfig, ModelConfig, NetworkConfig
from nsf_pipeline.files import FileError
from nsf_pipeline.model import ModelFileError, Normaliser, build_model, load_model, save_model
from nsf_pipeline.model.file import FORMAT_VERSION, model_header

NETWORK: dict[str, Any] = {"hidden_size": 2, "depth": 1, "num_flow_layers": 1, "coupling": "affine"}
CONFIG = ModelConfig(
    state_dim=5,
    autonomous=True,
    path_points=1,
    flow=NetworkConfig(**NETWORK),
    bridge=BridgeConfig(**NETWORK),
)
NORMALISER = Normaliser(((40.0, 40.0), (470.0, 470.0)), (8.0, 8.0, 5.0, 5.0, 0.1))
RECORD = {
    "stage": "train",
    "fingerprint": "0123456789abcdef",
    "modules": {"nsf_pipeline.flow": "0123456789abcdef"},
    "settings": {"seed": 3, "dmp": DMPConfig().model_dump(mode="json")},
    "versions": {"jax": "0"},
    "dataset_fingerprint": "0123456789abcdef",
    "step": 10,
    "validation_nll": 1.5,
}


@pytest.fixture(scope="module")
def model():
    return build_model(CONFIG, DMPConfig(), NORMALISER, key=jax.random.key(0))


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.eqx"
    save_model(path, model, {**RECORD, "note": {"anything": [1, None, "é"]}})
    return path


def sealed(content, leaves=None):
    """A change of the header's text, or of the arrays, with the checksum made right again."""
    line, kept = content.split(b"\n", 1)
    return label_of(json.loads(line), kept if leaves is None else leaves)


def label_of(header, leaves):
    fields = {name: value for name, value in header.items() if name not in ("size", "sha256")}
    return label.line(label.seal(fields, io.BytesIO(leaves))) + leaves


def at(path, value):
    """The header with a value put at a path."""

    def change(content):
        line, leaves = content.split(b"\n", 1)
        header = json.loads(line)
        *parts, last = path.split(".")
        place = header
        for part in parts:
            place = place[int(part) if part.isdecimal() else part]
        place[int(last) if last.isdecimal() else last] = value
        return label_of(header, leaves)

    return change


def without(name):
    def change(content):
        line, leaves = content.split(b"\n", 1)
        header = json.loads(line)
        *parts, last = name.split(".")
        place = header
        for part in parts:
            place = place[part]
        del place[last]
        return label_of(header, leaves)

    return change


def text(before, after):
    """The header's text with a part replaced; the label's checksum cannot be made right for it."""

    def change(content):
        line, leaves = content.split(b"\n", 1)
        assert before in line
        return line.replace(before, after, 1) + b"\n" + leaves

    return change


NAN, INFINITE, LONG, DEEP = b"NaN", b"-Infinity", b"9" * 400, b"[" * 100_000 + b"]" * 100_000
SIZES = b'"normaliser": '
HEADERS = {
    "NaN in the normaliser": text(b"470.0", NAN),
    "infinity in the normaliser": text(b"470.0", INFINITE),
    "more than infinity": text(b"470.0", b"1e400"),
    "an integer of 400 digits": text(b"470.0", LONG),
    "an integer of 5000 digits": text(b'"step": 10', b'"step": ' + b"9" * 5000),
    "deep lists": text(b'"note": {', b'"deep": ' + DEEP + b', "note": {'),
    "lists a little too deep": at("note", json.loads("[" * 40 + "]" * 40)),
    "deep mappings": text(b'"note": {', b'"deep": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
    "a name twice": text(SIZES, b'"step": 10, ' + SIZES),
    "half a surrogate pair": text(b'"train"', b'"\\ud800"'),
    "half a surrogate pair as a name": text(b'"note"', b'"\\udfff"'),
    "a name with a line break": at("note", {"a\nb": 1}),
    "not UTF-8": text(b'"train"', b'"\xff"'),
    "a zero scale": at("normaliser.scale.0", 0.0),
    "a scale that float32 makes zero": at("normaliser.scale.1", 1e-60),
    "a negative scale": at("normaliser.scale.2", -5.0),
    "a scale of 1e300": at("normaliser.scale.3", 1e300),
    "a scale that is true": at("normaliser.scale.4", True),
    "a scale that is text": at("normaliser.scale.0", "8.0"),
    "a scale that is a list": at("normaliser.scale.0", [8.0]),
    "no scale": at("normaliser.scale.0", None),
    "scales by name": at("normaliser.scale", {"x": 1.0}),
    "no scales": at("normaliser.scale", []),
    "a scale too many": at("normaliser.scale", [8.0] * 6),
    "one number for all scales": at("normaliser.scale", 8.0),
    "reversed bounds": at("normaliser.block_bounds", [[470.0, 470.0], [40.0, 40.0]]),
    "one reversed bound": at("normaliser.block_bounds", [[40.0, 470.0], [470.0, 40.0]]),
    "equal bounds": at("normaliser.block_bounds.1", [40.0, 470.0]),
    "bounds that float32 makes equal": at("normaliser.block_bounds.1", [40.0 + 1e-9, 470.0]),
    "bounds of one axis": at("normaliser.block_bounds", [[40.0], [470.0]]),
    "three bounds": at("normaliser.block_bounds", [[40.0, 40.0]] * 3),
    "bounds far away": at("normaliser.block_bounds.1", [1e30, 1e30]),
    "a size that is unknown": at("normaliser.offset", 1.0),
    "no normaliser": without("normaliser"),
    "a normaliser without a scale": without("normaliser.scale"),
    "a list for the normaliser": at("normaliser", [1.0, 2.0]),
    "a list for the settings": at("config", []),
    "nothing for the settings": at("config", None),
    "settings without a model": without("config.model"),
    "settings without a DMP": without("config.dmp"),
    "an unknown setting": at("config.model.colour", "red"),
    "an unknown section": at("config.training", {}),
    "a setting out of range": at("config.model.flow.hidden_size", 10**6),
    "a size that is true": at("config.model.flow.depth", True),
    "a size that is a float": at("config.model.flow.depth", 1.0),
    "an unknown kind": at("config.model.kind", "transformer"),
    "a DMP that decays backwards": at("config.dmp.phase_decay", -4.0),
    "a workspace that is reversed": at("config.dmp.workspace", [487.0, 25.0]),
    "another DMP than that of the training": at("settings.dmp.n_basis", 7),
    "another model than that of the training": at("settings.model", {"kind": "flow"}),
    "a seed that is text": at("settings.seed", "0"),
    "a negative seed": at("settings.seed", -1),
    "a seed that is too large": at("settings.seed", 2**63),
    "a list for the training's settings": at("settings", []),
    "nothing for the training's settings": at("settings", None),
    "a list for the modules": at("modules", ["nsf_pipeline"]),
    "a number for a module": at("modules", {"nsf_pipeline": 1}),
    "a list for the stage": at("stage", ["train"]),
    "a stage of two lines": at("stage", "train\nsound"),
    "a number for the fingerprint": at("fingerprint", 16),
    "a list for the fingerprint": at("fingerprint", []),
    "a number for the variant": at("variant", 1),
    "a list for the data's fingerprint": at("dataset_fingerprint", []),
    "a negative step": at("step", -1),
    "a step that is true": at("step", True),
    "a validation that is text": at("validation_nll", "1.5"),
    "a validation that is NaN": text(b'"validation_nll": 1.5', b'"validation_nll": NaN'),
    "a list for the version": at("format_version", [FORMAT_VERSION]),
    "true for the version": at("format_version", True),
    "a float for the version": at("format_version", float(FORMAT_VERSION)),
    "no version": without("format_version"),
    "a version of infinity": text(
        f'"format_version": {FORMAT_VERSION}'.encode(), b'"format_version": 1e400'
    ),
    "a negative version": at("format_version", -1),
    "a list for the size": text(b'"size": ', b'"size": [1], "was": '),
    "a true size": text(b'"size": ', b'"size": true, "was": '),
    "a negative size": text(b'"size": ', b'"size": -'),
    "no size": text(b'"size": ', b'"was": '),
    "no checksum": text(b'"sha256": ', b'"was": '),
    "a number for the checksum": text(b'"sha256": "', b'"sha256": 5, "was": "'),
    "a checksum of something else": text(b'"sha256": "', b'"sha256": "0'),
}


def array(values, **changes):
    """An array as NumPy writes it, with a part of its header replaced."""
    written = io.BytesIO()
    np.save(written, values)
    content = written.getvalue()
    for before, after in changes.values():
        assert before in content
        content = content.replace(before, after, 1)
    return content


def first(header):
    """The arrays with the header of the first replaced."""

    def change(content):
        leaves = content.split(b"\n", 1)[1]
        size = 10 + int.from_bytes(leaves[8:10], "little")
        return sealed(content, header(leaves[:size]) + leaves[size:])

    return change


def arrays(change):
    return lambda content: sealed(content, change(content.split(b"\n", 1)[1]))


def objects(leaves):
    written = io.BytesIO()
    np.save(written, np.array([{"an": "object"}], object), allow_pickle=True)
    return written.getvalue() + leaves[len(written.getvalue()) :]


def replaced(before, after):
    """In a header of an array, whose length stays the same."""
    assert len(before) == len(after)
    return first(lambda header: header.replace(before, after, 1))


def longer(leaves):
    """The first array's header, padded to 60 kB."""
    text = leaves[10:128].rstrip() + b" " * 60_000 + b"\n"
    return leaves[:8] + len(text).to_bytes(2, "little") + text + leaves[128:]


def not_finite(value):
    def change(leaves):
        return leaves[:-4] + np.float32(value).tobytes()

    return arrays(change)


def wide(content):
    """140 GB of arrays, so it says."""
    line, leaves = content.split(b"\n", 1)
    header = json.loads(line)
    for name in ("flow", "bridge"):
        header["config"]["model"][name] |= {"hidden_size": 4096, "depth": 16, "num_flow_layers": 4}
    return label_of(header, leaves)


CONTENTS = {
    "another type": replaced(b"'<f4'", b"'<i4'"),
    "another order of bytes": replaced(b"'<f4'", b"'>f4'"),
    "a type of objects": replaced(b"'<f4'", b"'|O' "),
    "an array with pickle": arrays(objects),
    "the other order of axes": replaced(b"False", b"True "),
    "another shape": first(lambda header: header.replace(b"'shape': (2, ", b"'shape': (1, ", 1)),
    "terabytes": first(
        lambda header: header.replace(b"'shape': (2, ", b"'shape': (99999999999999, ", 1)
    ),
    "a negative shape": first(lambda header: header.replace(b"'shape': (2, ", b"'shape': (-1,", 1)),
    "an expression for a shape": first(
        lambda header: header.replace(b"(2, ", b"(9**9**9, ", 1)[: len(header)]
    ),
    "deep parentheses": first(lambda header: header[:10] + b"(" * (len(header) - 10)),
    "a longer header": arrays(longer),
    "another version of NumPy's format": replaced(b"\x93NUMPY\x01", b"\x93NUMPY\x03"),
    "no array": arrays(lambda leaves: b"\0" * len(leaves)),
    "arrays in another order": arrays(lambda leaves: leaves[::-1]),
    "a byte left over": arrays(lambda leaves: leaves + b"\0"),
    "an array left over": arrays(lambda leaves: leaves + array(np.zeros(2, np.float32))),
    "a byte too few": arrays(lambda leaves: leaves[:-1]),
    "no arrays": arrays(lambda leaves: b""),
    "a megabyte left over": arrays(lambda leaves: leaves + b"\0" * (1 << 20)),
    "a weight that is NaN": not_finite(np.nan),
    "a weight that is infinite": not_finite(-np.inf),
    "gigabytes": wide,
}
FILES = {
    "empty": lambda content: b"",
    "a line break": lambda content: b"\n",
    "no line break": lambda content: content.split(b"\n", 1)[0],
    "megabytes without a line break": lambda content: content[:40] + b" " * (3 << 20),
    "a header of megabytes": text(b'"note": ', b'"long": "' + b"a" * (3 << 20) + b'", "note": '),
    "binary junk": lambda content: np.random.default_rng(0).bytes(4096),
    "NUL": lambda content: b"\0" * 4096,
    "UTF-16": lambda content: content.split(b"\n", 1)[0].decode().encode("utf-16"),
    "a byte order mark": lambda content: b"\xef\xbb\xbf" + content,
    "a list": lambda content: b'["nsf_pipeline model"]\n' + content,
    "a number": lambda content: b"5\n",
    "HDF5": lambda content: b"\x89HDF\r\n\x1a\n" + content,
    "another format": at("format", "nsf_pipeline dataset"),
    "a format that is a list": at("format", ["nsf_pipeline model"]),
    "a longer format": at("format", "nsf_pipeline model of another kind"),
    "a pickle": lambda content: b"\x80\x04\x95\x0b\x00\x00\x00",
}
HOSTILE = HEADERS | CONTENTS | FILES


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_line_and_takes_no_memory(name, saved, tmp_path):
    path = tmp_path / "model.eqx"
    content = HOSTILE[name](saved.read_bytes())
    assert content != saved.read_bytes()
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelFileError) as caught:
        load_model(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert line.isprintable()
    assert len(line) < 600


@pytest.mark.parametrize(
    "name", sorted((HEADERS | FILES).keys() - {"a checksum of something else"})
)
def test_a_hostile_header_alone_is_a_line_too(name, saved, tmp_path, capsys):
    """Where only the header is read: for what made the model."""
    path = tmp_path / "model.eqx"
    path.write_bytes(HOSTILE[name](saved.read_bytes()))
    with pytest.raises(ModelFileError):
        model_header(path)
    line = refused(
        capsys, "upload", "--config", "{}", "--model", path, "--output", tmp_path / "out.json"
    )
    assert line.startswith(f"nsf_pipeline: {path}: ")
    assert not (tmp_path / "out.json").exists()


def test_what_users_save_is_loaded_as_it_was(model, saved, tmp_path):
    assert eqx.tree_equal(load_model(saved), model)
    assert model_header(saved)["note"] == {"anything": [1, None, "é"]}
    attributes: dict[str, Any]
    for number, attributes in enumerate([{}, {"mine": [[1.5], {"deep": "er"}], "n": -3}]):
        path = tmp_path / f"{number}.eqx"
        save_model(path, model, attributes)
        assert eqx.tree_equal(load_model(path), model)
        assert attributes.items() <= model_header(path).items()


def test_a_file_older_than_a_setting_has_its_default(model, saved, tmp_path):
    (tmp_path / "old.eqx").write_bytes(without("config.model.physics")(saved.read_bytes()))
    assert eqx.tree_equal(load_model(tmp_path / "old.eqx"), model)


UNSAVABLE: dict[str, tuple[dict[str, Any], str]] = {
    "a name that is taken": ({"normaliser": 1}, "the attribute normaliser is taken"),
    "NaN": ({"score": float("nan")}, "NaN is no number"),
    "a negative step": ({"step": -1}, "step: "),
    "settings that are none": ({"settings": 5}, "settings: "),
    "half a surrogate pair": ({"note": "\ud800"}, "it is not JSON"),
    "a megabyte": ({"note": "a" * label.MAX_BYTES}, "longer than"),
}


@pytest.mark.parametrize("name", UNSAVABLE)
def test_what_could_not_be_loaded_is_not_saved(name, model, tmp_path):
    attributes, message = UNSAVABLE[name]
    with pytest.raises(FileError, match=message):
        save_model(tmp_path / "model.eqx", model, attributes)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_finite_are_not_saved(model, tmp_path):
    broken = eqx.tree_at(lambda m: m.bridge, model, replace_fn=lambda b: jax.tree.map(spoilt, b))
    with pytest.raises(FileError, match="weights are not finite"):
        save_model(tmp_path / "model.eqx", broken, {})


def spoilt(leaf):
    return leaf * np.nan if eqx.is_inexact_array(leaf) else leaf
