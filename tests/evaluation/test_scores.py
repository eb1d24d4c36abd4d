"""Averages are computed again by hand; lengths, blocks and the order of the videos do not matter."""

import json
import weakref

import numpy as np
import pytest

from rad_jax import metrics
from rad_jax.evaluation.scores import ScoreError, nearest, score_clips
from rad_jax.metrics import video as video_metrics
from rad_jax.metrics.video import score_video
from rad_jax.rollout.predict import Clip
from tests.evaluation.toy_scores import Predicted, scores_of

LENGTHS = (5, 3, 41)  # the last is longer than a block


def videos(seed, lengths=LENGTHS, size=16):
    rng = np.random.default_rng(seed)
    return [rng.random((t, size, size, 3), dtype=np.float32) for t in lengths]


@pytest.fixture(scope="module")
def table():
    """Scores, the rows that were scored, and the truth."""
    truth = videos(0)
    rows = {
        "lstm-f": Predicted("model", [t + 0.1 * (n - 0.5) for t, n in zip(truth, videos(1))], "1000 steps"),
        "no memory": Predicted("baseline", videos(2)),
        "perfect": Predicted("oracle", truth),
    }
    return scores_of(rows, truth, [4, 5, 6]), rows, truth


def decibels(a, b):
    return -10 * np.log10(np.mean((np.clip(a, 0, 1).astype(np.float64) - b) ** 2, axis=(1, 2, 3)))


def test_score_video_is_frame_by_frame():
    truth, prediction = videos(0)[2], videos(1)[2] * 1.4 - 0.2
    score = score_video(prediction, truth)
    clipped = np.clip(prediction, 0, 1)
    pairs = {
        "psnr": metrics.psnr,
        "ssim": metrics.ssim,
        "psnr_coarse": metrics.coarse_psnr,
        "histogram_intersection": metrics.histogram_intersection,
    }
    for name, metric in pairs.items():
        np.testing.assert_allclose(score.frames[name], metric(clipped, truth), rtol=1e-4, atol=1e-5)
        assert score.video[name] == pytest.approx(score.frames[name].mean())
    sharpness = metrics.laplacian_energy(clipped) / metrics.laplacian_energy(truth)
    assert score.video["sharpness"] == pytest.approx(float(np.median(sharpness)), rel=1e-5)
    turns = [np.asarray(metrics.horizontal_shift(v[:-1], v[1:])) for v in (clipped, truth)]
    np.testing.assert_array_equal(score.frames["yaw_error"][1:], np.abs(turns[0] - turns[1]))
    assert np.isnan(score.frames["yaw_error"][0]) and np.isnan(score.frames["motion"][0])
    change = [np.abs(np.diff(v, axis=0)).mean() for v in (clipped, truth)]
    assert score.video["motion"] == pytest.approx(change[0] / change[1], rel=1e-5)
    late = np.abs(metrics.nearest_frame(clipped, truth) - np.arange(len(truth)))
    assert score.video["retrieval_error"] == np.median(late)


def test_uint8_and_floats_score_alike():
    truth = [np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)]
    prediction = [np.random.default_rng(1).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)]
    one = score_video(prediction[0], truth[0]).video
    other = score_video(prediction[0] / np.float32(255), truth[0] / np.float32(255)).video
    assert one == pytest.approx(other)


def test_every_length_shares_one_compilation():
    def compiled():
        return {function._cache_size() for function in (video_metrics._compare, video_metrics._step)}

    for length in (3, 7, 50):
        score_video(*videos(0, (length, length), 20))
    sizes = compiled()
    score_video(*videos(1, (33, 33), 20))
    assert compiled() == sizes


def test_the_order_in_which_clips_are_predicted_does_not_matter():
    truth, predicted = videos(0), videos(1)
    clips = [Clip(str(i), video, np.zeros((len(video), 1), np.float32), 1) for i, video in enumerate(truth)]
    predictions = [(i, clip, {"m": predicted[i][1:]}) for i, clip in enumerate(clips)]
    scored = [score_clips(iter(order), None, shown=2) for order in (predictions, predictions[::-1])]
    for first, second in zip(*scored, strict=True):
        assert first.video == second.video
        assert first.scores["m"].video == second.scores["m"].video
    assert [list(clip.shown) for clip in scored[1]] == [["m"], ["m"], []]


def test_no_clip_is_in_memory_while_the_next_is_predicted():
    """Whatever the number of clips: their frames, true and predicted, die before others are made."""
    alive, most = [], []

    def one(index):
        most.append(sum(reference() is not None for reference in alive))
        clip = Clip(str(index), *videos(index, (6,)), np.zeros((6, 1), np.float32), 2)
        frames = videos(index + 9, (4,))[0]
        alive.extend(map(weakref.ref, (clip.frames, frames)))
        return index, clip, {"m": frames}

    assert len(score_clips(map(one, range(4)), None, shown=2)) == 4
    assert len(alive) == 8 and max(most) == 0


