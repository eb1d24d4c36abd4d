"""First-person frames of a world from poses: a ray per pixel column against the grid, in JAX.

The camera is that of Memory Maze: 80 degrees of vertical field of view, 0.45 cells above the floor, 0.075 cells ahead of the
agent's centre, looking down by 0.1 rad. The downward pitch is a vertical shear, so a pixel column is one ray on the ground
plan: every column finds its wall once, and pixels only decide between wall, floor, sky and targets. Depths are measured along
the heading, not along the ray.
"""

from collections.abc import Sequence
from dataclasses import fields
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, reduce
from jaxtyping import UInt8

from data_prep.worlds.maze import textures
from data_prep.worlds.maze.world import World
from data_prep.worlds.views import draw_views
from rad_jax.axes import Array, Bool, Float, Int

CAMERA_HEIGHT = 0.45
CAMERA_AHEAD = 0.075
FIELD = float(np.tan(np.radians(40)))  # half the field of view, as a slope
PITCH = 0.1  # downwards, as a slope
WALL_HEIGHT = 0.75
TARGET_RADIUS = 0.3  # the targets' centres are on the floor: domes
AMBIENT, DIFFUSE, WALL_GAIN = 0.3, 0.6, 1.08
SKY_LOW, SKY_HIGH, SKY_HIGH_SLOPE = (0.24, 0.33, 0.43), (0.30, 0.45, 0.60), 0.75
BLOCK = 256  # views rendered by one call of the compiled program, which so compiles once
_TOGETHER = 8  # views of a block that are computed at once: more do not fit the caches of a CPU
_WALL_DETAIL, _FLOOR_DETAIL = 0.5, 1.0  # levels of texture detail lost per doubling of the depth


def render(
    worlds: Sequence[World],
    poses: Sequence[Float[np.ndarray, "t 4"]],
    targets: Sequence[Int[np.ndarray, " t"]],
    *,
    pixels: int,
    supersample: int = 1,
    border: bool = True,
) -> list[UInt8[np.ndarray, "t H W 3"]]:
    """Render views of every world, equal ones once; a view does not depend on the others that are rendered with it.

    Args:
      worlds: of one size.
      poses: for every world x, y in cells of the inner maze, cosine and sine of the heading; float32.
      targets: for every world the index of the target whose colour is drawn around each frame.
      pixels: height and width of the frames.
      supersample: rays per pixel and direction; they are averaged.
      border: whether the border is drawn.

    Returns:
      uint8 frames for every world.
    """
    lengths = [len(pose) for pose in poses]
    world = np.repeat(np.arange(len(worlds), dtype=np.int32), lengths)
    pose, target = np.concatenate(poses), np.concatenate(targets)
    stacked = {f.name: np.stack([getattr(world, f.name) for world in worlds]) for f in fields(World)}

    def draw(rows: Int[np.ndarray, " rows"]) -> UInt8[Array, "rows H W 3"]:
        of_rows = {name: array[world[rows]] for name, array in stacked.items()}
        sizes = {"pixels": pixels, "supersample": supersample, "border": border}
        return _render_block(of_rows, pose[rows], target[rows], **sizes)

    shown = target if border else np.zeros_like(target)  # the border alone shows it
    keys = np.concatenate([world[:, None], shown[:, None], pose.view(np.int32)], axis=1)
    return np.split(draw_views(keys, BLOCK, draw), np.cumsum(lengths)[:-1])


@partial(jax.jit, static_argnames=("pixels", "supersample", "border"))
def _render_block(
    worlds: dict[str, Array],
    pose: Float[Array, "v 4"],
    target: Int[Array, " v"],
    *,
    pixels: int,
    supersample: int,
    border: bool,
) -> UInt8[Array, "v H W 3"]:
    """Render views, each of a world of its own: ``worlds`` has the arrays of `World` by name, stacked."""

    def view(inputs: tuple[dict[str, Array], Array, Array]) -> UInt8[Array, "H W 3"]:
        world, pose, target = World(**inputs[0]), *inputs[1:]
        image = _view(world, pose, size=pixels * supersample, pixels=pixels)
        image = reduce(image, "(H i) (W j) c -> H W c", "mean", i=supersample, j=supersample)
        if border:
            shown = world.target_colour[target] * textures.BORDER_BRIGHTNESS
            image = jnp.where(textures.border(pixels)[..., None], shown[None, None], image)
        return jnp.clip(jnp.round(image * 255), 0, 255).astype(jnp.uint8)

    return jax.lax.map(view, (worlds, pose, target), batch_size=_TOGETHER)


