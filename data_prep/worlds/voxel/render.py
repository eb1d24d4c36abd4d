"""First-person frames of a world from poses: one ray per pixel marched through the blocks, in JAX.

A ray leaps: from a cell whose nearest block is k cells away it goes on to where it leaves the cube of cells around
it that is known to be empty. A ray that grazes the ground for more than `LEAPS` leaps is taken for sky. Shading depends on the
face; a fog that fades into the sky hides the end of the view.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, reduce, repeat
from jaxtyping import UInt8
from scipy.ndimage import distance_transform_cdt

from data_prep.worlds.views import draw_views
from data_prep.worlds.voxel import blocks
from data_prep.worlds.voxel.terrain import HEIGHT, SIZE, World
from rad_jax.axes import Array, Float, Int

FIELD = float(np.tan(np.radians(35)))  # half the vertical field of view of 70 degrees, as a slope
EYE = 1.62  # above the feet
FAR = 60.0
LEAPS = 160
LONGEST_LEAP = 15  # cells; larger distances are set to it
VIEWS = 32  # of one call, always, so that the program compiles once for every size of frames
_TILE = 1024  # rays that are followed together, at most; each waits for the slowest of its tile
_FOG = 0.55  # of FAR: where it begins
_BRIGHTNESS = (0.62, 1.0, 0.5, 0.8)  # of faces towards +-x, of tops, of bottoms, of faces towards +-z
_HORIZON, _ZENITH, _ZENITH_SLOPE = (0.72, 0.83, 0.95), (0.36, 0.58, 0.92), 0.55
_BLOCK = 32  # codes from here on are blocks, below it distances


def scene(world: World) -> UInt8[Array, " cells"]:
    """A world ready to be looked at: for every cell `_BLOCK` + the kind of its block, or the distance to the nearest one."""
    codes = np.where(world.blocks != blocks.AIR, _BLOCK + world.blocks, chebyshev_distance(world.blocks))
    return jnp.asarray(rearrange(codes.astype(np.uint8), "x y z -> (x y z)"))


def chebyshev_distance(blocks: UInt8[np.ndarray, "x y z"]) -> UInt8[np.ndarray, "x y z"]:
    """Distance, as the largest coordinate difference, to the nearest cell that is not air; 0 inside blocks.

    x and z wrap around, y does not: below and above the grid there is nothing. At most `LONGEST_LEAP`. Not all cells are air.
    """
    margin = LONGEST_LEAP
    air = np.pad(blocks == 0, ((margin, margin), (0, 0), (margin, margin)), mode="wrap")
    distance = distance_transform_cdt(air, "chessboard")[margin:-margin, :, margin:-margin]
    return np.minimum(distance, LONGEST_LEAP).astype(np.uint8)


def render(
    codes: UInt8[Array, " cells"],
    pose: Float[np.ndarray, "v 4"],
    *,
    height: int,
    width: int,
    supersample: int = 1,
) -> UInt8[np.ndarray, "v H W 3"]:
    """Render views, equal ones once; a view does not depend on the others that are rendered with it.

    Args:
      codes: of the world, see `scene`.
      pose: x, y, z of the feet, in blocks, and yaw in degrees, all float64. Headings that differ by whole turns, if they
        are exact numbers of degrees, give the same bits.
      height, width: of the frames, in pixels.
      supersample: rays per pixel and direction; they are averaged.

    Returns:
      uint8 frames.
    """
    pose = np.concatenate([pose[:, :3], np.mod(pose[:, 3:], 360)], axis=1)
    heading = np.radians(pose[:, 3])
    # Never below zero, whichever way a ray goes: the view is shorter than the world is wide.
    eye = np.stack([np.mod(pose[:, 0], SIZE) + SIZE, pose[:, 1] + EYE, np.mod(pose[:, 2], SIZE) + SIZE], 1)
    camera = np.concatenate([eye, np.cos(heading)[:, None], np.sin(heading)[:, None]], 1).astype(np.float32)

    def draw(rows: Int[np.ndarray, " rows"]) -> UInt8[Array, "rows H W 3"]:
        return _render_views(codes, camera[rows], height=height, width=width, supersample=supersample)

    return draw_views(pose, VIEWS, draw)


@partial(jax.jit, static_argnames=("height", "width", "supersample"))
def _render_views(
    codes: UInt8[Array, " cells"], camera: Float[Array, "v 5"], *, height: int, width: int, supersample: int
) -> UInt8[Array, "v H W 3"]:
    rows, columns = height * supersample, width * supersample
    up = FIELD * (1 - 2 * (np.arange(rows) + 0.5) / rows)
    right = FIELD * (2 * (np.arange(columns) + 0.5) / columns - 1) * width / height
    up, right = np.broadcast_arrays(up[:, None], right[None])
    length = np.sqrt(1 + up**2 + right**2)
    # The direction of every pixel, of length 1.
    lens = np.stack([right / length, up / length, 1 / length]).astype(np.float32)
    # Neighbouring rows, whose rays need about as many leaps, make a tile.
    of_tile = max(n for n in range(1, rows + 1) if rows % n == 0 and (n == 1 or n * columns <= _TILE))
    lens = rearrange(lens, "k (tile y) x -> tile k (y x)", y=of_tile)

    def tile(inputs: tuple[Array, Array]) -> Float[Array, "r 3"]:
        camera, (right, up, forward) = inputs
        cos, sin = camera[3:]
        ray = jnp.stack([-right * cos - forward * sin, up, forward * cos - right * sin])
        ray = jnp.where(jnp.abs(ray) < 1e-6, 1e-6, ray)
        return _colours(codes, camera[:3], ray, 2 * FIELD / height)

    tiles = len(lens)
    each = repeat(camera, "v k -> (v tile) k", tile=tiles), repeat(lens, "tile k r -> (v tile) k r", v=VIEWS)
    # A CPU is quickest with one tile after another, an accelerator with all at once.
    colour = jax.lax.map(tile, each) if jax.default_backend() == "cpu" else jax.vmap(tile)(each)
    image = rearrange(colour, "(v tile) (y x) c -> v (tile y) x c", tile=tiles, y=of_tile)
    image = reduce(image, "v (H i) (W j) c -> v H W c", "mean", i=supersample, j=supersample)
    return jnp.clip(jnp.round(image * 255), 0, 255).astype(jnp.uint8)


def _colours(
    codes: UInt8[Array, " cells"], eye: Float[Array, "3"], ray: Float[Array, "3 r"], pixel_slope: float
) -> Float[Array, "r 3"]:
    """Colour in [0, 1] of every ray. ``pixel_slope``: how large a pixel is at distance 1."""
    depth, cell, axis = march(codes, eye, ray)
    code = codes[_flat(cell)].astype(jnp.int32)
    hit = (code >= _BLOCK) & (depth < FAR) & (cell[1] < HEIGHT)
    x, y, z = jnp.clip(eye[:, None] + depth * ray - cell, 0, 1)
    across, down = jnp.where(axis == 0, z, x), jnp.where(axis == 1, z, 1 - y)
    lid = jnp.where(ray[1] < 0, blocks.TOP, blocks.BOTTOM)
    face = jnp.where(axis == 1, lid, blocks.SIDE)
    light = jnp.asarray(_BRIGHTNESS)[jnp.where(axis == 1, lid, jnp.where(axis == 0, 0, 3))]
    level = jnp.log2(jnp.maximum(depth * pixel_slope * blocks.TEXELS, 1))
    level = jnp.clip(jnp.round(level), 0, blocks.LEVELS - 1).astype(jnp.int32)
    kind = jnp.clip(code - _BLOCK, 0, len(blocks.NAMES) - 1)
    texel = (level * len(blocks.NAMES) + kind) * 3 + face
    for part in (down, across):
        index = jnp.clip((part * blocks.TEXELS).astype(jnp.int32), 0, blocks.TEXELS - 1)
        texel = texel * blocks.TEXELS + index
    table = rearrange(blocks.textures(), "l b f v u c -> (l b f v u) c")
    colour = jnp.asarray(table)[texel] * light[:, None]
    fog = jnp.where(hit, jnp.clip((depth / FAR - _FOG) / (1 - _FOG), 0, 1), 1)[:, None]
    return colour * (1 - fog) + _sky(ray[1]) * fog


def march(
    codes: Int[Array, " cells"] | UInt8[Array, " cells"], eye: Float[Array, "3"], ray: Float[Array, "3 r"]
) -> tuple[Float[Array, " r"], Int[Array, "3 r"], Int[Array, " r"]]:
    """Follows rays from the eye to the first block, the end of the view or the top of the world.

    Args:
      codes: of all cells, see `scene`.
      eye: in an empty cell; x and z between SIZE and 2 SIZE.
      ray: directions of length 1 with no component of 0.

    Returns:
      Distance at which the last cell was entered, that cell (not wrapped around), and the axis across which it was entered.
    """
    origin, forward, slowness = eye[:, None], ray > 0, 1 / ray

    def arrived(depth: Array, cell: Array) -> tuple[Array, Array]:
        code = codes[_flat(cell)].astype(jnp.int32)
        return code, (code >= _BLOCK) | (depth >= FAR) | (cell[1] >= HEIGHT)

    def leap(state: tuple) -> tuple:
        leaps, (depth, cell, axis), code, done = state
        reach = code - 1
        plane = jnp.where(forward, cell + code, cell - reach)
        crossing = (plane - origin) * slowness
        across = jnp.argmin(crossing, axis=0)
        further = jnp.min(crossing, axis=0)
        # Rounding must not carry the other two coordinates out of the cube.
        entered = jnp.clip(jnp.floor(origin + further * ray).astype(jnp.int32), cell - reach, cell + reach)
        entered = jnp.where(jnp.arange(3)[:, None] == across, plane - ~forward, entered)
        there = tuple(
            jnp.where(done, old, new)
            for old, new in zip((depth, cell, axis), (further, entered, across), strict=True)
        )
        return leaps + 1, there, *arrived(*there[:2])

    rays = ray.shape[1]
    cell = jnp.broadcast_to(jnp.floor(origin).astype(jnp.int32), (3, rays))
    start = jnp.zeros(rays), cell, jnp.zeros(rays, jnp.int32)
    state = 0, start, *arrived(*start[:2])
    return jax.lax.while_loop(lambda s: (s[0] < LEAPS) & ~s[3].all(), leap, state)[1]


def _flat(cell: Int[Array, "3 r"]) -> Int[Array, " r"]:
    """Index of a cell in the flat array of codes."""
    x, y, z = cell
    return ((x % SIZE) * HEIGHT + jnp.clip(y, 0, HEIGHT - 1)) * SIZE + z % SIZE


def _sky(slope: Float[Array, " r"]) -> Float[Array, "r 3"]:
    """Sky colours of rays by the upward part of their direction."""
    part = jnp.clip(slope / _ZENITH_SLOPE, 0, 1)[:, None]
    return (1 - part) * jnp.asarray(_HORIZON) + part * jnp.asarray(_ZENITH)
