"""Which runs a comparison consists of: the variants, and what the paper's Tables 4 and 5 add to them."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rad_jax.comparison.variants import OF_THE_VARIANT, expand
from rad_jax.config import Config, ConfigError, flatten, load_config
from rad_jax.runs.stored_config import idle_keys


@dataclass(frozen=True)
class Run:
    """One training of the comparison.

    Attributes:
        name: variant, and what is different: "lstm-c", "lstm-c+heads=1", of an ablation "lstm-c-noaction". Its folder has this
            name.
        config: what it runs with.
        arguments: for `rad_jax.main`, without work directory and mode.
        ablation: whether it appears in Table 4 or 5 only.
        plain: whether it is as the experiment has this variant.
    """

    name: str
    config: Config
    arguments: tuple[str, ...]
    ablation: bool = False
    plain: bool = True

    @property
    def memory(self) -> str:
        """Name of the memory; "none" without one."""
        return self.config.memory.kind

    @property
    def mode(self) -> str:
        """How far the window slides: "f" one frame, "c" its whole length, "s" a stride in between; "" without a memory."""
        memory = self.config.memory
        if memory.kind == "none":
            return ""
        if memory.shared:
            return "f"
        return "c" if memory.stride == self.config.model.window else "s"


@dataclass(frozen=True)
class Comparison:
    """All runs in the order of the tables, the variants first.

    Attributes:
        action: Table 4: memory -> the names of its chunk-wise runs without and with the action.
        frames: Table 5: what enters the memory -> name of the run of lstm-f.
    """

    runs: tuple[Run, ...]
    action: dict[str, tuple[str, str]]
    frames: dict[str, str]

    @property
    def variants(self) -> list[Run]:
        """The runs that are not ablations."""
        return [run for run in self.runs if not run.ablation]

    @property
    def plain(self) -> list[Run]:
        """The variants that are as the experiment has them."""
        return [run for run in self.variants if run.plain]

    @property
    def memories(self) -> list[str]:
        """The names of the memories of the variants."""
        return list(dict.fromkeys(run.memory for run in self.variants if run.memory != "none"))

    def seeds(self) -> list[list[Run]]:
        """The variants that were trained with several seeds, and the runs of each."""
        groups: dict[Config, list[Run]] = {}
        for run in self.variants:
            groups.setdefault(dataclasses.replace(run.config, seed=0), []).append(run)
        return [runs for runs in groups.values() if len(runs) > 1]

    @property
    def baseline(self) -> Run | None:
        """The run without memory, if there is one."""
        return next((run for run in self.plain if run.memory == "none"), None)

    def run(self, name: str) -> Run | None:
        """The run of a name, if it is one of the comparison."""
        return next((run for run in self.runs if run.name == name), None)

    def find(self, memory: str, mode: str) -> Run | None:
        """The run of a memory in a mode, as the experiment has it, if there is one."""
        return next((run for run in self.plain if (run.memory, run.mode) == (memory, mode)), None)


def _refuse_twice(runs: Sequence[Run], named: str) -> None:
    """Raises `ConfigError` for two variants that are one and the same run: their difference would be taken for a spread."""
    first: dict[tuple, str] = {}
    for run in runs:
        idle = {"name", *idle_keys(run.config)}
        counts = tuple((key, value) for key, value in flatten(run.config).items() if key not in idle)
        if counts in first:
            raise ConfigError(
                f"{named}: {first[counts]} and {run.name} are the same run; leave one of them out"
            )
        first[counts] = run.name


def list_runs(
    experiment: str, variants: str | None, overrides: Sequence[str], ablations: bool = True
) -> Comparison:
    """The runs of ``experiment``, a file without a variant; all their configurations are checked.

    Args:
      variants: names with commas, in the order of the tables, see `rad_jax.comparison.variants`. None: what the experiment says
        (``evaluate.variants``).
      overrides: ``section.key=value``, for all runs.
      ablations: whether to add the runs of Tables 4 and 5.

    Raises:
      ConfigError: in one or two lines.
    """
    if not experiment.endswith(".py"):
        raise ConfigError(
            f"--config {experiment}: --mode compare takes an experiment without a variant; choose with --variants df,lstm-f"
        )
    for text in overrides:
        if text.partition("=")[0].strip() in OF_THE_VARIANT:
            raise ConfigError(f"{text}: --mode compare varies this key itself; choose with --variants")

    def run(name: str, variant: str, changes: Mapping[str, str], ablation: bool = False) -> Run:
        kept = [text for text in overrides if text.partition("=")[0].strip() not in changes]
        values = [*kept, *(f"{key}={value}" for key, value in changes.items())]
        path = f"{experiment}:{variant}"
        arguments = "--config", path, *(f"--config.{value}" for value in values)
        return Run(name, load_config(path, values), arguments, ablation, not changes)

    def ablation(of: Run, word: str, changes: Mapping[str, str]) -> str:
        """Adds a run that differs from a variant; returns its name."""
        # Figure 3 shows variants only.
        runs.append(run(f"{of.name}-{word}", of.name, {**changes, "evaluate.figure3": "false"}, True))
        return runs[-1].name

    base, named = load_config(f"{experiment}:lstm-f", overrides), "--variants"
    if variants is None:
        named, variants = "evaluate.variants", base.evaluate.variants
    listed = [run(*variant) for variant in expand(variants, base.data.condition != "action", named)]
    _refuse_twice(listed, named)
    runs, action, frames = list(listed), {}, {}
    for chunk in [r for r in listed if r.plain and r.mode == "c"] if ablations else []:
        memory = chunk.config.memory
        # Slot gates are functions of the action, so a run without the action cannot have them. A fair pair has neither.
        slots = memory.kind == "lstm" and memory.gates == "slots"
        gates = {"memory.gates": "standard"} if slots else {}
        pair = []
        for wanted, word in ((False, "noaction"), (True, "action")):
            same = not slots and (memory.features > 0) == wanted
            changes = {"memory.action": str(wanted).lower(), **gates}
            pair.append(chunk.name if same else ablation(chunk, word, changes))
        action[chunk.memory] = pair[0], pair[1]
    for frame in [r for r in listed if r.plain and (r.memory, r.mode) == ("lstm", "f")] if ablations else []:
        other = "noised" if frame.config.memory.frames == "clean" else "clean"
        found = ablation(frame, other, {"memory.frames": other})
        frames = {frame.config.memory.frames: frame.name, other: found}
    return Comparison(tuple(runs), action, frames)
