"""The command that checks a memory: what it says of sound ones, of broken ones, and of what is none."""

import re

import pytest

from rad_jax.model.memory import at_start
from rad_jax.model.mixers import check
from rad_jax.model.mixers.contract import Broken
from tests.model.mixers.own import write_package


@pytest.fixture
def package(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def lines(capsys) -> dict[str, str]:
    """The outcome of every check by its name."""
    return {line[8:].partition(":")[0]: line for line in capsys.readouterr().out.splitlines()}


def test_a_memory_that_reads_otherwise_than_it_runs_fails(package, capsys, monkeypatch):
    kind = write_package(package, "broken_reader")
    file = package / "broken_reader" / "ema.py"
    text = file.read_text().replace("self._step(state[:, None]", "self._step(0.9 * state[:, None]")
    assert text != file.read_text()
    file.write_text(text)
    some = check.contract.read_is_one_step_of_every_frame, check.contract.run_can_be_split
    monkeypatch.setattr(check.contract, "CHECKS", some)
    assert check.main([kind, "--own", "decay=0.9"]) == 1
    found = lines(capsys)
    assert len(found) == len(some) + 2
    failed = {name: line for name, line in found.items() if line.startswith("FAILED  ")}
    # A window that slides reads, prefetch runs: what follows the first memory differs.
    assert list(failed) == [
        "read is one step of every frame",
        "training is the literal loop of generation, frame-wise",
    ]
    assert all(re.search(r"differ by [\d.e+-]+ of the largest value", line) for line in failed.values())
    assert all(line.startswith("ok      ") for name, line in found.items() if name not in failed)


def test_a_window_that_starts_from_another_memory_than_it_slid_to_fails(monkeypatch, float64):
    memory = check.MemoryConfig(kind="lstm")
    monkeypatch.setattr(check, "at_start", lambda memory, k: at_start(memory, 1 - k))
    with pytest.raises(Broken, match="predict from either memory"):
        check.trains_as_the_loop(memory, "f")


def test_every_mode_of_a_whole_model_is_the_loop_and_strided_is_one_where_there_is_no_other(
    package, capsys, monkeypatch
):
    kind = write_package(package, "strided_alone")
    file = package / "strided_alone" / "ema.py"
    file.write_text(file.read_text() + '\n\nclass Strided(EMA):\n    modes = "s"\n')
    monkeypatch.setattr(check.contract, "CHECKS", ())
    assert check.main([kind.replace(":EMA", ":Strided")]) == 0
    assert list(lines(capsys)) == ["training is the literal loop of generation, strided"]


def test_what_the_memory_raises_is_a_failure(package, capsys):
    kind = write_package(package, "broken_walker")
    file = package / "broken_walker" / "ema.py"
    file.write_text(file.read_text().replace("jnp.moveaxis(every, 0, 1)", "nothing"))
    assert check.main([kind]) == 1
    found = lines(capsys)
    assert all(": NameError: name 'nothing' is not defined" in line for line in found.values()), found


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["lstn"], "did you mean lstm?"),
        (["none"], "none is no memory"),
        ([], "--table"),
        (["no.such:Thing"], "module no.such cannot be imported"),
        (["lstm", "--own", "rank=8"], "memory.own=rank=8"),
    ],
)
def test_what_is_no_memory_is_refused_in_a_line(arguments, words, capsys):
    assert check.main(arguments) == 2
    captured = capsys.readouterr()
    assert words in captured.err and len(captured.err.splitlines()) == 1 and not captured.out


def test_the_readme_has_the_table_of_memories(root, capsys):
    assert check.main(["--table"]) == 0
    table = capsys.readouterr().out
    found = re.search(
        r"<!-- memories: .*? -->\n(.*?)<!-- end of memories -->", (root / "README.md").read_text(), re.DOTALL
    )
    assert found[1] == table
    assert [row.split("`")[1] for row in table.splitlines()[2:]] == [n for n in check.MEMORIES if n != "none"]
