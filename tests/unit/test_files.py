"""Files that users name: only ordinary ones are opened."""

import os
import socket
from pathlib import Path

import pytest

from nsf_pipeline.files import (
    FileError,
    new_folder,
    open_file,
    read_file,
    replacing,
    require_place,
)


def fifo(path):
    os.mkfifo(path)


def listening(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def device(path):
    path.symlink_to("/dev/zero")


def loop(path):
    path.symlink_to(path)


def nothing(path):
    pass


SPECIAL = {
    "a FIFO": (fifo, "expected a file, got a FIFO"),
    "a socket": (listening, "No such device or address"),
    "a link to an endless device": (device, "expected a file, got a device"),
    "a link to itself": (loop, "Too many levels of symbolic links"),
    "a folder": (os.mkdir, "Is a directory"),
    "nothing": (nothing, "No such file or directory"),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_only_ordinary_files_are_opened(name, tmp_path):
    make, expected = SPECIAL[name]
    make(tmp_path / "it")
    with pytest.raises(OSError, match=expected):
        open_file(tmp_path / "it")


IN_THE_WAY = {"a FIFO": fifo, "a socket": listening, "a device": device, "a folder": os.mkdir}


@pytest.mark.parametrize("name", IN_THE_WAY)
def test_only_ordinary_files_are_replaced(name, tmp_path):
    path = tmp_path / "it"
    IN_THE_WAY[name](path)
    before = path.stat().st_ino
    expected = f"cannot write it: it is {name}; name a file"
    with pytest.raises(FileError, match=expected), replacing(path) as beside:
        beside.touch()
    assert path.stat().st_ino == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_with_nul_is_an_error_of_the_file():
    with pytest.raises(OSError, match="null"):
        open_file("a\0b")


def test_a_file_is_read_up_to_a_limit(tmp_path):
    path = tmp_path / "it"
    path.write_bytes(b"1234")
    assert read_file(path, 4) == b"1234"
    with pytest.raises(OSError, match="4 bytes, expected at most 3"):
        read_file(path, 3)


@pytest.mark.parametrize("taken", [os.mkdir, fifo, loop, lambda path: path.touch()])
def test_a_folder_takes_the_place_of_nothing(taken, tmp_path):
    path = tmp_path / "it"
    taken(path)
    with pytest.raises(FileError, match="there is something of that name"), new_folder(path):
        pass
    assert os.listdir(tmp_path) == ["it"]


@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyboardInterrupt()], ids=type)
def test_a_folder_that_is_not_finished_is_removed(error, tmp_path):

    def fill():
        with new_folder(tmp_path / "it") as beside:
            (beside / "half").touch()
            raise error

    with pytest.raises((FileError, KeyboardInterrupt)):
        fill()
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not Path("/proc").exists(), reason="a folder of Linux's")
def test_a_place_that_only_the_system_refuses_is_found_before_the_work(tmp_path):
    with pytest.raises(FileError, match="cannot write a file there"):
        require_place(Path("/proc/output.json"))
    require_place(tmp_path / "new" / "output.json")
    assert not list((tmp_path / "new").iterdir())
