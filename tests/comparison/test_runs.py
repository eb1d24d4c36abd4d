"""Which runs a comparison has, and what is refused."""

import dataclasses

import pytest

from rad_jax.comparison import variants
from rad_jax.comparison.runs import list_runs
from rad_jax.config import NAMES, modes
from tests.config.refusals import assert_refused

QUICKSTART = "experiments/quickstart.py"
MEMORIES = [name for name in NAMES if name != "none"]


@pytest.fixture(autouse=True)
def at_the_root(root, monkeypatch):
    monkeypatch.chdir(root)


def test_all_stands_for_every_registered_memory():
    def expand(*given):
        return [variant.name for variant in variants.expand(*given)]

    names = expand("all")
    every = [f"{memory}-{mode}" for memory in MEMORIES for mode in "cf" if mode in modes(memory)]
    assert names[0] == "df" and len(names) == 1 + len(every) and {"lstm-c", "bank-f"} < set(every)
    assert set(every) == set(names[1:]) and "bank-c" not in every
    others = [name for name in names if name != "lstm-f"]
    assert set(every) - set(expand("all", False)) == {"atlas-f"}
    assert expand(" lstm-f , all,lstm-s2,lstm-f") == ["lstm-f", *others, "lstm-s2"]


def test_runs_are_what_a_user_would_run_alone():
    comparison = list_runs(QUICKSTART, "df,lstm-f,lstm-s2", ["train.steps=7"], ablations=False)
    assert [run.name for run in comparison.runs] == ["df", "lstm-f", "lstm-s2"]
    modes = [(run.memory, run.mode) for run in comparison.runs]
    assert modes == [("none", ""), ("lstm", "f"), ("lstm", "s")]
    assert comparison.runs[1].arguments == ("--config", f"{QUICKSTART}:lstm-f", "--config.train.steps=7")
    assert comparison.baseline.name == "df" and comparison.runs[1].config.train.steps == 7
    assert comparison.action == {} and comparison.frames == {}


def test_a_variant_may_have_settings_of_its_own():
    """They are those of the command that a user would give, and the folder is named by them."""
    listed = "df, lstm-f,lstm-f + hidden=8+ seed=1 ,arl2-f+memory.rule=sum+block=(2,2),lstm-f+train.steps=9"
    comparison = list_runs(QUICKSTART, listed, ["train.steps=7"], ablations=True)
    names = ["df", "lstm-f", "lstm-f+hidden=8+seed=1", "arl2-f+rule=sum+block=(2,2)", "lstm-f+train.steps=9"]
    assert [run.name for run in comparison.variants] == names
    by_name = {run.name: run for run in comparison.runs}
    changed = by_name[names[2]]
    assert (changed.config.memory.hidden, changed.config.seed, changed.config.train.steps) == (8, 1, 7)
    path = f"{QUICKSTART}:lstm-f"
    settings = "train.steps=7", "memory.hidden=8", "seed=1"
    assert changed.arguments == ("--config", path, *(f"--config.{setting}" for setting in settings))
    assert by_name[names[3]].config.memory.rule == "sum" and by_name[names[3]].config.memory.block == (2, 2)
    assert by_name[names[4]].arguments == ("--config", path, "--config.train.steps=9")
    # Tables that compare modes and frames are about the variants as they are.
    assert comparison.find("lstm", "f").name == "lstm-f" and comparison.find("arl2", "f") is None
    assert comparison.frames == {"clean": "lstm-f", "noised": "lstm-f-noised"}
    assert comparison.seeds() == []


def test_a_memory_of_the_users_own_is_a_variant():
    own = "lstm-f+kind=tests.model.mixers.own_memory:Mean"
    (run,) = list_runs(QUICKSTART, own, [], ablations=False).runs
    assert run.memory == "tests.model.mixers.own_memory:Mean" and run.name == own


def test_runs_that_differ_in_their_seed_alone_are_seeds_of_one_variant():
    listed = "df,lstm-f,lstm-f+hidden=8,lstm-f+seed=1,lstm-f+hidden=8+seed=2,lstm-f+seed=3"
    groups = list_runs(QUICKSTART, listed, [], ablations=False).seeds()
    assert [[run.config.seed for run in runs] for runs in groups] == [[0, 1, 3], [0, 2]]
    assert [runs[0].name for runs in groups] == ["lstm-f", "lstm-f+hidden=8"]


def test_the_experiment_names_its_variants():
    comparison = list_runs(QUICKSTART, None, ["evaluate.variants=df,lstm-c"], ablations=False)
    assert [run.name for run in comparison.runs] == ["df", "lstm-c"]
    for condition, posed in (("action", False), ("action+pose", True)):
        comparison = list_runs(QUICKSTART, None, [f"data.condition={condition}"], ablations=False)
        assert [run.name for run in comparison.runs] == [v.name for v in variants.expand("all", posed)]


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
    ("experiment", "listed", "overrides", "words"),
    [
        (QUICKSTART, "df,lstm-x", [], "lstm-f?"),
        (QUICKSTART, " , ", [], "--variants ' , '"),
        (f"{QUICKSTART}:lstm-f", None, [], f"--config {QUICKSTART}:lstm-f"),
        (QUICKSTART, None, ["memory.kind=lstm"], "memory.kind=lstm"),
        (QUICKSTART, "lstm-s9", [], "memory.stride=9"),
        (QUICKSTART, "lstm-f+hidden", [], "'hidden': expected KEY=VALUE"),
        (QUICKSTART, "lstm-f+hidden=../x", [], "expected KEY=VALUE"),
        (QUICKSTART, "lstm-f+hidden=", [], "expected KEY=VALUE"),
        (QUICKSTART, "lstm-f+hiden=8", [], "lstm-f+hiden=8: hiden: unknown key; did you mean memory.hidden?"),
        (QUICKSTART, "+seed=1", [], "such as lstm-f+seed=1"),
        (QUICKSTART, "lstm-f,lstm-f+seed=0", [], "lstm-f and lstm-f+seed=0 are the same run"),
        (QUICKSTART, "lstm-f+resample_levels=(1,5),lstm-f", [], "are the same run"),
        (QUICKSTART, "lstm-f+model.width=8", [], "model.width: variants differ in keys of memory"),
        (QUICKSTART, "lstm-f+memory.hiden=8", [], "memory.hidden?"),
        (QUICKSTART, "lstm-f+hidden=x", [], "memory.hidden=x"),
        (QUICKSTART, "lstm-f+data.clip=8", [], "--config.data.clip"),
        (QUICKSTART, "lstm-f+stride=2", [], "memory.stride: set by the name"),
        (QUICKSTART, "lstm-f+kind=arl2", [], "memory.kind: set by the name"),
        (QUICKSTART, "lstm-f+rule=sum", [], "memory.rule: counts for arl2 alone, not for lstm"),
        (QUICKSTART, "df+hidden=8", [], "not for none"),
        (QUICKSTART, "lstm-f+hidden=8+memory.hidden=9", [], "memory.hidden: given twice"),
    ],
)
def test_what_cannot_be_is_one_line(experiment, listed, overrides, words):
    assert_refused(list_runs, experiment, listed, overrides, words=[words], lines=1)
