"""The renderer against a literal ray caster: one pixel at a time, one grid cell at a time, in float64."""

import math

import numpy as np
import pytest

from data_prep.worlds.maze import render, textures
from data_prep.worlds.maze.world import TARGET_PALETTE, World, maze_world, room_world

PIXELS = 16


def poses(world: World, count: int, seed: int) -> np.ndarray:
    """Random poses in free cells; the first ones look along the axes, the last ones at a target close by."""
    rng = np.random.default_rng(seed)
    cells = np.argwhere(world.free)[:, ::-1]
    position = cells[rng.integers(len(cells), size=count)] + rng.uniform(0.15, 0.85, (count, 2))
    heading = rng.uniform(0, 2 * np.pi, count)
    heading[:2] = 0, np.pi / 2
    position[-2:] = world.targets[0] + [[0.35, 0.1], [-0.1, 0.38]]
    back = world.targets[0] - position[-2:]
    heading[-2:] = np.arctan2(back[:, 1], back[:, 0])
    return np.column_stack([position, np.cos(heading), np.sin(heading)]).astype(np.float32)


def draw(world, pose, supersample, border=False):
    shown = np.zeros(len(pose), np.int32)
    sizes = {"pixels": PIXELS, "supersample": supersample, "border": border}
    return render.render([world], [pose], [shown], **sizes)[0]


@pytest.mark.parametrize(
    ("world", "supersample"),
    [(maze_world(np.random.default_rng(1), 5), 1), (room_world(np.random.default_rng(2)), 2)],
)
def test_equals_the_literal_ray_caster(world, supersample):
    pose = poses(world, 8, seed=3)
    expected = np.stack([literal_frame(world, p.astype(np.float64), PIXELS, supersample) for p in pose])
    difference = np.abs(draw(world, pose, supersample).astype(float) - expected).max(-1)
    # In float32 a ray at the very edge of a texel or a wall may fall on its other side.
    assert (difference > 1).mean() < 0.005
    assert difference.mean() < 0.1


def test_the_reference_shows_everything():
    """All four kinds of surface take part in the comparison above."""
    world = maze_world(np.random.default_rng(1), 5)
    kinds = {
        literal_ray(world, p, u, s, PIXELS)[1]
        for p in poses(world, 8, 3).astype(float)
        for u in (-0.4, 0.1)
        for s in (-0.8, -0.3, 0.0, 0.5)
    }
    assert kinds == {"wall", "floor", "sky", "target"}


def test_a_view_does_not_depend_on_its_place_in_the_block():
    world = maze_world(np.random.default_rng(1), 5)
    pose = poses(world, 300, seed=5)
    together = draw(world, pose, 1, border=True)
    for view in (0, 7, 255, 256, 299):
        assert np.array_equal(draw(world, pose[view : view + 1], 1, border=True)[0], together[view])
    assert np.array_equal(draw(world, pose[100:], 1, border=True), together[100:])


def test_views_of_several_worlds_are_drawn_together():
    worlds = [maze_world(np.random.default_rng(seed), 5) for seed in range(3)]
    pose = [poses(world, 3 + k, seed=1) for k, world in enumerate(worlds)]
    shown = [np.zeros(3 + k, np.int32) for k in range(3)]
    for frames, *view in zip(render.render(worlds, pose, shown, pixels=PIXELS), worlds, pose, strict=True):
        assert np.array_equal(frames, draw(*view, 1, border=True))


@pytest.mark.parametrize(("pixels", "width"), [(16, 1), (32, 1), (64, 2), (128, 2), (256, 4)])
def test_border_is_as_wide_as_in_memory_maze(pixels, width):
    border = textures.border(pixels)
    assert border.shape == (pixels, pixels) and border.sum() == pixels**2 - (pixels - 2 * width) ** 2
    assert not border[width:-width, width:-width].any()


def test_border_shows_the_target_colour():
    world = maze_world(np.random.default_rng(1), 5)
    pose = poses(world, 4, seed=0)
    with_border, without = draw(world, pose, 1, border=True), draw(world, pose, 1)
    colour = np.round(TARGET_PALETTE[0] * 0.7 * 255)
    inner = (slice(None), slice(1, -1), slice(1, -1))
    assert np.array_equal(with_border[inner], without[inner])
    for edge in (with_border[:, 0], with_border[:, -1], with_border[:, :, 0], with_border[:, :, -1]):
        assert (edge == colour).all()


