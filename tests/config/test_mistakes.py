"""Mistakes in options, keys and files: each is refused in three lines at most, before anything is made, compiled or written.

The data sets of a command are missing and would be made, unless the mistake is in their content: a mistake that is found
after they are made would have cost hours.
"""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from rad_jax import rollout
from rad_jax.comparison import compare
from rad_jax.data import Episodes
from rad_jax.main import MODES, main
from rad_jax.runs import datasets
from tests.toy_run import EXPERIMENT, SETTINGS

COMPILED = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, *_, **__: COMPILED.append(event) if "backend_compile" in event else None
)
ALL, DATA, TESTED, STORED = (
    tuple(MODES),
    "train compare",
    "evaluate rollout compare",
    "evaluate rollout export",
)
OTHER_MODES = [mode for mode in MODES if mode != "compare"]
PRESENT = "data.auto_make=false evaluate.auto_make=false data.path={rooms} evaluate.path={mazes}"
PATHS = ["data.path", "tokenizer.path", "train.init_from", "evaluate.path", "evaluate.lpips"]
REMOTE = ["gs://bucket/a", "s3://bucket/a", "hf://owner/name"]


class Mistake(NamedTuple):
    """What is given (keys without their ``--config.``), what the message must name, and the modes that must refuse it."""

    given: str
    words: str
    modes: str | tuple[str, ...] = ALL
    status: int = 2

    @property
    def each(self) -> tuple[str, ...]:
        return tuple(self.modes.split()) if isinstance(self.modes, str) else self.modes


