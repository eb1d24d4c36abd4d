"""LPIPS against its definition written out in PyTorch, on random weights that were converted; its place in an evaluation."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_prep import convert_lpips, make_maze
from rad_jax.comparison import worker
from rad_jax.evaluation.evaluate import report_tables
from rad_jax.evaluation.stored import read_scores
from rad_jax.main import main
from rad_jax.metrics import ImageError, load_lpips, lpips, video
from rad_jax.reports import text
from rad_jax.reports.tables import to_text
from rad_jax.weights import WeightsError
from tests.evaluation.toy_scores import Predicted, scores_of
from tests.toy_run import silence

torch = pytest.importorskip("torch")
F = torch.nn.functional

# Layers as torchvision lists them: (index, in, out, size, stride, padding) of convolutions, "pool", and "tap" after a ReLU.
ALEX = (
    *((0, 3, 64, 11, 4, 2), "tap", "pool"),
    *((3, 64, 192, 5, 1, 2), "tap", "pool"),
    *((6, 192, 384, 3, 1, 1), "tap"),
    *((8, 384, 256, 3, 1, 1), "tap"),
    *((10, 256, 256, 3, 1, 1), "tap"),
)
VGG = (
    *((0, 3, 64, 3, 1, 1), (2, 64, 64, 3, 1, 1), "tap", "pool"),
    *((5, 64, 128, 3, 1, 1), (7, 128, 128, 3, 1, 1), "tap", "pool"),
    *((10, 128, 256, 3, 1, 1), (12, 256, 256, 3, 1, 1), (14, 256, 256, 3, 1, 1), "tap", "pool"),
    *((17, 256, 512, 3, 1, 1), (19, 512, 512, 3, 1, 1), (21, 512, 512, 3, 1, 1), "tap", "pool"),
    *((24, 512, 512, 3, 1, 1), (26, 512, 512, 3, 1, 1), (28, 512, 512, 3, 1, 1), "tap"),
)
LAYERS, POOL = {"alex": ALEX, "vgg": VGG}, {"alex": 3, "vgg": 2}


def random_weights(net, seed=0):
    """A backbone as torchvision's state dict and heads as those of the package lpips, which are not negative."""
    draw = torch.Generator().manual_seed(seed)
    backbone, heads, outputs = {}, {}, 0
    for layer in LAYERS[net]:
        if layer == "tap":
            heads[f"lin{len(heads)}.model.1.weight"] = torch.rand(1, outputs, 1, 1, generator=draw)
        elif layer != "pool":
            index, inputs, outputs, size, *_ = layer
            weight = torch.randn(outputs, inputs, size, size, generator=draw)
            backbone[f"features.{index}.weight"] = (2 / (inputs * size**2)) ** 0.5 * weight
            backbone[f"features.{index}.bias"] = 0.3 * torch.randn(outputs, generator=draw)
    return backbone, heads


def literal_lpips(net, backbone, heads, a, b):
    """Of images (m, 3, H, W) in [0, 1]."""
    shift, scale = torch.tensor([[-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]]).view(2, 1, 3, 1, 1)
    x, y = ((2 * image - 1 - shift) / scale for image in (a, b))
    distance, tap = 0, 0
    for layer in LAYERS[net]:
        if layer == "pool":
            x, y = (F.max_pool2d(h, POOL[net], 2) for h in (x, y))
        elif layer == "tap":
            unit = [h / (h.square().sum(1, keepdim=True).sqrt() + 1e-10) for h in (x, y)]
            difference = (unit[0] - unit[1]).square()
            distance = distance + F.conv2d(difference, heads[f"lin{tap}.model.1.weight"]).mean((1, 2, 3))
            tap += 1
        else:
            index, *_, stride, padding = layer
            w, bias = backbone[f"features.{index}.weight"], backbone[f"features.{index}.bias"]
            x, y = (F.relu(F.conv2d(h, w, bias, stride, padding)) for h in (x, y))
    return distance