def _view(world: World, pose: Float[Array, "4"], *, size: int, pixels: int) -> Float[Array, "H W 3"]:
    """One image of size x size rays; ``pixels``, the size of the final frame, sets the detail of the textures."""
    heading = pose[2:]
    eye = pose[:2] + 1 + CAMERA_AHEAD * heading  # the surrounding wall is one cell thick
    right = jnp.stack([heading[1], -heading[0]])
    across = 2 * (np.arange(size, dtype=np.float32) + 0.5) / size - 1
    ray = heading[None] + across[:, None] * FIELD * right[None]
    ray = jnp.where(jnp.abs(ray) < 1e-6, 1e-6, ray)
    slope = -across * np.float32(FIELD) - np.float32(PITCH)  # of the image rows, from the top

    depth, (cell_y, cell_x), along, facing = _first_wall(world.wall == 1, eye, ray, heading)
    level = _detail(_WALL_DETAIL, depth, pixels)
    plane = level * textures.WALL_PATTERNS + world.wall_pattern[cell_y, cell_x]  # a texture of a level
    tint = world.wall_colour[cell_y, cell_x] * ((AMBIENT + DIFFUSE * facing) * WALL_GAIN)[:, None]
    depth, plane, along, tint = depth[None], plane[None], along[None], tint[None]  # the same for all rows

    def wall_image(slope):
        height = CAMERA_HEIGHT + slope[:, None] * depth
        texel = (plane * textures.TEXELS + _texel(1 - height)) * textures.TEXELS + _texel(along)
        return height, jnp.asarray(textures.wall_patterns()).ravel()[texel][..., None] * tint

    # Above the horizon there are walls and sky, below it walls, floor and, lower than the camera, targets.
    horizon = int((slope >= 0).sum())
    height, walls = wall_image(slope[:horizon])
    above = jnp.where((height < WALL_HEIGHT)[..., None], walls, _sky(slope[:horizon])[:, None])

    down = slope[horizon:]
    _, walls = wall_image(down)
    floor_depth = CAMERA_HEIGHT / -down
    floor = _floor_image(world.floor_pattern, eye, ray, floor_depth, pixels)
    below = jnp.where((floor_depth[:, None] < depth)[..., None], floor, walls)
    nearest = jnp.minimum(floor_depth[:, None], depth)
    for centre, colour in zip(world.targets, world.target_colour, strict=True):
        below, nearest = _draw_target(below, nearest, eye, ray, down, heading, centre + 1, colour)
    return jnp.concatenate([above, below])


def _first_wall(
    wall: Bool[Array, "y x"], eye: Float[Array, "2"], ray: Float[Array, "W 2"], heading: Float[Array, "2"]
) -> tuple[Array, tuple[Array, Array], Array, Array]:
    """The wall that every column's ray meets first.

    Returns, for every column, the depth, the cell (y, x) that is hit, where along its face in [0, 1), and the cosine between
    the heading and the face.
    """
    lines = np.arange(len(wall) + 1)[None]

    def crossings(a: int) -> list[Array]:
        """Where the rays cross the grid lines of one axis into a wall."""
        b = 1 - a
        depth = (lines - eye[a]) / ray[:, a, None]
        other = eye[b] + depth * ray[:, b, None]
        cell_a = jnp.where(ray[:, a, None] > 0, lines, lines - 1)
        cell_b = jnp.floor(other).astype(jnp.int32)
        inside = (cell_a >= 0) & (cell_a < len(wall)) & (cell_b >= 0) & (cell_b < len(wall))
        y, x = (cell_b, cell_a) if a == 0 else (cell_a, cell_b)
        hit = (depth > 1e-4) & inside & wall.at[y, x].get(mode="clip")
        depth = jnp.where(hit, depth, jnp.inf)
        first = jnp.argmin(depth, axis=1)[:, None]
        return [jnp.take_along_axis(values, first, axis=1)[:, 0] for values in (depth, y, x, other)]

    depth_x, *of_x = crossings(0)
    depth_y, *of_y = crossings(1)
    x_face = depth_x <= depth_y
    y, x, other = (jnp.where(x_face, at_x, at_y) for at_x, at_y in zip(of_x, of_y, strict=True))
    facing = jnp.where(x_face, jnp.abs(heading[0]), jnp.abs(heading[1]))
    return jnp.minimum(depth_x, depth_y), (y, x), other - jnp.floor(other), facing


