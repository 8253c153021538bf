"""Labels, records and JSON of any file: what stands in them is looked at before it is believed."""

import io
import json
import os
import struct
import time
import zlib
from typing import Any

import pytest

from nsf_pipeline import label
from nsf_pipeline.cli import main
from nsf_pipeline.provenance import Record
from nsf_pipeline.why import fields_of

MADE: dict[str, Any] = {
    "stage": "train",
    "fingerprint": "0" * 16,
    "config": {"seed": 0},
    "modules": {},
}
JSON = {
    "empty": b"",
    "text": b"a text",
    "a list": b"[1]",
    "a number": b"1",
    "null": b"null",
    "a string": b'"a"',
    "cut off": b'{"a": 1',
    "more after it": b'{"a": 1} {"a": 2}',
    "NaN": b'{"a": NaN}',
    "infinity": b'{"a": [Infinity]}',
    "minus infinity": b'{"a": {"b": -Infinity}}',
    "a float too large": b'{"a": 1e400}',
    "a negative float too large": b'{"a": -1e999}',
    "an integer of 400 digits": b'{"a": ' + b"9" * 400 + b"}",
    "an integer of 5000 digits": b'{"a": [-' + b"9" * 5000 + b"]}",
    "deep lists": b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep mappings": b'{"a": ' * 100_000 + b"1" + b"}" * 100_000,
    "deep and cut off": b"[" * 500_000,
    "lists of 40 levels": b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}",
    "a name twice": b'{"a": 1, "a": 2}',
    "a name twice, inside": b'{"a": [{"b": 1, "b": 1}]}',
    "a long name": b'{"' + b"a" * 1000 + b'": 1}',
    "a name with NUL": b'{"a\\u0000": 1}',
    "a name with an escape": b'{"\\u001b[2J": 1}',
    "half a surrogate pair": b'{"a": "\\ud800"}',
    "a lone surrogate in bytes": b'{"a": "\xed\xa0\x80"}',
    "not UTF-8": b'{"a": "\xff"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "UTF-32": '{"a": 1}'.encode("utf-32-le"),
    "a byte order mark": b'\xef\xbb\xbf{"a": 1}',
    "a comment": b'{"a": 1 /* one */}',
    "binary": bytes(range(256)),
}


@pytest.mark.parametrize("name", JSON)
def test_json_that_is_none_is_an_error_of_a_few_words(name):
    with pytest.raises(label.LabelError) as caught:
        label.mapping(JSON[name])
    assert len(str(caught.value)) < 100


def test_plain_json_is_read():
    text = '{"a": [1, -2.5, true, null, "é\\u00e9\\n"], "b": {"": {}}}'
    assert label.mapping(text.encode()) == json.loads(text)
    assert label.mapping(b'{"a": Infinity}', finite=False) == {"a": float("inf")}


def of(**changes):
    """A label's line with some fields changed, before content that it is right about."""
    content = io.BytesIO(b"content")
    fields = label.seal({"format": "nsf_pipeline model"}, content) | changes
    return label.line({name: value for name, value in fields.items() if value is not None})


