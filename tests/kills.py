"""Kills runs at random moments and compares what they end with: `python -m tests.kills [--trials 6] [--variants df,lstm-f]`.

For each variant one tiny run is left alone, and another one is killed (SIGKILL) again and again and continued by the same
command; at least every second kill is inside a save. After every kill the newest checkpoint is compared with that of the same
step of the run that was left alone, and at the end everything is: every array of the state by its sha256 (parameters,
optimiser, average, step, sums of metrics), the lines of metrics, and that nothing unfinished is left. The order of the data
has no state that could be lost: it is a function of seed and step, and the lines of metrics are what it led to.
"""

import argparse
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import tests.conftest  # noqa: F401 (the environment of the tests, before JAX is imported)

# isort: split

import numpy as np
from absl import flags

from rad_jax.model.names import named_leaves
from rad_jax.runs.manifest import saved_steps
from rad_jax.runs.training_run import TrainingRun, open_training_run
from tests.toy_run import Toy, read_metrics, read_state, silence, stop_during, wait_for

EVERY = 3  # steps between two saves
LEG = 12  # steps at most from the newest checkpoint to the one after which a run is killed
PLAIN = ("df", "lstm-f", "lstm-c", "mamba2-s2", "ttt-c", "arl2-f")
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{variant: (variant, {}) for variant in PLAIN},
    "lstm-f+threads": ("lstm-f", {"data.threads": 4}),
    "lstm-f+accumulate": ("lstm-f", {"train.accumulate": 2}),
    "lstm-f+archive": ("lstm-f", {"memory.frames": "archive", "memory.archive": 16}),
}


def digest(workdir: Path, run: TrainingRun, step: int | None = None) -> dict[str, str]:
    """The sha256 of every array in a checkpoint, the newest unless given, by its name."""
    state, _ = read_state(workdir, run, step)
    leaves = {name: np.asarray(leaf) for name, leaf in named_leaves(state).items()}
    return {
        name: hashlib.sha256(f"{leaf.dtype} {leaf.shape} ".encode() + leaf.tobytes()).hexdigest()
        for name, leaf in leaves.items()
    }


def unfinished(workdir: Path) -> list[Path]:
    return list((workdir / "checkpoints").glob("*.orbax-checkpoint-tmp*"))


def kill(process: subprocess.Popen, workdir: Path, chance: random.Random, inside: bool) -> bool:
    """Kills a run at a random moment, on demand inside a save; whether it was inside one."""

    def newest() -> int:
        return max(saved_steps(workdir / "checkpoints"), default=0)

    goal = newest() + chance.randint(EVERY, LEG)
    if inside or chance.random() < 0.7:
        wait_for(process, lambda: newest() >= goal)
        time.sleep(chance.uniform(0, 0.3))
    else:
        time.sleep(chance.uniform(0, 8))  # while it starts
    if inside:
        stop_during(process, lambda: unfinished(workdir))
    process.kill()
    process.communicate()
    return bool(unfinished(workdir))


def try_case(toy: Toy, case: str, trials: int, seed: int) -> tuple[str, bool]:
    """Kills the run of a case as often as asked; what was seen, in one line, and whether all of it is right."""
    variant, changes = CASES[case]
    chance = random.Random(f"{seed} {case}")
    settings = {
        "train.steps": 2 * LEG * (trials + 1),
        "checkpoint.every": EVERY,
        "checkpoint.keep_every": EVERY,
    }
    settings |= {"memory.head_width": 8, **changes}
    run = open_training_run(toy.config(variant, settings))
    workdirs = alone, killed = [toy.directory / f"{case} {name}" for name in ("alone", "killed")]
    commands = [
        toy.arguments(workdir, variant=variant, **{k.replace(".", "__"): v for k, v in settings.items()})
        for workdir in workdirs
    ]

    def finish(command: list[str]) -> None:
        process = toy.process(command)
        error = process.communicate()[1]
        if process.returncode:
            raise SystemExit(f"{case}: the run ended with {process.returncode}: {error}")

    begin = time.monotonic()
    finish(commands[0])
    inside, equal, compared = 0, 0, 0
    for trial in range(trials):
        inside += kill(toy.process(commands[1]), killed, chance, inside=trial % 2 == 0)
        if steps := saved_steps(killed / "checkpoints"):
            compared += 1
            equal += digest(killed, run) == digest(alone, run, steps[-1])
    finish(commands[1])
    ended = digest(killed, run) == digest(alone, run) and read_metrics(killed) == read_metrics(alone)
    tidy = all(path.name.isdecimal() for path in (killed / "checkpoints").iterdir())
    line = (
        f"{case:<18} kills {trials}, inside a save {inside}, newest checkpoint equal {equal} of {compared}, "
        f"end {'equal' if ended else 'DIFFERENT'}{'' if tidy else ', SOMETHING IS LEFT'} ({time.monotonic() - begin:.0f} s)"
    )
    return line, ended and tidy and equal == compared and 2 * inside >= trials


def main(arguments: list[str] | None = None) -> int:
    """Prints a line per case; the exit status is 1 if any of them is not as promised."""
    parser = argparse.ArgumentParser(prog="tests.kills", description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=6, help="kills of each variant")
    parser.add_argument("--variants", default=",".join(CASES), help=f"which ones of {','.join(CASES)}")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args(arguments)
    flags.FLAGS.mark_as_parsed()  # Grain reads flags, which absl.app would have parsed
    right = True
    with tempfile.TemporaryDirectory() as directory:
        toy = Toy(Path(directory))
        for case in options.variants.split(","):
            with silence():
                line, good = try_case(toy, case, options.trials, options.seed)
            print(line, flush=True)
            right = right and good
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
