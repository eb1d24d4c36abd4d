"""The table of sessions, on a run that tests share."""

from benchmarks import sessions


def test_every_count_has_a_row(toy, capsys):
    command = [
        "--workdir",
        str(toy.written()),
        "--data",
        str(toy.mazes),
        "--counts",
        "1",
        "3",
        "--frames",
        "4",
    ]
    sessions.main([*command, "--lanes", "1"])
    first, head, *rows = capsys.readouterr().out.splitlines()
    assert "sampler steps" in first and head.split()[0] == "sessions"
    one, three = ([float(x) for x in row.split()] for row in rows)
    assert (one[0], three[0]) == (1, 3)
    for count, each, together, p50, p95, p99, size in (one, three):
        assert abs(together - count * each) <= 0.1 * count and p50 <= p95 <= p99 and size > 0
        assert 0.1 < each * p50 / 1000 < 10
    assert one[-1] == three[-1]