LABELS = {
    "no size": of(size=None),
    "no checksum": of(sha256=None),
    "a size that is text": of(size="7"),
    "a size that is true": of(size=True),
    "a size that is a list": of(size=[7]),
    "a size that is a float": of(size=7.0),
    "a checksum that is a number": of(sha256=0),
    "another size": of(size=8),
    "a negative size": of(size=-7),
    "no line break": of().rstrip(),
    "megabytes of blanks": of().rstrip() + b" " * (3 << 20) + b"\n",
    "megabytes": of(note="a" * (2 << 20)),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_that_are_none_are_refused(name, tmp_path):
    path = tmp_path / "it"
    path.write_bytes(LABELS[name] + b"content")
    with path.open("rb") as file, pytest.raises(label.LabelError, match="truncated or damaged"):
        label.read(file)


def test_a_sound_label_is_read(tmp_path):
    (tmp_path / "it").write_bytes(of() + b"content")
    with (tmp_path / "it").open("rb") as file:
        fields = label.read(file)
        assert fields
        label.check(fields, file)


RECORDS: dict[str, dict[str, Any]] = {
    "a list for the settings": {"config": [1]},
    "pairs for the settings": {"config": [["seed", 0]]},
    "text that is no JSON": {"config": "{"},
    "text with NaN": {"config": '{"seed": NaN}'},
    "deep text": {"config": '{"a": ' * 50_000 + "1" + "}" * 50_000},
    "a list for the modules": {"modules": ["a"]},
    "a module's digest that is a list": {"modules": {"nsf_pipeline.flow": []}},
    "a stage that is a list": {"stage": []},
    "a stage that is bytes": {"stage": b"train"},
    "a stage of two lines": {"stage": "a\nb"},
    "a long stage": {"stage": "a" * 1000},
    "a fingerprint that is a number": {"fingerprint": 5},
    "a variant with an escape": {"variant": "\x1b[2J"},
}


@pytest.mark.parametrize("name", RECORDS)
def test_records_that_are_none_are_refused(name):
    with pytest.raises(label.LabelError, match="the record of what made it cannot be read"):
        Record.read(MADE | RECORDS[name])


MODULES = ("nsf_pipeline./etc/x", "nsf_pipeline...", "nsf_pipeline.../x", "/", "nsf_pipeline.a b")


@pytest.mark.parametrize("name", MODULES)
def test_a_module_of_a_record_leads_nowhere_else(name):
    from nsf_pipeline.config import Config

    made = Record.read(MADE | {"modules": {name: "0"}})
    assert made.changes(Config()) == [f"{name} is gone"]


# Comments in pictures, videos and pages.


def chunk(kind, data=b""):
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def comment(fields=MADE, name=b"Comment"):
    return chunk(b"tEXt", name + b"\0" + label.embed(fields).encode())


FORGED = label.embed(MADE | {"stage": "forged"}).encode()
HEAD, PIXELS, END = chunk(b"IHDR", b"0" * 13), chunk(b"IDAT", FORGED), chunk(b"IEND")


def box(kind, *inner):
    data = b"".join(inner)
    return (len(data) + 8).to_bytes(4, "big") + kind + data


def index(text):
    data = box(b"data", b"\0\0\0\1\0\0\0\0", text)
    inner = box(b"\xa9nam", box(b"data", b"\0" * 8, FORGED)) + box(b"\xa9cmt", data)
    return box(
        b"moov", box(b"mvhd", FORGED), box(b"udta", box(b"meta", b"\0" * 4, box(b"ilst", inner)))
    )


TYPE, FRAMES, INDEX = box(b"ftyp", b"isom"), box(b"mdat", FORGED), index(label.embed(MADE).encode())
LAST = b"<!-- " + label.embed(MADE).encode() + b" -->\n"
SOUND = {
    "picture.png": label.PNG + HEAD + comment() + PIXELS + END,
    "described.png": label.PNG
    + HEAD
    + chunk(b"tEXt", b"Title\0" + FORGED)
    + comment()
    + PIXELS
    + END,
    "video.mp4": TYPE + INDEX + box(b"free") + FRAMES,
    "late.mp4": TYPE + FRAMES + INDEX,
    "long.mp4": TYPE + struct.pack(">I4sQ", 1, b"mdat", 16 + len(FORGED)) + FORGED + INDEX,
    "page.html": b"<!doctype html>\n<!-- " + FORGED + b" -->\n</html>\n" + LAST,
}
DAMAGED = {
    "cut off.png": SOUND["picture.png"][:-1],
    "without its end.png": label.PNG + HEAD + comment() + PIXELS,
    "with bytes left over.png": SOUND["picture.png"] + b"\0",
    "of pixels only.png": label.PNG + HEAD + PIXELS + END,
    "altered.png": SOUND["picture.png"].replace(b'"train"', b'"trail"'),
    "of two comments.png": label.PNG + HEAD + comment() + comment() + END,
    "of lengths beyond.png": label.PNG + b"\xff\xff\xff\xffIHDR" + comment() + END,
    "of a list.png": label.PNG + HEAD + chunk(b"tEXt", b"Comment\0" + label.MARK + b"[1]") + END,
    "empty.png": b"",
    "of text.png": b"made by nsf_pipeline {}",
    "cut off.mp4": SOUND["video.mp4"][:-1],
    "of frames only.mp4": TYPE + box(b"moov") + FRAMES,
    "of two indices.mp4": TYPE + INDEX + INDEX + FRAMES,
    "of lengths beyond.mp4": TYPE + b"\xff\xff\xff\xffmoov" + INDEX,
    "of lengths of nothing.mp4": TYPE + b"\0\0\0\0moov" + INDEX,
    "of short boxes.mp4": TYPE + b"\0\0\0\4moov" + INDEX,
    "of broken JSON.mp4": TYPE + index(label.MARK + b'{"a": NaN}') + FRAMES,
    "of deep JSON.mp4": TYPE + index(label.MARK + b'{"a":' * 90_000) + FRAMES,
    "without a last line.html": SOUND["page.html"].removesuffix(LAST),
    "with a line after it.html": SOUND["page.html"] + b"<p>\n",
    "of deep JSON.html": b"<!-- " + label.MARK + b'{"a":' * 90_000 + b" -->\n",
    "of a long last line.html": b"<!-- " + label.MARK + b" " * (3 << 20) + b"{} -->\n",
}


@pytest.mark.parametrize("name", SOUND)
def test_only_our_own_comment_is_believed(name, tmp_path):
    (tmp_path / name).write_bytes(SOUND[name])
    assert fields_of(tmp_path / name) == MADE == label.find(SOUND[name])


@pytest.mark.parametrize("name", DAMAGED)
def test_a_file_without_a_sound_comment_is_damaged(name, tmp_path):
    (tmp_path / name).write_bytes(DAMAGED[name])
    with pytest.raises(label.LabelError, match="truncated or damaged"):
        fields_of(tmp_path / name)


@pytest.mark.parametrize("name", ["video.mp4", "picture.png", "page.html", "of nothing.eqx"])
def test_a_file_of_gigabytes_is_not_read_whole(name, tmp_path):
    path = tmp_path / name
    with path.open("wb") as file:
        file.write(TYPE if name == "video.mp4" else label.PNG)
        file.truncate(1 << 36)  # takes no room on the disk
    started = time.monotonic()
    with pytest.raises(label.LabelError):
        fields_of(path)
    assert time.monotonic() - started < 10.0


# `nsf why`: a line for each file.


def provenance(**files):
    return json.dumps(MADE | {"files": files}).encode()


def plain(content):
    return lambda path: path.write_bytes(content)


def linked(path):
    outside = path.parent.parent / "outside.csv"
    outside.write_text("a\n")
    (path.parent / "in.csv").symlink_to(outside)
    path.write_bytes(provenance(**{"in.csv": "0"}))


def named(path):
    os.mkfifo(path.parent / "fifo.csv")
    path.write_bytes(provenance(**{"fifo.csv": "0"}))


WHY = {
    "a FIFO.json": (os.mkfifo, "expected a file, got a FIFO"),
    "a FIFO.eqx": (os.mkfifo, "expected a file, got a FIFO"),
    "a FIFO.png": (os.mkfifo, "expected a file, got a FIFO"),
    "a device.json": (lambda path: path.symlink_to("/dev/zero"), "expected a file, got a device"),
    "a device.mp4": (lambda path: path.symlink_to("/dev/zero"), "expected a file, got a device"),
    "a folder.eqx": (os.mkdir, "Is a directory"),
    "a link to itself.html": (lambda path: path.symlink_to(path), "Too many levels"),
    "files above.json": (plain(provenance(**{"../../etc/passwd": "0"})), "list of files"),
    "files at absolute paths.json": (plain(provenance(**{"/etc/passwd": "0"})), "list of files"),
    "files in folders.json": (plain(provenance(**{"a/b": "0"})), "list of files"),
    "the folder above.json": (plain(provenance(**{"..": "0"})), "list of files"),
    "the folder itself.json": (plain(provenance(**{".": "0"})), "list of files"),
    "no name.json": (plain(provenance(**{"": "0"})), "list of files"),
    "names with NUL.json": (plain(provenance(**{"a\0b": "0"})), "cannot be printed"),
    "names too long.json": (plain(provenance(**{"a" * 5000: "0"})), "too long"),
    "linked elsewhere.json": (linked, "is a link to another folder"),
    "named pipes.json": (named, "expected a file, got a FIFO"),
    "100,000 files.json": (
        plain(provenance(**{str(n): "0" * 64 for n in range(100_000)})),
        "expected at most 1048576",
    ),
    "10,000 files.json": (
        plain(provenance(**{str(n): "0" for n in range(10_000)})),
        "list of files cannot be read",
    ),
    "missing files.json": (plain(provenance(**{"none.csv": "0"})), "none.csv is missing"),
    "a list of files.json": (plain(json.dumps(MADE | {"files": ["a"]}).encode()), "list of files"),
    "checksums of numbers.json": (plain(provenance(a=5)), "list of files"),
    "a list.json": (plain(b"[1]"), "not a JSON object"),
    "nothing.json": (plain(b""), "not JSON"),
    "deep.json": (plain(b"[" * 90_000), "nested too deeply"),
    "a label of a list.eqx": (plain(of(note=1).replace(b'"note": 1', b'"note": [')), "cannot be"),
    "HDF5 without a label.h5": (plain(label.HDF5 + b"\x1a\n" * 100), "has no label"),
    "HDF5 for a model.eqx": (plain(label.HDF5 + b"\x1a\n" * 100), "has no label"),
    "a record of a list.json": (plain(json.dumps(MADE | {"stage": []}).encode()), "the record"),
    "a table.csv": (plain(b"a,b\n1,2\n"), "truncated or damaged"),
}


@pytest.mark.parametrize("name", WHY)
def test_why_has_a_line_for_any_file(name, tmp_path, capsys):
    make, expected = WHY[name]
    path = tmp_path / "folder" / name
    path.parent.mkdir()
    make(path)
    assert main(["why", "--full", "--config", "{}", str(path)]) == 0
    line, count = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{path}: ")
    assert expected in line
    assert len(line) < 600
    assert count == "current: 0 of 1 files"