def _floor_image(
    floor_pattern: UInt8[Array, "y x"],
    eye: Float[Array, "2"],
    ray: Float[Array, "W 2"],
    depth: Float[np.ndarray, " H"],
    pixels: int,
) -> Float[Array, "H W 3"]:
    """Floor colours of rows at given depths."""
    point = eye[None, None] + depth[:, None, None] * ray[None]
    limit = len(floor_pattern) - 1
    cell = jnp.clip(jnp.floor(point).astype(jnp.int32), 0, limit)  # beyond the maze a wall hides it anyway
    pattern = floor_pattern[cell[..., 1], cell[..., 0]]
    level = rearrange(_detail(_FLOOR_DETAIL, depth, pixels), "H -> H 1")
    u, v = (_texel(point[..., i] - jnp.floor(point[..., i])) for i in (0, 1))
    texel = ((level * textures.FLOOR_PATTERNS + pattern) * textures.TEXELS + v) * textures.TEXELS + u
    brightness = jnp.asarray(textures.floor_patterns()).ravel()[texel]
    return brightness[..., None] * jnp.asarray(textures.FLOOR_PALETTE)[pattern]


def _draw_target(
    image: Float[Array, "H W 3"],
    nearest: Float[Array, "H W"],
    eye: Float[Array, "2"],
    ray: Float[Array, "W 2"],
    slope: Float[np.ndarray, " H"],
    heading: Float[Array, "2"],
    centre: Float[Array, "2"],
    colour: Float[Array, "3"],
) -> tuple[Float[Array, "H W 3"], Float[Array, "H W"]]:
    """Paint one sphere where it is nearer than what has been painted before; also returns the new depths."""
    offset = jnp.append(eye - centre, CAMERA_HEIGHT)
    ray_squared = (ray**2).sum(-1)[None] + slope[:, None] ** 2
    toward = (ray @ offset[:2])[None] + slope[:, None] * offset[2]
    inside = toward**2 - ray_squared * ((offset**2).sum() - TARGET_RADIUS**2)
    depth = (-toward - jnp.sqrt(jnp.maximum(inside, 0))) / ray_squared
    visible = (inside > 0) & (depth > 1e-3) & (depth < nearest)
    normal_plan = (offset[:2][None, None] + depth[..., None] * ray[None]) / TARGET_RADIUS
    normal_up = (offset[2] + depth * slope[:, None]) / TARGET_RADIUS
    facing = jnp.clip(-(normal_plan @ heading - PITCH * normal_up), 0, 1)
    lit = colour[None, None] * (AMBIENT + DIFFUSE * facing)[..., None]
    return jnp.where(visible[..., None], lit, image), jnp.where(visible, depth, nearest)


def _sky(slope: Float[np.ndarray, " H"]) -> Float[np.ndarray, "H 3"]:
    """Sky colours of rows: bluer and brighter upwards."""
    part = np.clip(slope / SKY_HIGH_SLOPE, 0, 1)[:, None]
    return (1 - part) * np.array(SKY_LOW, np.float32) + part * np.array(SKY_HIGH, np.float32)


def _detail(loss: float, depth: Float[Array, "..."], pixels: int) -> Int[Array, "..."]:
    """Level of texture detail for a depth: 0 the finest."""
    level = jnp.floor(loss * jnp.log2(jnp.maximum(depth, 0.1) * 64 / pixels))
    return jnp.clip(level, 0, textures.LEVELS - 1).astype(jnp.int32)


def _texel(fraction: Float[Array, "..."]) -> Int[Array, "..."]:
    """Texel index of a position in [0, 1) on a texture."""
    return jnp.clip((fraction * textures.TEXELS).astype(jnp.int32), 0, textures.TEXELS - 1)