KEYS = [
    # names
    ("train.stpes=3", "train.stpes unknown train.steps?"),
    ("trian.steps=3", "trian.steps unknown train.steps?"),
    ("steps=3", "steps unknown train.steps"),
    ("train=3", "train section train.steps"),
    ("train.steps", "train.steps section.key=value"),
    ("train.steps=5 train.steps=6", "train.steps=6 twice 5"),
    # types and choices
    ("train.steps=many", "train.steps=many integer >= 1"),
    ("train.steps=1.5", "train.steps=1.5 integer"),
    ("train.batch='8'", "train.batch='8' integer"),
    ("data.auto_make=yes", "data.auto_make=yes true false"),
    ("model.latent=(8,8)", "model.latent=(8,8) 3 integers (8,8,8)"),
    ("optimizer.decay=liner", "optimizer.decay=liner constant, cosine linear?"),
    ("model.dtype=float16", "model.dtype=float16 bfloat16 float32"),
    ("tokenizer.name=patch_pcs", "tokenizer.name=patch_pcs sd_vae patch_pca?"),
    ("data.condition=pose", "data.condition=pose action+pose"),
    ("train.freeze=attention", "train.freeze=attention none, base"),
    ("data.path=", "data.path= empty"),
    # ranges
    ("train.steps=0", "train.steps=0 >= 1"),
    ("train.batch=-8", "train.batch=-8 >= 1"),
    ("model.width=100000000000", "model.width=100000000000 <= 1048576"),
    ("data.threads=100000", "data.threads=100000 <= 1024"),
    ("optimizer.learning_rate=nan", "optimizer.learning_rate=nan > 0 <= 10"),
    ("optimizer.learning_rate=-1", "optimizer.learning_rate=-1 > 0"),
    ("optimizer.learning_rate=1e39", "optimizer.learning_rate=1e+39 <= 10"),
    ("optimizer.b2=1.5", "optimizer.b2=1.5 >= 0 < 1"),
    ("train.ema=1", "train.ema=1 >= 0 < 1"),
    ("train.ema=-0.1", "train.ema=-0.1 >= 0"),
    ("evaluate.fps=0", "evaluate.fps=0 >= 1 <= 120"),
    ("diffusion.levels=1", "diffusion.levels=1 >= 2"),
    ("mesh.data=0", "mesh.data=0 -1"),
    # what cannot go together
    ("data.clip=2", "data.clip=2 model.window"),
    ("train.windows=500", "train.windows=500 at most model.window"),
    ("memory.stride=4", "memory.stride"),
    ("memory.window=rollout memory.stride=3", "memory."),
    ("train.accumulate=3", "train.batch=8 train.accumulate 9"),
    ("train.window_batch=3", "train.windows=2 train.window_batch (3)"),
    ("mesh.data=3 mesh.fsdp=5", "train.batch=8 mesh 15"),
    ("model.heads=3", "model.width=16 model.heads (3)"),
    ("model.latent=(9,8,16) model.patch=2", "model.patch=2 9 x 8 model.latent"),
    ("sample.steps=101", "sample.steps=101 100 diffusion.levels"),
    ("model.context_level=100", "model.context_level=100 99 diffusion.levels"),
    ("checkpoint.keep_every=7", "checkpoint.keep_every=7 checkpoint.every 6"),
    ("evaluate.more=loop", "evaluate.more=loop NAME=DIRECTORY"),
    ("tokenizer.preview=x", "tokenizer.preview=x sd_vae patch_pca"),
    *((f"{key}={place}", f"{key}={place} remote") for key in PATHS for place in REMOTE),
    *((f"evaluate.more=loop={place}", f"evaluate.more={place} remote") for place in REMOTE),
]
OF_A_MODE = {
    "--profile 3": "train",
    "--distributed": "train",
    "--baseline {run}": "evaluate",
    "--episode 0": "rollout",
    "--actions noop": "rollout",
    "--variants df": "compare",
    "--no-ablations": "compare",
    "--parameters ema": "export",
}
OTHER = [
    # options
    ("--mode trian", "--mode trian train", "train"),
    ("--config {quick}:lstm-x", "lstm-x lstm-f?", tuple(OTHER_MODES)),
    ("--config {quick}:lstm-f", "--config without a variant --variants", "compare"),
    ("--config {typo}", "quikstart.py quickstart.py?", ALL),
    ("--config gs://bucket/a.py", "gs://bucket/a.py remote", ALL),
    ("train.steps=500!", "--config.train.steps=500?", ALL),
    ("--stpes 3", "--stpes", ALL),
    ("--workdir gs://bucket/a", "--workdir gs://bucket/a", ALL),
    ("--workdir {notes}", "{notes}", DATA, 1),
    *((f"--profile {step}", f"--profile {step} 1 24", "train") for step in (0, -3, 25)),
    ("--profile 3 --workdir {run}", "--profile 3 finished 24", "train"),
    ("--profile first", "--profile first", "train"),
    ("--baseline {missing}", "--baseline {missing} run", "evaluate"),
    ("--baseline {empty}", "--baseline {empty} config.json", "evaluate"),
    ("--baseline {pose}", "--baseline {pose} action+pose", "evaluate"),
    ("--baseline gs://bucket/a", "--baseline gs://bucket/a", "evaluate"),
    ("--episode -1", "--episode -1 0", "rollout", 1),
    ("--episode first", "--episode first", "rollout"),
    ("--episode 3 {present}", "--episode 3 0..2", "rollout", 1),
    ("--actions fly", "--actions fly noop", "rollout", 1),
    ("--actions ''", "--actions '' NAME", "rollout", 1),
    ("--actions noop*x", "--actions noop*x COUNT", "rollout", 1),
    ("--actions {missing}.npz", "--actions {missing}.npz", "rollout", 1),
    ("--actions {junk}", "--actions {junk} actions", "rollout", 1),
    ("--actions gs://bucket/a.npz", "--actions gs://bucket/a.npz remote", "rollout"),
    ("--variants ''", "--variants '' df,lstm-c", "compare"),
    ("--variants", "--variants", "compare"),
    ("--variants df,lstm-x", "lstm-x lstm-f?", "compare"),
    ("evaluate.variants=,", "evaluate.variants df,lstm-c", "compare"),
    ("memory.kind=lstm", "memory.kind=lstm --variants", "compare"),
    ("--parameters emma", "--parameters emma ema params", "export"),
    ("train.freeze=base", "train.freeze=base train.init_from", DATA),
    (
        "train.freeze=base train.init_from={run} --config {quick}:df",
        "train.freeze=base memory.kind=none",
        "train",
    ),
    # a pose that the model is not given
    *(
        (
            f"--config {{quick}}:{setting} data.condition=action",
            f"memory.{value} action+odometry",
            OTHER_MODES,
        )
        for setting, value in (
            ("bank-f memory.keep=unseen", "keep=unseen"),
            ("bank-f memory.read=pose", "read=pose"),
            ("convkv-f memory.align=pose", "align=pose"),
            ("arl2-f memory.rotate=ray", "rotate=ray"),
        )
    ),
    (
        "--variants df,bank-f memory.keep=unseen data.condition=action",
        "memory.keep=unseen action+odometry",
        "compare",
    ),
    # devices
    ("mesh.fsdp=2", "mesh.fsdp=2 1 devices", f"{DATA} plan"),
    ("mesh.data=1 mesh.fsdp=8", "mesh.fsdp=8 1 devices", DATA),
    # files
    ("train.init_from={missing}", "train.init_from={missing} exist run .safetensors", DATA),
    ("train.init_from={empty}", "train.init_from={empty} config.json", DATA),
    ("train.init_from={notes}", "{notes} .safetensors", DATA, 1),
    ("train.init_from={cut}", "{cut} intact", DATA, 1),
    ("train.init_from={tensors}", "{tensors} --mode export", DATA, 1),
    ("train.init_from={run} model.width=32", "train.init_from={run} model.width=16 32", DATA, 1),
    ("train.init_from={run} model.depth=3 {present}", "train.init_from={run} model.depth=2 3", DATA, 1),
    (
        "train.init_from={run} --config {quick}:ttt-f memory.gates=standard",
        "memory.kind=lstm ttt",
        "train",
        1,
    ),
    ("tokenizer.path={missing}", "{missing}", DATA, 1),
    ("tokenizer.path={junk}", "{junk}", DATA, 1),
    ("tokenizer.preview={missing} tokenizer.name=taesd", "tokenizer.preview={missing}", DATA),
    ("evaluate.lpips={missing}", "evaluate.lpips={missing}", "evaluate compare"),
    ("evaluate.lpips={tensors}", "evaluate.lpips={tensors}", "evaluate compare"),
    ("data.path={missing} data.auto_make=false", "{missing} make_maze", f"{DATA} plan", 1),
    ("data.auto_make=true", "{missing} make_maze", "plan", 1),
    ("data.split=tset {present}", "tset train", f"{DATA} plan", 1),
    ("data.clip=30 {present}", "data.clip 30 24", DATA, 1),
    ("model.latent=(4,4,8) {present}", "model.latent=(4, 4, 8) (2, 2, 8)", DATA),
    ("tokenizer.name=sd_vae {present}", "tokenizer.name=sd_vae patch_pca", DATA),
    ("evaluate.path={missing} evaluate.auto_make=false", "{missing} make_maze", TESTED, 1),
    ("evaluate.more=loop={missing} evaluate.auto_make=false", "{missing}", "compare", 1),
    ("evaluate.split=tset {present}", "tset test", TESTED, 1),
    ("evaluate.path={rooms} evaluate.split=train data.path={rooms}", "{rooms} n_context", TESTED, 1),
    # the work directory
    ("--workdir {missing}", "{missing} run", STORED),
    ("--workdir {empty}", "{empty} run", STORED),
    ("--workdir {run} memory.gate_init=0.25", "memory.gate_init=0.25 0.5", f"{STORED} train"),
    ("--workdir {run} model.latent=(4,4,8)", "model.latent=(4,4,8) (2,2,8)", f"{STORED} train"),
    ("--workdir {run} seed=3", "seed=3 0", "train"),
]
MISTAKES = [
    # A comparison reads the configuration of each variant; all other modes read it in one way, so each tries its share.
    *(
        Mistake(*mistake, ("compare", OTHER_MODES[number % len(OTHER_MODES)]))
        for number, mistake in enumerate(KEYS)
    ),
    *(Mistake(*mistake) for mistake in OTHER),
    *(
        Mistake(option, f"{option.split()[0]} --mode {mode}", tuple(one for one in MODES if one != mode))
        for option, mode in OF_A_MODE.items()
    ),
]


