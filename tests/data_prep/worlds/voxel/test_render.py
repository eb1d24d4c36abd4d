"""The renderer against an exact walk from cell to cell, one ray at a time, in float64."""

import math

import jax
import numpy as np
import pytest

from data_prep.worlds.voxel import blocks, render
from data_prep.worlds.voxel.terrain import HEIGHT, SIZE, World, random_world

H, W = 12, 16


@pytest.fixture(scope="module")
def world() -> World:
    return random_world(np.random.default_rng(3))


@pytest.fixture(scope="module")
def scene(world):
    return render.scene(world)


def poses(world: World, count: int, seed: int) -> np.ndarray:
    """Random standing places with headings of whole degrees; the first two look along the axes."""
    rng, out = np.random.default_rng(seed), []
    while len(out) < count:
        x, z = rng.uniform(0, SIZE, 2)
        y = world.ground[int(x), int(z)] + 1
        if not world.obstacles[int(x), y : y + 3, int(z)].any():
            out.append((x, y, z, rng.integers(-180, 180)))
    return np.array(out, np.float64)


def draw(scene, pose, **options):
    return render.render(scene, np.atleast_2d(pose), **({"height": H, "width": W} | options))


@pytest.mark.parametrize(("views", "supersample"), [(10, 1), (2, 2)])
def test_equals_the_literal_ray_caster(world, scene, views, supersample):
    pose = poses(world, views, seed=0)
    pose[:2, 3] = 0, -90
    expected = np.stack([literal_frame(world, p, supersample) for p in pose])
    difference = np.abs(draw(scene, pose, supersample=supersample).astype(float) - expected).max(-1)
    # In float32 a ray at the very edge of a texel or a block may fall on its other side.
    assert (difference > 1).mean() < 0.01 * supersample
    assert difference.mean() < 0.2


def test_leaps_end_where_single_cells_do(world, scene):
    """Depth, cell and face of the first block, not only its colour."""
    rng = np.random.default_rng(5)
    for x, y, z, _ in poses(world, 2, seed=2):
        ray = rng.normal(size=(3, 64))
        ray /= np.linalg.norm(ray, axis=0)
        eye = np.array([x + SIZE, y + 1.62, z + SIZE])
        depth, cell, axis = map(
            np.asarray, render.march(scene, eye.astype(np.float32), ray.astype(np.float32))
        )
        wrong = 0
        for r in range(64):
            hit = first_block(world, eye, ray[:, r])
            if hit is not None:
                same = (cell[:, r] == hit[1]).all() and axis[r] == hit[2] and abs(depth[r] - hit[0]) < 1e-3
                wrong += not same
        assert wrong <= 1


def test_a_whole_turn_repeats_bit_for_bit(world, scene):
    (pose,) = poses(world, 1, seed=4)
    turn = np.repeat(pose[None], 37, axis=0)
    turn[:, 3] += 20 * np.arange(37)
    frames = draw(scene, turn)
    assert np.array_equal(frames[:19], frames[18:])
    assert len(np.unique(frames[:18].reshape(18, -1), axis=0)) == 18


def test_places_one_world_apart_are_the_same(world, scene):
    pose = poses(world, 4, seed=6)
    pose[:, [0, 2]] = np.round(pose[:, [0, 2]] * 64) / 64
    assert np.array_equal(draw(scene, pose), draw(scene, pose + [SIZE, 0, -2 * SIZE, 720]))


def test_a_view_does_not_depend_on_its_place_in_the_call(world, scene):
    pose = poses(world, render.VIEWS + 3, seed=7)
    together = draw(scene, pose)
    for view in (0, 9, render.VIEWS - 1, render.VIEWS + 2):
        assert np.array_equal(draw(scene, pose[view])[0], together[view])


def test_an_accelerator_draws_the_same(world, scene, monkeypatch):
    """There all tiles are drawn at once, each as long as the slowest needs."""
    pose = poses(world, render.VIEWS, seed=9)
    expected = draw(scene, pose).astype(int)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    again = jax.jit(render._render_views.__wrapped__, static_argnames=("height", "width", "supersample"))
    monkeypatch.setattr(render, "_render_views", again)
    assert (np.abs(draw(scene, pose) - expected) > 1).mean() < 1e-3


