"""The command `nsf`: how a verb runs, and how it ends."""

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import get_type_hints

import typer

from nsf_pipeline import paths
from nsf_pipeline.errors import UserError, line_for
from nsf_pipeline.system import clocks, surroundings
from nsf_pipeline.system.printing import complain, make_streams_safe, report_lost_output
from nsf_pipeline.system.signals import Ended, Handling, behind

FAILED, SIGNALLED, INTERRUPTED = 1, 128, 130
app = typer.Typer(
    help="A conditional Neural Stochastic Flow on PushT: data, training, evaluation.",
    add_completion=False,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Exit(Exception):  # noqa: N818
    """Ends the command with an exit code and a message."""

    def __init__(self, code: int, line: str):
        super().__init__(line)
        self.code = code


def main(arguments: list[str] | None = None) -> int:
    """Run one verb and return its exit code.

    After a mistake of the user's, or a failure of the machine, it is 1, and a line says which.
    """
    try:
        app(args=arguments, prog_name="nsf")
    except Exit as exit:
        return _print_and_return(exit.code, str(exit))
    except SystemExit as exit:
        return exit.code if isinstance(exit.code, int) else 0
    except KeyboardInterrupt:
        return _print_and_return(INTERRUPTED, "interrupted")
    except Exception as error:
        line = line_for(error)
        if line is None:
            raise
        return _print_and_return(FAILED, line)
    return 0


def entry() -> None:
    """What the command `nsf` and `python -m nsf_pipeline` run."""
    surroundings.settle()
    make_streams_safe()
    with Handling():
        code = main()
        report_lost_output()
        if code > SIGNALLED:
            # Without cleanup: after a signal, JAX's threads may crash at exit and change the code.
            os._exit(code)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # all is done: no traceback of Python's end
    sys.exit(code)


def _print_and_return(code: int, lines: str) -> int:
    for line in lines.splitlines():
        complain(f"nsf_pipeline: {line}")
    return code


def verb(name: str, example: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a verb whose help ends with an example."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def run(*arguments: object, **options: object) -> None:
            written, read = _paths_in(options)
            _refuse_to_overwrite_inputs(written, read)
            try:
                _date_now(written, read)
                function(*arguments, **options)
                with suppress(UserError):  # the clock may have been set back meanwhile
                    _date_now(written, read)
            except BaseException as error:
                ended = behind(error)
                if ended is None:
                    raise
                if isinstance(ended, Ended):
                    raise Exit(int(str(ended.code)), ended.reason) from None
                raise Exit(INTERRUPTED, "interrupted") from None

        for hint in get_type_hints(function, include_extras=True).values():
            for option in getattr(hint, "__metadata__", ()):
                option.readable = False  # verbs say in a line what cannot be read
        app.command(name, epilog=f"Example: nsf {name} {example}".rstrip())(run)
        return run

    return register


WRITTEN = ("output", "metadata", "metrics", "curves", "seconds")
"""Options that name output files; every other path is an input."""


def _paths_in(options: Mapping[str, object]) -> tuple[list[tuple[str, Path]], list[Path]]:
    """The outputs, each with its option's name, and the inputs."""
    written: list[tuple[str, Path]] = []
    read: list[Path] = []
    for name, value in options.items():
        several = value if isinstance(value, list) else [value]
        named = [path for path in several if isinstance(path, Path)]
        if name in WRITTEN:
            written += [(name, path) for path in named]
        else:
            read += named
            # Settings are text or a file; models are given as NAME=PATH.
            for text in (each for each in several if isinstance(each, str)):
                read += [Path(p) for p in (text, text.partition("=")[2]) if os.path.isfile(p)]
    return written, read


def _refuse_to_overwrite_inputs(written: Sequence[tuple[str, Path]], read: Sequence[Path]) -> None:
    """Refuse an output that is an input, a file in a folder that is one, or another output."""
    inputs, taken = [resolved(path) for path in read], dict[Path, str]()
    for name, path in written:
        place = resolved(path)
        if (other := taken.setdefault(place, name)) != name:
            raise UserError(f"--{name} {path}: that is --{other} too; name another")
        if os.path.isfile(place) and not {place, place.parent}.isdisjoint(inputs):
            raise UserError(f"--{name} {path}: that file is an input; name another")


def resolved(path: Path) -> Path:
    """A path without links, also where a link leads to itself or the path is none."""
    try:
        return Path(os.path.realpath(path))
    except ValueError:  # a NUL in it; opening it says so
        return path


def _date_now(written: Sequence[tuple[str, Path]], read: Sequence[Path]) -> None:
    """In a job of the workflow, date inputs now that are dated in the future."""
    folders = {
        parent for _, path in written for parent in path.parents if parent.name == paths.RESULTS
    }
    for folder in folders:
        clocks.date_now(read, folder)
