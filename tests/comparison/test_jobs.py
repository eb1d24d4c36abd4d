"""Jobs side by side: their order, their output, their cores, and that none outlives the others."""

import os
import signal
import subprocess
import sys
import time

import pytest

from rad_jax.comparison.jobs import JobFailed, find_devices, places, run_jobs, share_of_cores


def run(slots, **jobs):
    """Runs jobs whose commands are these programs."""
    parts = {
        name: {f"part {i}": [sys.executable, "-c", code] for i, code in enumerate(codes)}
        for name, codes in jobs.items()
    }
    run_jobs(parts, slots, {"COLOUR": "blue"})


def test_lines_are_marked_and_all_jobs_run(capsys):
    run(2, df=["print('one')"], lstm_f=["import os; print(os.environ['COLOUR'])"])
    assert {"    df | one", "lstm_f | blue"} <= set(capsys.readouterr().out.splitlines())


def test_jobs_in_two_slots_run_at_the_same_time(tmp_path):
    """Each waits for a file that only the other writes."""
    code = (
        "import pathlib, time; here = pathlib.Path({0!r}); (here / {1!r}).touch()\n"
        "while not (here / {2!r}).exists(): time.sleep(0.01)"
    )
    there = str(tmp_path)
    run(2, a=[code.format(there, "a", "b")], b=[code.format(there, "b", "a")])


def test_one_slot_runs_one_after_another_and_a_job_is_a_chain(tmp_path, capsys):
    log = tmp_path / "log"
    code = f"file = open({str(log)!r}, 'a'); file.write({{!r}})"
    run(1, **{name: [code.format(f"{name}{i} ") for i in range(2)] for name in "abc"})
    assert log.read_text() == "a0 a1 b0 b1 c0 c1 "
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "[1/3] a: part 0" and said[1].startswith("[1/3] a: part 0 done after ")
    assert len(said) == 12


def test_a_failure_is_named_with_its_last_lines_and_the_others_finish(tmp_path, capfd):
    done, later = tmp_path / "done", tmp_path / "later"
    bad = "print('line one'); import sys; print('out of memory', file=sys.stderr); sys.exit(3)"
    good = f"import time, pathlib; time.sleep(1.5); pathlib.Path({str(done)!r}).touch()"
    touch = f"import pathlib; pathlib.Path({str(later)!r}).touch()"
    with pytest.raises(JobFailed) as caught:
        run(2, bad=[bad, touch], good=[good, touch], next=[touch])
    lines = str(caught.value).splitlines()
    assert lines[0] == "bad: part 0 ended with status 3; its last lines:"
    assert [line.strip() for line in lines[1:]] == ["line one", "out of memory"]
    assert done.exists() and not later.exists()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_jobs(ending, tmp_path, root):
    pid = tmp_path / "pid"
    inner = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    outer = (
        "import signal, sys; from rad_jax.comparison.jobs import *\n"
        # Of a shell's background job, as this suite may be, children inherit that interrupts are ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"run_jobs({{'a': {{'wait': [sys.executable, '-c', {inner!r}]}}}}, 1, {{}})"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    process = subprocess.Popen([sys.executable, "-c", outer], cwd=root, **pipes)
    while not (pid.exists() and pid.read_text()):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(ending)
    printed, _ = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "a: wait stopped after" in printed and "FAILED" not in printed
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_cores_are_shared_out():
    first, second = share_of_cores(0, 2), share_of_cores(1, 2)
    assert not first & second
    assert len(first) == len(second) == len(os.sched_getaffinity(0)) // 2


def test_a_job_sees_its_cores_alone(capsys):
    code = "import os; print(sorted(os.sched_getaffinity(0)))"
    # The affinity is set right after the start: a moment later it holds.
    run(len(os.sched_getaffinity(0)), a=[f"import time; time.sleep(0.3); {code}"])
    assert f"a | {[min(os.sched_getaffinity(0))]}\n" in capsys.readouterr().out


def test_places_on_a_cpu_are_its_cores():
    cores = len(os.sched_getaffinity(0))
    assert find_devices() == (True, 1)
    assert [places(jobs, on_cpu=True) for jobs in (0, 1, 1000)] == [1, 1, cores]
    assert places(1000, on_cpu=False) == 1


def test_a_probe_that_fails_is_an_error(monkeypatch):
    """And does not count as an accelerator."""
    monkeypatch.setenv("JAX_PLATFORMS", "typewriter")
    with pytest.raises(JobFailed, match="typewriter"):
        find_devices()
