"""The record of a run: what is in it, what a restart and a full disk make of it."""

import io
import json
import logging
import math
import os
import struct
import subprocess
import sys
import textwrap
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from rad_jax.training import log
from rad_jax.training.log import Progress, Writer
from tests.videos import read_video


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def events(workdir):
    """All events, parsed from the record format: length, checksum, body, checksum."""
    found = []
    for path in sorted((workdir / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            found.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return sorted(found, key=lambda event: event.wall_time)


def test_one_line_and_one_point_per_value(tmp_path):
    writer = Writer(tmp_path)
    writer.scalars(10, {"loss": jnp.float32(0.5), "grad_norm": np.float64(2.25), "time/seconds": 3})
    writer.scalars(20, {"loss": 0.25})
    assert lines(tmp_path) == [
        {"step": 10, "loss": 0.5, "grad_norm": 2.25, "time/seconds": 3.0},
        {"step": 20, "loss": 0.25},
    ]
    points = [(e.step, v.tag, v.simple_value) for e in events(tmp_path) for v in e.summary.value]
    assert points == [
        (10, "loss", 0.5),
        (10, "grad_norm", 2.25),
        (10, "time/seconds", 3.0),
        (20, "loss", 0.25),
    ]
    writer.close()


def test_what_is_not_finite_is_valid_json(tmp_path):
    writer = Writer(tmp_path)
    writer.scalars(1, {"a": math.nan, "b": math.inf, "c": jnp.float32(-jnp.inf), "d": 1e-30})
    writer.close()

    def refuse(constant):
        raise AssertionError(constant)

    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=refuse) == {"step": 1, "a": None, "b": None, "c": None, "d": 1e-30}


def test_videos(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (5, 8, 12, 3)).astype(np.uint8)
    writer = Writer(tmp_path)
    writer.video(4, "walk", frames, fps=10)
    writer.close()
    (moving,) = (v.image for e in events(tmp_path) for v in e.summary.value)
    assert (moving.height, moving.width) == (8, 12)
    gif = Image.open(io.BytesIO(moving.encoded_image_string))
    assert (gif.format, gif.n_frames, gif.info["duration"]) == ("GIF", 5, 100)
    np.testing.assert_array_equal(np.asarray(gif.convert("RGB")).shape, (8, 12, 3))
    assert len(read_video(tmp_path / "walk" / "00000004.mp4")) == 5


def test_a_restart_drops_what_was_ahead_of_the_checkpoint(tmp_path):
    def train(workdir, first, last, resume_step):
        writer = Writer(workdir, resume_step)
        for step in range(first, last + 1):
            writer.scalars(step, {"loss": 1 / step, "time/seconds": resume_step + 0.1})
        writer.close()

    train(tmp_path / "straight", 1, 9, 0)
    train(tmp_path / "killed", 1, 7, 0)
    with open(tmp_path / "killed" / "metrics.jsonl", "a") as file:
        file.write('{"step": 8, "lo')
    train(tmp_path / "killed", 5, 9, 4)

    def timeless(workdir):
        return [{k: v for k, v in line.items() if not k.startswith("time/")} for line in lines(workdir)]

    assert timeless(tmp_path / "killed") == timeless(tmp_path / "straight")
    # TensorBoard is told to forget the same steps, and the events of both processes are kept.
    starts = [e.step for e in events(tmp_path / "killed") if e.session_log.status]
    assert starts == [1, 5] and len(list((tmp_path / "killed" / "tensorboard").iterdir())) == 2
    assert sorted(os.listdir(tmp_path / "killed")) == ["metrics.jsonl", "tensorboard"]


def test_a_new_start_in_a_used_directory_begins_anew_and_keeps_the_events(tmp_path, monkeypatch):
    """Also if it is in the same second, and a process of the same number, as in containers."""
    monkeypatch.setattr(time, "time", lambda: 1e9)
    monkeypatch.setattr(time, "monotonic_ns", lambda: 7)
    for _ in range(2):
        writer = Writer(tmp_path)
        writer.scalars(1, {"loss": 1.0})
        writer.close()
    assert len(lines(tmp_path)) == 1
    assert len([v for e in events(tmp_path) for v in e.summary.value]) == 2


def test_half_a_line_at_the_right_step_is_dropped(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1, "a": 1.0}\n\xff\xfe\n[1]\n{"step": 2, "a": 2.0}')
    Writer(tmp_path, 2).close()
    assert lines(tmp_path) == [{"step": 1, "a": 1.0}]


def test_lines_that_are_no_records_are_dropped(tmp_path):
    lines = ["[" * 90_000, "{}", "[]", '{"step": "1"}', '{"step": true}', '{"step": 1e999}', '{"step": 2}']
    (tmp_path / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    Writer(tmp_path, 6).close()
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 2}\n'


def test_a_full_disk_warns_once_and_training_goes_on(tmp_path, caplog):
    writer = Writer(tmp_path)
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")  # not before: it can be read without end
    with caplog.at_level(logging.WARNING, "rad_jax"):
        for step in range(3):
            writer.scalars(step, {"loss": 1.0})
        writer.close()
    [warning] = [r.getMessage() for r in caplog.records]
    assert "metrics.jsonl is not complete, training continues" in warning and "No space left" in warning
    assert [v.simple_value for e in events(tmp_path) for v in e.summary.value] == [1.0] * 3


def test_a_working_directory_that_cannot_be_written_warns_once_each(tmp_path, caplog):
    (tmp_path / "file").write_text("not a directory")
    with caplog.at_level(logging.WARNING, "rad_jax"):
        writer = Writer(tmp_path / "file")
        for step in range(3):
            writer.scalars(step, {"loss": 1.0})
        writer.close()
    assert len(caplog.records) == 2
    assert (tmp_path / "file").read_text() == "not a directory"


def test_a_trace_that_cannot_be_written_is_a_warning_and_leaves_no_part(tmp_path, monkeypatch, caplog):
    def start(directory):
        (directory / "old.pb").parent.mkdir(parents=True, exist_ok=True)
        (directory / "old.pb").touch()

    def stop():
        (tmp_path / "profile" / "host.xplane.pb").write_text("half")
        raise RuntimeError("OUT_OF_RANGE: host.xplane.pb; No space left on device")

    monkeypatch.setattr(jax.profiler, "start_trace", start)
    monkeypatch.setattr(jax.profiler, "stop_trace", stop)
    writer = Writer(tmp_path)
    with writer.profile():
        pass
    writer.close()
    (warning,) = (record.getMessage() for record in caplog.records)
    assert str(tmp_path / "profile") in warning and "No space left" in warning
    assert [path.name for path in (tmp_path / "profile").iterdir()] == ["old.pb"]


def test_other_processes_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    writer = Writer(tmp_path)
    writer.scalars(1, {"loss": 1.0})
    writer.close()
    assert not list(tmp_path.iterdir())


def test_progress_counts_speed_and_remaining_time(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = Progress(1000, frames_per_step=40, first_step=200)
    now[0] += 50  # ten steps, most of the time is compilation
    assert progress.report(210) == {
        "time/seconds": 50.0,
        "time/steps_per_second": 0.2,
        "time/frames_per_second": 8.0,
        "time/eta_seconds": 790 / 0.2,
    }
    now[0] += 5
    second = progress.report(220)
    assert second["time/steps_per_second"] == 2.0 and second["time/eta_seconds"] == 780 / 2
    assert second[log.STEP_SECONDS] == 0.5
    now[0] += 10
    third = progress.report(260)
    assert third["time/steps_per_second"] == 4.0 and third["time/frames_per_second"] == 160.0
    assert third["time/eta_seconds"] == pytest.approx(740 / (50 / 15)) and third["time/seconds"] == 65.0
    line = progress.line(260, {"loss": np.float32(0.12345), "grad_norm": 1.5, **third})
    assert line == "step  260/1000  loss 0.1235  grad norm 1.500  4.00 steps/s  160 frames/s  ETA 03:42"


def test_nothing_needs_tensorflow_or_torch(tmp_path):
    program = """
        import sys
        sys.modules["tensorflow"] = sys.modules["torch"] = None
        import numpy as np
        from rad_jax.training import estimate, log, loop
        writer = log.Writer(sys.argv[1])
        writer.scalars(1, {"loss": 1.0})
        writer.close()
        assert "Total" in loop.get_parameter_overview({"a": np.zeros(2)}, include_stats=False)
    """
    subprocess.run([sys.executable, "-W", "error", "-c", textwrap.dedent(program), tmp_path], check=True)
    assert len(lines(tmp_path)) == 1
