"""One maze on MuJoCo behind the interface of `data_prep.worlds.maze.motion`.

Importing this module loads MuJoCo; see `package.load_tasks` for what it raises where that is not possible.
"""

import math

import numpy as np
from jaxtyping import Float, Int, UInt8

from data_prep.worlds.maze import textures
from data_prep.worlds.maze.motion import State
from data_prep.worlds.maze.world import TARGET_PALETTE, World
from data_prep.worlds.memory_maze.package import load_tasks

tasks = load_tasks()

# These come after load_tasks, which says what is wrong where they cannot be loaded.
from dm_control import composer  # noqa: E402
from dm_control.locomotion.props.target_sphere import TargetSphere  # noqa: E402

from data_prep.worlds.memory_maze import patches  # noqa: E402

# Textures of labmaze's style 01, in the order of the wall patterns of the ray-cast maze.
WALL_TEXTURES = ("blue", "cerise", "green_bright", "green", "purple", "red_bright", "red", "yellow")
CELL = 2.0  # metres
_CAMERA = "walker/egocentric"
_FREE = (" ", "P", "G")  # of labmaze: a free cell, one to start from, one with a target


class MuJoCoMaze:
    """Memory Maze of one size, rendered in frames of one size.

    Attributes:
      world, state, target: see `data_prep.worlds.maze.motion.Environment`; set by `reset` (world) and `start`.
      frames: the frame of every state since `start`, uint8 (H, W, 3).
    """

    def __init__(self, size: int, pixels: int, border: bool = True):
        patches.apply()
        self._make = getattr(tasks, f"memory_maze_{size}x{size}")
        self._size, self._pixels, self._has_border = size, pixels, border
        self._env = None

    def reset(self, seed: int) -> None:
        """Build another maze, a function of a seed below 2**32."""
        self.close()
        # The package's own border covers the whole frame below 64 pixels.
        self._env = self._make(
            seed=seed, global_observables=True, target_color_in_image=False, camera_resolution=self._pixels
        )
        self._place: State | None = None
        self._core = self._env  # without the package's wrappers
        while not isinstance(self._core, composer.Environment):
            self._core = self._core.env
        self._core.add_extra_hook("initialize_episode", lambda physics, _: self._put(physics, self._place))
        self.world = self._read_world(self._env.reset().observation)
        self._core._recompile_mjcf_every_episode = False  # from now on a reset keeps the maze

    def close(self) -> None:
        """Free the simulation and its OpenGL context."""
        if self._env is not None:
            self._env.close()
            self._env = None

    def start(self, state: State) -> None:
        """Put the agent, at rest, where a walk begins; the target of the maze's seed is shown."""
        self._place = state
        self.frames: list[np.ndarray] = []
        self._observe(self._env.reset().observation)

    def act(self, action: int) -> float:
        step = self._env.step(action)
        self._observe(step.observation)
        return float(step.reward)

    def render(
        self, pose: Float[np.ndarray, "t 4"], target: Int[np.ndarray, " t"]
    ) -> UInt8[np.ndarray, "t H W 3"]:
        """What the agent would see from other poses, with the colours of these targets around the frames.

        It moves the agent, so the next walk needs a `start`.
        """
        frames = np.empty((len(pose), self._pixels, self._pixels, 3), np.uint8)
        physics = self._core.physics
        for frame, (x, y, cos, sin), shown in zip(frames, pose.tolist(), target, strict=True):
            self._put(physics, State(x, y, math.atan2(sin, cos)))
            physics.forward()
            frame[:] = self._bordered(physics.render(self._pixels, self._pixels, _CAMERA), shown)
        return frames

    def _put(self, physics, state: State | None) -> None:
        """Move the agent without touching anything."""
        if state is None:
            return
        half = self._size / 2
        turn = [math.cos(-state.heading / 2), 0, 0, math.sin(-state.heading / 2)]  # its joint turns clockwise
        position = [(state.x - half) * CELL, (state.y - half) * CELL, 0]
        self._core.task._walker.set_pose(physics, position, turn)
        for entity in self._core.task.root_entity.iter_entities():
            if isinstance(entity, TargetSphere):
                entity.reset(physics)

    def _observe(self, seen: dict[str, np.ndarray]) -> None:
        x, y = seen["agent_pos"].tolist()
        cos, sin = seen["agent_dir"].tolist()
        self.state = State(x, y, math.atan2(sin, cos))
        self.target = int((seen["targets_pos"] == seen["target_pos"]).all(1).argmax())
        self.frames.append(self._bordered(seen["image"], self.target))

    def _bordered(self, image: np.ndarray, target: int) -> np.ndarray:
        image = image.copy()
        if self._has_border:
            colour = tasks.TARGET_COLORS[target] * 255 * textures.BORDER_BRIGHTNESS
            # Cut to integers, not rounded, as the package does.
            image[textures.border(self._pixels)] = colour.astype(np.uint8)
        return image

    def _read_world(self, seen: dict[str, np.ndarray]) -> World:
        arena = self._core.task.root_entity
        letters = np.flipud(np.asarray(arena.maze.entity_layer))  # labmaze counts rows from the top
        outer = len(letters)
        edges = [i * outer // 3 for i in (1, 2)]
        block = np.searchsorted(edges, np.arange(outer), side="right")
        names = np.array([arena._current_wall_texture[str(i)].name for i in range(9)]).reshape(3, 3)
        index = np.vectorize(WALL_TEXTURES.index)(names)
        pattern = np.flipud(index[np.ix_(block, block)])
        floor = np.flipud(np.char.isupper(np.asarray(arena.maze.variations_layer)))
        targets = len(seen["targets_pos"])
        return World(
            wall=(~np.isin(letters, _FREE)).astype(np.uint8),
            wall_pattern=pattern.astype(np.uint8),
            wall_colour=textures.WALL_PALETTE[pattern],
            floor_pattern=floor.astype(np.uint8),
            targets=seen["targets_pos"].astype(np.float32),
            target_colour=TARGET_PALETTE[:targets],
        )
