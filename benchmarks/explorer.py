"""How fast the explorer answers: what its page computes when a slider moves.

    python -m benchmarks.explorer [--model results/model.eqx] [--moves 100]

Everything was compiled before. Each move sets a weight and the duration. Without a model, an
untrained one of the default size is used: it does the same work. The time that a browser takes to
show the answer comes on top.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.first_use import untrained
from nsf_pipeline.config import PolicyFile
from nsf_pipeline.explorer import believed, controls, pictures, simulated
from nsf_pipeline.model.file import load_model
from nsf_pipeline.pusht.simulator import Simulator

AFTER = 1.0
"""s; the time of the predictions."""


def main() -> None:
    """Print a table: wall and CPU time of each answer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--moves", type=int, default=100)
    options = parser.parse_args()
    if options.moves < 1:
        parser.error(f"--moves: expected at least 1, got {options.moves}")
    if options.model and not options.model.is_file():
        parser.error(f"--model: {options.model} is no file")
    with tempfile.TemporaryDirectory() as folder:
        path = options.model or Path(folder, "model.eqx")
        if not options.model:
            untrained(path)
        _measure(path, options.moves)


def _measure(path: Path, moves: int) -> None:
    models, simulator = believed.Models(), Simulator()
    dmp = load_model(path).encoder.dmp
    start = controls.values_of(controls.curved(dmp))

    def moved(number: int) -> PolicyFile:
        share = number / moves
        changes = {"w_x_1": share, "duration": round(1.5 + share, 3)}
        return controls.policy_of(start | changes, dmp)

    def redraw(file: PolicyFile) -> None:
        pictures.in_words(file)
        pictures.scene(file)
        pictures.charts(file)

    def rollout(file: PolicyFile) -> None:
        made = simulated.rollout(simulator, file, 0)
        pictures.animation(file, made)
        pictures.coverage(made)

    def draws(file: PolicyFile) -> None:
        belief = believed.believed("model", path, models, file, AFTER)
        pictures.prediction(file, None, [belief], AFTER)

    def compared(file: PolicyFile) -> None:
        belief = believed.believed("model", path, models, file, AFTER)
        law = simulated.law(simulator, file, AFTER)
        pictures.prediction(file, law, [belief], AFTER)
        pictures.scores(believed.scores([belief], law))

    answers: dict[str, Callable[[PolicyFile], None]] = {
        "the DMP, its path and charts": redraw,
        "a rollout, its animation and coverage": rollout,
        f"{simulated.MEMBERS} draws of the model": draws,
        "the same beside the simulator's ensemble, with scores": compared,
    }
    print(f"{os.cpu_count()} cores, {moves} moves; ms")
    print("| | median | slowest | CPU, mean |\n| --- | ---: | ---: | ---: |")
    for name, answer in answers.items():
        answer(moved(0))
        times, spent = [], time.process_time()
        for number in range(moves):
            started = time.perf_counter()
            answer(moved(number))
            times.append(time.perf_counter() - started)
        cells = (statistics.median(times), max(times), (time.process_time() - spent) / moves)
        print(f"| {name} | " + " | ".join(f"{1e3 * value:.1f}" for value in cells) + " |")


if __name__ == "__main__":
    main()