def convert(directory, net, backbone, heads, out=None, **options):
    """The exit status of the command on these weights."""
    files = {name: directory / f"{name}.pth" for name in ("backbone", "heads")}
    torch.save(backbone, files["backbone"], **options)
    torch.save(heads, files["heads"], _use_new_zipfile_serialization=False)
    files["out"] = out or directory / f"{net}.safetensors"
    return convert_lpips.main(["--net", net, *(f"--{name}={path}" for name, path in files.items())])


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """For every net its random weights, the file that the command makes of them, and what is read from it."""
    directory, made = tmp_path_factory.mktemp("lpips"), {}
    for net, zipped in (("alex", True), ("vgg", False)):
        backbone, heads = random_weights(net)
        unused = {"classifier.1.weight": torch.ones(2, 2), "classifier.1.bias": torch.ones(2)}
        assert convert(directory, net, backbone | unused, heads, _use_new_zipfile_serialization=zipped) == 0
        path = directory / f"{net}.safetensors"
        made[net] = backbone, heads, path, load_lpips(path)
    return made


def images(*shape, seed=0):
    return np.random.default_rng(seed).random((*shape, 3), dtype=np.float32)


@pytest.mark.parametrize(
    ("net", "size"), [("alex", (64, 64)), ("alex", (31, 50)), ("vgg", (32, 32)), ("vgg", (17, 40))]
)
def test_is_the_definition(converted, net, size):
    backbone, heads, _, weights = converted[net]
    a, b = images(3, *size), images(3, *size, seed=1)
    b[1] = 0.9 * a[1]  # near
    b[2] = a[2]
    to_torch = [torch.tensor(image).movedim(-1, 1) for image in (a, b)]
    expected = literal_lpips(net, backbone, heads, *to_torch).numpy()
    assert expected[0] > 3 * expected[1] > 0 == expected[2]
    np.testing.assert_allclose(lpips(a, b, weights), expected, atol=1e-5)


def test_leading_axes_pieces_and_vmap_agree(converted, monkeypatch):
    weights = converted["alex"][3]
    a, b = images(2, 2, 32, 32), images(2, 2, 32, 32, seed=1)
    one_by_one = np.array([[lpips(a[i, j], b[i, j], weights) for j in range(2)] for i in range(2)])
    mapped = jax.vmap(lambda a, b: lpips(a, b, weights))(jnp.asarray(a), jnp.asarray(b))
    np.testing.assert_allclose(mapped, one_by_one, atol=1e-6)
    monkeypatch.setattr(sys.modules["rad_jax.metrics.lpips"], "PIXELS_AT_ONCE", 32 * 32)
    np.testing.assert_allclose(lpips(a, b, weights), one_by_one, atol=1e-6)


@pytest.mark.parametrize(
    ("net", "a", "b", "message"),
    [
        ("alex", images(30, 64), images(30, 64), "30 x 64 pixels: .*alex .*31 x 31"),
        ("vgg", images(16, 15), images(16, 15), "16 x 15 pixels: .*vgg .*16 x 16"),
        ("alex", images(32, 32), images(2, 32, 32), "different shapes"),
        ("alex", np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32, 3), np.uint8), "uint8"),
    ],
)
def test_wrong_images_are_refused(converted, net, a, b, message):
    with pytest.raises(ImageError, match=message):
        lpips(a, b, converted[net][3])


@pytest.mark.parametrize(
    ("backbone", "heads", "message"),
    [
        ({"features.3.bias": None}, {}, "1 missing (features.3.bias)"),
        ({"features.0.weight": torch.ones(64, 3, 3, 3)}, {}, "1 wrong (features.0.weight"),
        ({"features.12.weight": torch.ones(2)}, {}, "1 unexpected (features.12.weight)"),
        ({"features.0.bias": torch.full((64,), np.nan)}, {}, "features.0.bias"),
        ({}, {"lin4.model.1.weight": None}, "1 missing (lin4.model.1.weight)"),
        ({"features.0.weight": 3}, {}, "expected a state dict"),
    ],
)
def test_the_command_refuses_in_one_line_and_leaves_what_was_there(
    tmp_path, capsys, backbone, heads, message
):
    changed = [
        {name: tensor for name, tensor in (whole | change).items() if tensor is not None}
        for whole, change in zip(random_weights("alex"), (backbone, heads), strict=True)
    ]
    out = tmp_path / "out.safetensors"
    out.write_text("what was there")
    assert convert(tmp_path, "alex", *changed, out) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert out.read_text() == "what was there"