def test_average_is_over_frames_then_videos_and_differences_are_paired(table):
    scores, rows, truth = table
    per_frame = {
        name: [decibels(p, t) for p, t in zip(rows[name].frames, truth)] for name in ("lstm-f", "no memory")
    }
    per_video = {name: np.array([frames.mean() for frames in found]) for name, found in per_frame.items()}
    row, expected = scores.rows["no memory"], per_video["no memory"]
    assert row["per_video"]["psnr"] == pytest.approx(expected, abs=1e-4)
    assert scores.psnr("no memory") == pytest.approx(expected.mean(), abs=1e-4)
    assert row["standard_error"]["psnr"] == pytest.approx(expected.std(ddof=1) / 3**0.5, abs=1e-4)
    frames = np.concatenate(per_frame["no memory"])
    assert row["mean"]["psnr_pooled"] == pytest.approx(
        -10 * np.log10(np.mean(10 ** (-frames / 10))), abs=1e-4
    )
    assert abs(frames.mean() - scores.psnr("no memory")) > 1e-3  # the other order differs here
    gain, difference = per_video["lstm-f"] - expected, scores.difference("lstm-f", "no memory")
    assert difference["mean"] == pytest.approx(gain.mean(), abs=1e-3)
    assert difference["standard_error"] == pytest.approx(gain.std(ddof=1) / 3**0.5, abs=1e-3)
    assert difference["videos"] == 3


def test_curves_run_over_the_videos_that_are_long_enough(table):
    scores, rows, truth = table
    per_frame = [decibels(p, t) for p, t in zip(rows["no memory"].frames, truth)]
    curve = scores.rows["no memory"]["per_frame"]["psnr"]
    assert curve["count"] == [3] * 3 + [2] * 2 + [1] * 36
    for index, long_enough in ((2, per_frame), (4, per_frame[::2]), (40, per_frame[2:])):
        expected = np.mean([frames[index] for frames in long_enough])
        assert curve["value"][index] == pytest.approx(expected, abs=1e-4)
    assert curve["standard_error"][4] is not None and curve["standard_error"][5] is None
    yaw = scores.rows["no memory"]["per_frame"]["yaw_error"]
    assert (yaw["value"][0], yaw["count"][0], yaw["count"][1]) == (None, 0, 3)


def test_the_truth_scores_perfectly(table):
    mean = table[0].rows["perfect"]["mean"]
    assert (mean["psnr"], mean["psnr_pooled"], mean["psnr_coarse"]) == (100.0, 100.0, 100.0)
    assert mean["ssim"] == pytest.approx(1, abs=1e-6) and mean["histogram_intersection"] == pytest.approx(1)
    assert (mean["retrieval_error"], mean["yaw_error"]) == (0, 0)
    assert (mean["sharpness"], mean["motion"]) == (1, 1)


def test_result_is_strict_json_even_when_nothing_is_defined():
    still = [np.full((1, 16, 16, 3), 0.5, np.float32)]  # flat, and too short to move
    scores = scores_of({"perfect": Predicted("oracle", still)}, still, [4])
    assert json.loads(json.dumps(scores.rows, allow_nan=False)) == scores.rows
    row = scores.rows["perfect"]
    assert row["mean"]["motion"] is None and row["mean"]["sharpness"] is None
    assert row["standard_error"]["psnr"] is None
    for metric, expected in (("psnr", (0, 1)), ("motion", (None, 0))):
        mean, videos = expected
        found = scores.difference("perfect", "perfect", metric)
        assert found == {"mean": mean, "standard_error": None, "videos": videos}


def test_the_convention_travels_with_the_numbers(table):
    spec = table[0].metrics_spec
    assert spec["psnr"] == {"data_range": 1.0, "reduce": "frame>video", "cap_db": 100}
    ssim = {"window": "gaussian 11, sigma 1.5", "k": [0.01, 0.03], "region": "valid", "channels": "rgb mean"}
    assert spec["ssim"] == ssim
    assert spec["lpips"] == {"status": "absent: no weights"}
    assert spec["psnr_coarse"] == {"blur_sigma": 1.0, "decimation": 2}
    assert (spec["videos"], spec["predicted_frames"], spec["context_frames"]) == (3, [3, 41], [4, 6])


def test_bad_predictions_are_named():
    truth = videos(0)
    with pytest.raises(ScoreError, match=r"'small'.*'1'.*\(3, 8, 8, 3\)"):
        scores_of({"small": Predicted("floor", [truth[0], truth[1][:, :8, :8]])}, truth[:2], [1, 1])
    broken = truth[2].copy()
    broken[7, 0, 0, 0] = np.nan
    with pytest.raises(ScoreError, match=r"'broken'.*'0'.* 7 .*not finite"):
        scores_of({"broken": Predicted("floor", [broken])}, truth[2:], [1])


def test_nearest_is_by_distance_and_of_equals_the_last():
    given = np.array([[0.0, 0], [1, 0], [0, 1], [1, 0]])
    wanted = np.array([[0.9, 0.1], [-1, -1], [0.1, 2]])
    np.testing.assert_array_equal(nearest(wanted, given), [3, 0, 2])
