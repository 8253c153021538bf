"""Snakemake in processes of its own that are forked after its import, which takes long.

Each is what `python -m snakemake` would be: its own arguments, environment, streams, search path
and exit code. Run as a program, this file is the parent of these processes.
"""

import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path


@cache
def _parent():
    """The program below; it ends when the tests do, because its input ends then."""
    # Not in this environment, because what is forked gets its own; and with nothing imported from
    # here. As for every program, the package is not on its path.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.Popen(
        [sys.executable, "-P", __file__],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def snakemake(arguments, environment):
    """Run `snakemake` with arguments in an environment; returns how it ended, as text."""
    command = ["snakemake", *map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder, name) for name in ("out", "err")]
        parent = _parent()
        wanted = command, dict(environment), os.getcwd(), [str(path) for path in streams]
        print(json.dumps(wanted), file=parent.stdin, flush=True)
        code = int(parent.stdout.readline())
        out, err = (path.read_text() for path in streams)
    return subprocess.CompletedProcess(command, code, out, err)


def _become(command, environment, folder, streams):
    """Make this process what was asked for, up to the call of Snakemake's main function."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    searched = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [folder, *filter(None, searched)]
    sys.path_importer_cache.clear()
    sys.argv[:] = command
    nothing = os.open(os.devnull, os.O_RDONLY)
    opened = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for path in streams]
    for number, file in enumerate([nothing, *opened]):
        os.dup2(file, number)
        os.close(file)


def _serve():
    """Fork a process for each line of the input, and print its exit code."""
    import pydantic  # noqa: F401 (the Snakefile imports it)
    import snakemake.assets
    import snakemake.cli
    import snakemake.profiles
    import snakemake.report
    import snakemake.storage

    for line in iter(sys.stdin.readline, ""):
        child = os.fork()
        if not child:
            _become(*json.loads(line))
            snakemake.cli.main()
            return
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    _serve()
