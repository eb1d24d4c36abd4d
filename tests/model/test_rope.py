"""Rotary embeddings against rotations of complex numbers, with the frequencies and positions of Oasis written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.model.rope import pose_angles, rotate, spatial_angles, temporal_angles


def turned(x, angles):
    """Feature pairs (2i, 2i+1) as complex numbers, multiplied by exp(i angle): one angle per pair."""
    z = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)
    return np.stack([z.real, z.imag], axis=-1).reshape(x.shape)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def test_rotation_is_that_of_complex_numbers():
    x, angles = normal(0, 3, 5, 8), normal(1, 5, 4)
    with jax.enable_x64(True):
        y = rotate(jnp.asarray(x), np.repeat(angles, 2, axis=-1))
        assert y.dtype == jnp.float64
        np.testing.assert_allclose(y, turned(x, angles), rtol=0, atol=1e-14)


def test_temporal_frequencies_are_those_of_oasis():
    angles = temporal_angles(20, 64)
    assert angles.shape == (20, 64) and angles.dtype == np.float64
    np.testing.assert_array_equal(angles[:, ::2], angles[:, 1::2])
    np.testing.assert_allclose(angles[1, :8:2], [1, 0.74989421, 0.56234133, 0.42169650], rtol=1e-8)
    np.testing.assert_allclose(angles[1, -1], 1.3335214e-4, rtol=1e-7)
    np.testing.assert_allclose(angles, np.arange(20)[:, None] * angles[1], rtol=1e-12)


def test_spatial_frequencies_and_positions_are_those_of_oasis():
    """Of 64 features on the grid of Oasis, 9 rows and 16 columns, the first 32 turn with the row, the rest with the column."""
    angles = spatial_angles(9, 16, 64).reshape(9, 16, 64)
    frequency = np.pi * np.linspace(1, 128, 16)
    for i, y in enumerate(np.linspace(-1, 1, 9)):
        for j, x in enumerate(np.linspace(-1, 1, 16)):
            np.testing.assert_allclose(angles[i, j, :32:2], y * frequency, rtol=2e-7, atol=2e-5)
            np.testing.assert_allclose(angles[i, j, 32::2], x * frequency, rtol=2e-7, atol=2e-5)
    np.testing.assert_array_equal(angles[..., ::2], angles[..., 1::2])


@pytest.mark.parametrize(("grid", "maximum"), [((9, 16), 256.0), ((18, 32), 576.0)])
def test_spatial_angles_are_rounded_as_those_of_oasis(grid, maximum):
    """Up to 905 radians, of which float32 is off by 3e-5 at most: the same 3e-5, or predictions differ in the fifth digit."""
    torch = pytest.importorskip("torch")
    frequency = torch.linspace(1, maximum / 2, 16) * np.pi
    rows, columns = (torch.linspace(-1, 1, length)[:, None] * frequency for length in grid)
    angles = spatial_angles(*grid, 64, maximum).reshape(*grid, 64)
    fused = (
        torch.backends.cpu.get_cpu_capability() != "DEFAULT"
    )  # processors without multiply-add round twice
    for part, expected in (angles[..., :32:2], rows[:, None]), (angles[..., 32::2], columns[None]):
        np.testing.assert_allclose(
            part, np.broadcast_to(expected, part.shape), rtol=0, atol=0 if fused else 1e-4
        )


@pytest.mark.parametrize("dtype, tolerance", [("float32", 2e-4), ("bfloat16", 2**-7)])
def test_late_positions_are_as_exact_as_the_type_of_the_features(dtype, tolerance):
    """Angles in bfloat16 would be wrong by a radian at position 1,000."""
    x, angles = normal(2, 1001, 8), temporal_angles(1001, 8)
    x = np.asarray(jnp.asarray(x, dtype), np.float64)
    y = rotate(jnp.asarray(x, dtype), angles)
    assert y.dtype == dtype
    error = np.abs(np.asarray(y, np.float64) - turned(x, angles[:, ::2]))
    assert error.max() < tolerance * np.abs(x).max()


def poses(heading, position):
    return np.concatenate([position, np.cos(heading)[:, None], np.sin(heading)[:, None]], axis=1)


@pytest.mark.parametrize("view", [None, 1.2])
def test_scores_depend_on_the_difference_of_poses_alone(view):
    """Turning all headings by one angle, a whole turn, and moving the world change nothing; a turn of one frame does."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        heading, position = rng.uniform(0, 6, 5), rng.normal(size=(5, 2))
        q, k = normal(1, 5, 6, 32), normal(2, 5, 6, 32)

        def scores(heading, position):
            angles = pose_angles(jnp.asarray(poses(heading, position)), 2, 3, 32, view)
            turned_q, turned_k = (rotate(jnp.asarray(z), angles) for z in (q, k))
            return np.einsum("tne,sme->tsnm", turned_q, turned_k)

        first = scores(heading, position)
        np.testing.assert_allclose(scores(heading + 0.7, position), first, atol=1e-9)
        np.testing.assert_allclose(scores(heading + 2 * np.pi * np.arange(5), position), first, atol=1e-9)
        np.testing.assert_allclose(scores(heading, position + [0.3, -5.0]), first, atol=1e-9)
        moved = np.array([0.0, 0, 0, 0, 0.3])
        assert np.abs(scores(heading + moved, position) - first).max() > 0.1
        assert np.abs(scores(heading, position + moved[:, None]) - first).max() > 0.1


def test_one_ray_has_one_address_in_whatever_column_it_is_seen():
    """With a view of 60 degrees over 3 columns, a turn by 30 degrees to the right moves what is seen a column to the left."""
    with jax.enable_x64(True):
        view, width = np.radians(60), 32
        heading = np.array([1.0, 1.0 - view / 2])
        angles = np.asarray(pose_angles(jnp.asarray(poses(heading, np.zeros((2, 2)))), 1, 3, width, view))
        np.testing.assert_allclose(angles[0, 1:], angles[1, :2], atol=1e-12)
        plain = np.asarray(pose_angles(jnp.asarray(poses(heading, np.zeros((2, 2)))), 1, 3, width))
        assert np.abs(plain[0, 1:] - plain[1, :2]).max() > 0.1