def test_the_command_refuses_other_nets_and_names(tmp_path, capsys, converted):
    backbone, heads, *_ = converted["alex"]
    assert convert(tmp_path, "vgg", backbone, heads) == 2
    assert convert(tmp_path, "alex", backbone, heads, tmp_path / "out.npz") == 2
    assert capsys.readouterr().err.count("\n") == 2
    with pytest.raises(WeightsError, match="match"):
        (tmp_path / "empty.safetensors").write_bytes(b"\x02\x00\x00\x00\x00\x00\x00\x00{}")
        load_lpips(tmp_path / "empty.safetensors")


@pytest.fixture
def small_blocks(monkeypatch):
    """Frames are scored few at a time: what fills up a block of the usual size takes most of the time."""
    monkeypatch.setattr(video, "BLOCK", 8)


def test_with_weights_it_is_scored_like_the_others(converted, small_blocks):
    weights = converted["alex"][3]
    truth = [images(3, 32, 32), images(8, 32, 32, seed=1)]
    predicted = [np.clip(0.8 * video + 0.1, 0, 1) for video in truth]
    rows = {"m": Predicted("model", predicted), "exact": Predicted("oracle", truth)}
    found = scores_of(rows, truth, [1, 1], weights)
    per_frame = [np.asarray(lpips(p, t, weights)) for p, t in zip(predicted, truth, strict=True)]
    row = found.rows["m"]
    assert row["per_video"]["lpips"] == pytest.approx([frames.mean() for frames in per_frame], abs=1e-6)
    assert row["mean"]["lpips"] == pytest.approx(np.mean([frames.mean() for frames in per_frame]), abs=1e-6)
    assert row["per_frame"]["lpips"]["value"][2] == pytest.approx(
        np.mean([f[2] for f in per_frame]), abs=1e-6
    )
    assert found.rows["exact"]["mean"]["lpips"] == pytest.approx(0, abs=1e-6)
    assert found.difference("m", "exact", "lpips")["mean"] == pytest.approx(row["mean"]["lpips"], abs=1e-6)
    assert found.metrics_spec["lpips"] == {
        "net": "alex",
        "version": "0.1",
        "range": "[-1,1]",
        "weights_sha256": weights.fingerprint,
    }
    assert found.metrics_spec["reduce_frames"]["lpips"] == "mean"
    assert "LPIPS: alex, version 0.1, on [-1,1]." in text.convention(found.metrics_spec)
    table = to_text(report_tables(found, "m")[0])
    assert f"{row['mean']['lpips']:.3f}" in table and "n/a" not in table


def test_an_evaluation_refuses_weights_before_it_works(toy, converted, tmp_path, capsys):
    workdir = toy.written("df")
    for path, message in (
        (converted["alex"][2], "16 x 16 pixels: LPIPS on alex needs at least 31 x 31"),
        (tmp_path / "none.safetensors", "none.safetensors"),
    ):
        wrong = toy.arguments(workdir, variant="df", evaluate__lpips=str(path))
        for command in ((main, "--mode", "evaluate"), (worker.main, "run"), (worker.main, "bounds")):
            program, *words = command
            assert program([*words, *wrong]) == 2
            error = capsys.readouterr().err
            assert message in error and error.count("\n") <= 2


def test_scores_that_are_kept_have_it_and_are_those_of_these_weights(
    toy, converted, small_blocks, tmp_path, capsys
):
    options = "--protocol return --size 5 --pixels 32 --episodes 1 --seed 3 --min-frames 36 --max-frames 60"
    with silence():
        assert make_maze.main([*options.split(), "--out", str(tmp_path / "set")]) == 0
    _, heads, path, weights = converted["alex"]
    assert convert(tmp_path, "alex", random_weights("alex", seed=1)[0], heads) == 0
    assert load_lpips(tmp_path / "alex.safetensors").fingerprint != weights.fingerprint
    for file in (path, tmp_path / "alex.safetensors"):
        capsys.readouterr()
        settings = {"evaluate__path": str(tmp_path / "set"), "evaluate__lpips": str(file)}
        assert worker.main(["bounds", *toy.arguments(tmp_path / "run", **settings)]) == 0
        assert "scored before" not in capsys.readouterr().out
        name = max(
            (tmp_path / "run" / "scores").glob("*.json"), key=lambda path: path.stat().st_mtime_ns
        ).stem
        kept = read_scores(tmp_path / "run", name)
        assert 0 < kept.rows["repeat last"]["mean"]["lpips"] < 10
        assert kept.metrics_spec["lpips"]["weights_sha256"] == load_lpips(file).fingerprint
