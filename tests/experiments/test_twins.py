"""The command that trains twins: what is wrong with it is said before anything is written."""

import pytest

from experiments.twins import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["experiments/quikstart.py"], "did you mean experiments/quickstart.py?"),
        (["experiments/quickstart.py", "--config.train.stpes=3"], "did you mean train.steps?"),
        (["experiments/quickstart.py", "--steps=3"], "expected --config.key=value"),
        (["experiments/quickstart.py", "--variant", "lstm-x"], "did you mean lstm-f?"),
    ],
)
def test_a_wrong_command_is_refused_before_anything_is_written(
    arguments, message, tmp_path, capsys, root, monkeypatch
):
    monkeypatch.chdir(root)
    assert main([*arguments, "--workdir", str(tmp_path / "runs")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) <= 2
    assert list(tmp_path.iterdir()) == []