def test_every_kind_of_block_has_a_colour_of_its_own_from_above():
    table = blocks.textures()
    assert table.shape == (blocks.LEVELS, len(blocks.NAMES), 3, 16, 16, 3)
    assert table.min() >= 0 and table.max() <= 1
    colours = table[-1, 1:, blocks.TOP, 0, 0]
    apart = np.abs(colours[:, None] - colours).max(-1) + np.eye(len(colours))
    assert apart.min() > 0.02


def test_distance_field_equals_the_definition():
    rng = np.random.default_rng(8)
    cells = (rng.random((9, 20, 7)) < 0.004).astype(np.uint8)
    cells[0, 0, 0] = 3
    distance = render.chebyshev_distance(cells)
    there = np.argwhere(cells)
    for x, y, z in rng.integers((9, 20, 7), size=(200, 3)):
        dx, dz = (np.minimum(d % n, -d % n) for d, n in ((there[:, 0] - x, 9), (there[:, 2] - z, 7)))
        nearest = np.max([dx, np.abs(there[:, 1] - y), dz], axis=0).min()
        assert distance[x, y, z] == min(nearest, render.LONGEST_LEAP)


def literal_frame(world: World, pose: np.ndarray, supersample: int) -> np.ndarray:
    x, y, z, yaw = pose
    ahead = np.array([-math.sin(math.radians(yaw)), 0, math.cos(math.radians(yaw))])
    right = np.array([-math.cos(math.radians(yaw)), 0, -math.sin(math.radians(yaw))])
    slope = math.tan(math.radians(35))
    image, n = np.zeros((H, W, 3)), supersample
    for row in range(H * n):
        for column in range(W * n):
            u = slope * (2 * (column + 0.5) / (W * n) - 1) * W / H
            v = slope * (1 - 2 * (row + 0.5) / (H * n))
            ray = ahead + u * right + v * np.array([0, 1, 0])
            ray = ray / np.linalg.norm(ray)
            colour = literal_colour(world, np.array([x, y + 1.62, z]), ray)
            image[row // n, column // n] += colour / n**2
    return np.round(image * 255)


def literal_colour(world: World, eye: np.ndarray, ray: np.ndarray) -> np.ndarray:
    part = np.clip(ray[1] / 0.55, 0, 1)
    sky = (1 - part) * np.array([0.72, 0.83, 0.95]) + part * np.array([0.36, 0.58, 0.92])
    hit = first_block(world, eye, ray)
    if hit is None:
        return sky
    depth, cell, axis, kind = hit
    dx, dy, dz = eye + depth * ray - cell
    if axis == 1:
        face, light, column, row = ("top", 1.0, dx, dz) if ray[1] < 0 else ("bottom", 0.5, dx, dz)
    else:
        face, light, column, row = "side", 0.62 if axis == 0 else 0.8, dz if axis == 0 else dx, 1 - dy
    pixel = 2 * math.tan(math.radians(35)) / H * depth * 16  # texels
    level = min(round(math.log2(max(pixel, 1))), 4)
    texture = blocks.textures()[level, kind, ("side", "top", "bottom").index(face)]
    colour = texture[min(int(row * 16), 15), min(int(column * 16), 15)] * light
    fog = np.clip((depth / 60 - 0.55) / 0.45, 0, 1)
    return colour * (1 - fog) + sky * fog


def first_block(world: World, eye: np.ndarray, ray: np.ndarray):
    """(depth, cell, axis, kind) of the first block within the view, by walking through every cell on the way."""
    cell = np.floor(eye).astype(int)
    ahead = np.where(ray > 0, 1, -1)
    with np.errstate(divide="ignore"):
        crossing = np.where(ray == 0, np.inf, (cell + (ray > 0) - eye) / ray)
        across = np.where(ray == 0, np.inf, 1 / np.abs(ray))
    while True:
        axis = int(np.argmin(crossing))
        depth = crossing[axis]
        cell[axis] += ahead[axis]
        crossing[axis] += across[axis]
        if depth >= 60 or cell[1] >= HEIGHT:
            return None
        kind = world.blocks[cell[0] % SIZE, cell[1], cell[2] % SIZE]
        if kind:
            return depth, cell, axis, kind
