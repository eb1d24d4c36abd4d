"""Which runs a comparison has, and what is refused."""

import dataclasses

import pytest

from rad_jax.comparison.runs import expand, list_runs
from rad_jax.config import NAMES, modes
from tests.config.refusals import assert_refused

QUICKSTART = "experiments/quickstart.py"
MEMORIES = [name for name in NAMES if name != "none"]


@pytest.fixture(autouse=True)
def at_the_root(root, monkeypatch):
    monkeypatch.chdir(root)


def test_all_stands_for_every_registered_memory():
    names = expand("all")
    every = [f"{memory}-{mode}" for memory in MEMORIES for mode in "cf" if mode in modes(memory)]
    assert names[0] == "df" and len(names) == 1 + len(every) and {"lstm-c", "bank-f"} < set(every)
    assert set(every) == set(names[1:]) and "bank-c" not in every
    others = [name for name in names if name != "lstm-f"]
    assert set(every) - set(expand("all", posed=False)) == {"atlas-f"}
    assert expand(" lstm-f , all,lstm-s2,lstm-f") == ["lstm-f", *others, "lstm-s2"]


def test_runs_are_what_a_user_would_run_alone():
    comparison = list_runs(QUICKSTART, "df,lstm-f,lstm-s2", ["train.steps=7"], ablations=False)
    assert [run.name for run in comparison.runs] == ["df", "lstm-f", "lstm-s2"]
    modes = [(run.memory, run.mode) for run in comparison.runs]
    assert modes == [("none", ""), ("lstm", "f"), ("lstm", "s")]
    assert comparison.runs[1].arguments == ("--config", f"{QUICKSTART}:lstm-f", "--config.train.steps=7")
    assert comparison.baseline.name == "df" and comparison.runs[1].config.train.steps == 7
    assert comparison.action == {} and comparison.frames == {}


def test_the_experiment_names_its_variants():
    comparison = list_runs(QUICKSTART, None, ["evaluate.variants=df,lstm-c"], ablations=False)
    assert [run.name for run in comparison.runs] == ["df", "lstm-c"]
    for condition, posed in (("action", False), ("action+pose", True)):
        comparison = list_runs(QUICKSTART, None, [f"data.condition={condition}"], ablations=False)
        assert [run.name for run in comparison.runs] == expand("all", posed)


@pytest.mark.parametrize("memory", [memory for memory in MEMORIES if "c" in modes(memory)])
def test_table_4_trains_what_is_not_a_variant_already(memory):
    """Slot gates need the action, so that there the pair without them is compared."""
    comparison = list_runs(QUICKSTART, f"{memory}-c", ["memory.gates=standard"])
    chunk = f"{memory}-c"
    without, with_action = comparison.action[memory]
    by_name = {run.name: run.config for run in comparison.runs}
    assert by_name[without].memory.features == 0 and by_name[with_action].memory.features > 0
    assert len(comparison.runs) == 2 and chunk in (without, with_action)
    for name in comparison.action[memory]:
        assert dataclasses.replace(by_name[name].memory, action=None) == dataclasses.replace(
            by_name[chunk].memory, action=None
        )
    assert [run.name for run in comparison.variants] == [chunk]
    assert comparison.frames == {}


def test_slot_gates_are_left_out_of_both_rows_of_table_4():
    comparison = list_runs(QUICKSTART, "lstm-c", ["memory.gates=slots"])
    assert comparison.action == {"lstm": ("lstm-c-noaction", "lstm-c-action")}
    without, with_action = (comparison.run(name).config.memory for name in comparison.action["lstm"])
    assert without.gates == with_action.gates == "standard"
    assert (without.features, with_action.features > 0) == (0, True)
    assert comparison.run("lstm-c").config.memory.gates == "slots"
    assert "--config.memory.gates=slots" not in comparison.run("lstm-c-action").arguments


def test_table_5_trains_lstm_f_on_the_other_frames():
    comparison = list_runs(QUICKSTART, "lstm-f", [])
    assert comparison.frames == {"clean": "lstm-f", "noised": "lstm-f-noised"}
    assert comparison.run("lstm-f-noised").config.memory.frames == "noised"
    comparison = list_runs(QUICKSTART, "lstm-f", ["memory.frames=noised"])
    assert comparison.frames == {"clean": "lstm-f-clean", "noised": "lstm-f"}
    assert comparison.run("lstm-f-clean").config.memory.frames == "clean"
    comparison = list_runs(QUICKSTART, "lstm-f", ["memory.frames=resampled"])
    assert comparison.frames == {"resampled": "lstm-f", "clean": "lstm-f-clean"}


@pytest.mark.parametrize(
    ("experiment", "variants", "overrides", "words"),
    [
        (QUICKSTART, "df,lstm-x", [], "lstm-f?"),
        (QUICKSTART, " , ", [], "--variants ' , '"),
        (f"{QUICKSTART}:lstm-f", None, [], f"--config {QUICKSTART}:lstm-f"),
        (QUICKSTART, None, ["memory.kind=lstm"], "memory.kind=lstm"),
        (QUICKSTART, "lstm-s9", [], "memory.stride=9"),
    ],
)
def test_what_cannot_be_is_one_line(experiment, variants, overrides, words):
    assert_refused(list_runs, experiment, variants, overrides, words=[words], lines=1)