@pytest.fixture(scope="module")
def places(toy, tmp_path_factory) -> dict[str, str]:
    """Files that mistakes name; what is missing is in a folder of its own, so that its making would be seen."""
    inputs = tmp_path_factory.mktemp("inputs")
    (inputs / "notes.txt").write_text("no model")
    (inputs / "junk.npz").write_bytes(b"PK no arrays")
    (inputs / "empty").mkdir()
    save_file({"a": np.zeros(3, np.float32)}, inputs / "tensors.safetensors")
    (inputs / "cut.safetensors").write_bytes((inputs / "tensors.safetensors").read_bytes()[:-5])
    return {
        "run": toy.written(),
        "pose": toy.written("df", "action+pose"),
        "rooms": toy.rooms,
        "mazes": toy.mazes,
        "missing": inputs / "none" / "missing",
        "empty": inputs / "empty",
        "notes": inputs / "notes.txt",
        "junk": inputs / "junk.npz",
        "tensors": inputs / "tensors.safetensors",
        "cut": inputs / "cut.safetensors",
        "quick": EXPERIMENT,
        "typo": str(EXPERIMENT).replace("quick", "quik"),
    }


def command(given: str, mode: str, places: dict[str, Path], workdir: Path) -> list[str]:
    """The command line of a mode with what is given, in place of a sound value or beside it."""
    words = [word.format(**places) for word in given.replace("{present}", PRESENT).split()]
    options = {} if mode == "compare" else {"--config": f"{EXPERIMENT}:lstm-f"}
    if mode == "compare":
        options |= {"--config": str(EXPERIMENT), "--variants": "lstm-f", "--no-ablations": None}
    options |= {"--mode": mode, "--workdir": str(places["run"] if mode in STORED.split() else workdir)}
    values = {key: str(value).lower() for key, value in SETTINGS.items()}
    for data in ("data", "evaluate"):
        values |= {f"{data}.path": str(places["missing"]), f"{data}.auto_make": "true"}
    last = []
    for index, word in enumerate(words):
        key, before = word.partition("=")[0], words[index - 1] if index else ""
        if word.endswith("!"):  # without the prefix that it needs
            last.append(word[:-1])
        elif word.startswith("--"):
            options[word] = None
        elif before.startswith("--") and not before.startswith("--no"):
            options[before] = word.strip("'")
        else:
            values.pop(key, None)
            last.append(f"--config.{word}")
    if "evaluate.variants" in given:
        del options["--variants"]
    flat = [
        part for option, value in options.items() for part in ([option] if value is None else [option, value])
    ]
    return [*flat, *(f"--config.{key}={value}" for key, value in values.items()), *last]