def literal_frame(world: World, pose: np.ndarray, pixels: int, supersample: int) -> np.ndarray:
    size = pixels * supersample
    image = np.zeros((pixels, pixels, 3))
    for row in range(size):
        slope = -(2 * (row + 0.5) / size - 1) * math.tan(math.radians(40)) - 0.1
        for column in range(size):
            across = 2 * (column + 0.5) / size - 1
            colour, _ = literal_ray(world, pose, across, slope, pixels)
            image[row // supersample, column // supersample] += colour / supersample**2
    return np.clip(np.round(image * 255), 0, 255)


def literal_ray(world: World, pose: np.ndarray, across: float, slope: float, pixels: int):
    """(colour, kind of surface) that one ray meets."""
    x, y, fx, fy = pose
    px, py = x + 1 + 0.075 * fx, y + 1 + 0.075 * fy
    spread = across * math.tan(math.radians(40))
    rx, ry = fx + spread * fy, fy - spread * fx
    rx, ry = (1e-6 if abs(r) < 1e-6 else r for r in (rx, ry))
    # From cell to cell, as far as the first wall.
    cell_x, cell_y = math.floor(px), math.floor(py)
    while True:
        to_x = ((cell_x + (rx > 0)) - px) / rx
        to_y = ((cell_y + (ry > 0)) - py) / ry
        if to_x <= to_y:
            wall_depth, along, facing = to_x, py + to_x * ry, abs(fx)
            cell_x += 1 if rx > 0 else -1
        else:
            wall_depth, along, facing = to_y, px + to_y * rx, abs(fy)
            cell_y += 1 if ry > 0 else -1
        if world.wall[cell_y, cell_x]:
            break
    floor_depth = 0.45 / -slope if slope < 0 else math.inf
    if floor_depth < wall_depth:
        at_x, at_y = px + floor_depth * rx, py + floor_depth * ry
        kind, depth = "floor", floor_depth
        pattern = world.floor_pattern[math.floor(at_y), math.floor(at_x)]
        level = detail(1.0, depth, pixels)
        texel = textures.floor_patterns()[level, pattern, int(at_y % 1 * 32), int(at_x % 1 * 32)]
        colour = texel * np.array([(0.085, 0.135, 0.165), (0.165, 0.215, 0.25)])[pattern]
    elif 0.45 + slope * wall_depth < 0.75:
        kind, depth = "wall", wall_depth
        v = 1 - (0.45 + slope * wall_depth)
        texels = textures.wall_patterns()[detail(0.5, depth, pixels), world.wall_pattern[cell_y, cell_x]]
        colour = texels[min(int(v * 32), 31), min(int(along % 1 * 32), 31)] * world.wall_colour[
            cell_y, cell_x
        ].astype(float)
        colour = colour * (0.3 + 0.6 * facing) * 1.08
    else:
        kind, depth, part = "sky", wall_depth, min(slope / 0.75, 1)
        colour = (1 - part) * np.array([0.24, 0.33, 0.43]) + part * np.array([0.30, 0.45, 0.60])
    for centre, target_colour in zip(
        world.targets.astype(float), world.target_colour.astype(float), strict=True
    ):
        ray = np.array([rx, ry, slope])
        offset = np.array([px, py, 0.45]) - [*(centre + 1), 0]
        a, b, c = ray @ ray, ray @ offset, offset @ offset - 0.3**2
        if b * b - a * c <= 0:
            continue
        hit = (-b - math.sqrt(b * b - a * c)) / a
        if 1e-3 < hit < depth:
            normal = (offset + hit * ray) / 0.3
            light = 0.3 + 0.6 * np.clip(-(normal @ [fx, fy, -0.1]), 0, 1)
            kind, depth, colour = "target", hit, target_colour * light
    return colour, kind


def detail(loss: float, depth: float, pixels: int) -> int:
    return int(np.clip(math.floor(loss * math.log2(max(depth, 0.1) * 64 / pixels)), 0, 2))
