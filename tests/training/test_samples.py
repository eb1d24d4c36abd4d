"""Sample videos show the first episodes that a clip fits into, and training goes on where one of them is damaged."""

import numpy as np
import pytest

from rad_jax.config import override
from rad_jax.data import DamagedRecord, Episodes, write_split
from rad_jax.runs.training_run import open_training_run
from rad_jax.training import samples


def test_episodes_that_are_short_or_damaged_are_not_shown(toy, tmp_path, monkeypatch):
    run = open_training_run(toy.config())
    rooms, clip = run.episodes, run.config.data.clip
    stops = [clip - 1, clip, clip + 3, 5, clip]

    def make(indices):
        for index in indices:
            yield {**rooms.read(index, 0, stops[index]), **rooms.static(index)}

    write_split(tmp_path, "train", rooms.spec, make, len(stops), episodes_per_shard=8)
    shown = []

    def predict(run, params, clips, batch):
        shown.append([clip.name for clip in clips])
        return [np.zeros((len(clip.frames) - clip.context, *clip.frames.shape[1:])) for clip in clips]

    monkeypatch.setattr(samples, "predict", predict)
    frames = samples.sample_frames(run._replace(episodes=Episodes(tmp_path, "train")), None)
    assert shown == [["train-000001", "train-000002", "train-000004"]]
    assert frames.shape[0] == clip and frames.shape[2] == 3 * 16
    path = next(tmp_path.glob("*array_record*"))
    content = bytearray(path.read_bytes())
    content[content.index(rooms.read(2, 0, clip, ["frames"])["frames"].tobytes()) + 9] ^= 4
    path.write_bytes(content)
    damaged = run._replace(episodes=Episodes(tmp_path, "train"))
    with pytest.raises(DamagedRecord, match="train-000002"):
        samples.sample_frames(damaged, None)
    allowing = damaged._replace(config=override(run.config, {"data.max_damaged": 1}))
    samples.sample_frames(allowing, None)
    assert shown[1:] == [["train-000001", "train-000004"]]