def content(*directories: Path) -> dict[Path, tuple[int, int]]:
    """Time and size of everything in some directories."""
    paths = [path for directory in directories for path in (directory, *directory.rglob("*"))]
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in paths}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.given)
def test_a_mistake_is_refused_before_anything_is_made(mistake, places, tmp_path, monkeypatch, capsys, caplog):
    def forbidden(*_):
        raise AssertionError("data were made or read, jobs started, or frames generated")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = {datasets: "run_command", compare: "run_jobs", rollout: "start", Episodes: "read"}
    for module, function in made.items():
        monkeypatch.setattr(module, function, forbidden)
    monkeypatch.setattr(compare, "find_devices", lambda: (True, 1))
    shared = [places[name] for name in ("run", "pose", "rooms", "mazes")]
    before = content(tmp_path, places["notes"].parent, *shared)
    for mode in mistake.each:
        COMPILED.clear()
        arguments = command(mistake.given, mode, places, tmp_path / "runs")
        try:
            status = main(arguments)
        except SystemExit as stop:
            status = stop.code
        captured = capsys.readouterr()
        where = f"{mode}: {captured.err}"
        assert status == mistake.status, where
        assert 1 <= len(captured.err.splitlines()) <= 3 and len(captured.err) < 900, where
        words = [word.format(**places) for word in mistake.words.split()]
        assert [word for word in words if word not in captured.err] == [], where
        assert captured.out == "" and not caplog.records, where
        compiles = mode in ("evaluate", "rollout")  # conversions, as a model is loaded
        assert COMPILED == [] or compiles, where
        assert content(tmp_path, places["notes"].parent, *shared) == before, where


def test_every_mode_is_tried_with_many_mistakes():
    counted = Counter(mode for mistake in MISTAKES for mode in mistake.each)
    assert set(counted) == set(MODES) and min(counted.values()) > 20, counted
