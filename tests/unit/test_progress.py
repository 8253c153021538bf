"""The progress of training: lines, a bar on a terminal, curves."""

import os
import re

from nsf_pipeline.training.progress import Display

ROW = {
    "step": 50,
    "seconds": 12.0,
    "nll": 2.5,
    "one_to_two": 0.25,
    "two_to_one": 0.125,
    "distillation": 0.0,
    "gradient_norm": 3.0,
    "clipped": 0.5,
    "validation_nll": 2.75,
}


def shown(fd, until):
    """What a terminal shows, which may come in pieces, up to something awaited."""
    text = ""
    while until not in text:
        text += os.read(fd, 1 << 16).decode()
    return text


def test_a_terminal_gets_a_bar_with_step_speed_time_left_and_validation(capfd):
    ours, theirs = os.openpty()
    display = Display(100, (12345, theirs))  # the first is no terminal, not even open
    display.bar(1)
    assert re.search(r"\[\.{24}\] step 1 of 100, compiled", shown(ours, "compiled"))
    display.bar(50)
    display.row(ROW)
    display.bar(75)
    text = shown(ours, "nll 2.750")
    assert re.search(r"\[(#+)\.+\] step 75 of 100, [\d.e+]+ steps/s, 0 s left, valid", text)
    assert text.endswith("validation nll 2.750")
    assert "\n" not in text  # the bar is one line; the log's lines go elsewhere
    display.bar(100)
    assert "step 100 of 100" in shown(ours, "done")
    printed = capfd.readouterr()
    (line,) = printed.out.splitlines()
    assert re.fullmatch(
        r"step 50 of 100, 12 s, \d+ s left: nll 2.500, 1->2 0.250, 2->1 0.125, "
        r"gradient norm 3, clipped 50%, validation nll 2.750",
        line,
    )
    assert printed.err == ""
    os.close(ours)
    os.close(theirs)


def test_a_row_tells_the_distillation_if_there_is_one(capfd):
    Display(100, ()).row(ROW | {"distillation": 8.0})
    assert "2->1 0.125, distillation 8.000, gradient" in capfd.readouterr().out


def test_a_log_gets_lines_alone(capfd):
    display = Display(100, (1, 2))
    display.bar(10)
    display.say("so far")
    display.bar(20)
    assert tuple(capfd.readouterr()) == ("so far\n", "")


def test_a_closed_terminal_or_reader_is_no_error():
    """The terminal is closed, and nobody reads the lines."""
    ours, theirs = os.openpty()
    display = Display(100, (theirs,))
    os.close(ours)
    os.close(theirs)
    display.bar(10)
    read, write = os.pipe()
    os.close(read)
    before = os.dup(1)
    os.dup2(write, 1)
    try:
        display.say("to nobody")
    finally:
        os.dup2(before, 1)
        os.close(before)
        os.close(write)
