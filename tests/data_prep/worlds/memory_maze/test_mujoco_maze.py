"""The real environment, where it can run: same images as the stock package, same episodes from any process."""

import itertools
import math
import subprocess
import sys
from types import SimpleNamespace

import chex
import numpy as np
import pytest

from data_prep import make_memory_maze
from data_prep.make_memory_maze import make_episode
from data_prep.worlds.maze.episodes import episode_spec, write
from data_prep.worlds.maze.layout import neighbours
from data_prep.worlds.maze.motion import FORWARD, FORWARD_LEFT, LEFT, NOOP, RIGHT, State
from data_prep.worlds.maze.protocols import draw_walk
from data_prep.worlds.memory_maze.package import MemoryMazeError, load_tasks
from data_prep.worlds.memory_maze.recipe import MemoryMazeRecipe
from rad_jax.data import Episodes
from rad_jax.data.spec import check_episode
from tests.data_prep import commands

STOCK = """
import hashlib, math, sys
import numpy as np
from data_prep.worlds.maze.motion import State
from data_prep.worlds.maze.policy import Follower, cell_of, shortest_path
from data_prep.worlds.memory_maze.package import load_tasks
tasks = load_tasks()
if sys.argv[1] == "patched":
    from data_prep.worlds.memory_maze import patches
    patches.apply()
seen, rewards = hashlib.sha256(), 0
env = tasks.memory_maze_9x9(global_observables=True, seed=11, camera_resolution=64)
step = env.reset()
target = None
for _ in range(120):
    view = step.observation
    for name in ("image", "agent_pos", "target_pos"):
        seen.update(np.ascontiguousarray(view[name]).tobytes())
    state = State(*view["agent_pos"], math.atan2(view["agent_dir"][1], view["agent_dir"][0]))
    if target is None or (view["target_pos"] != target).any():
        target = view["target_pos"]
        follow = Follower(shortest_path(view["maze_layout"] == 1, cell_of(state), tuple(map(int, target))))
    step = env.step(follow(state) or 0)
    rewards += step.reward
print(seen.hexdigest(), rewards)
env.close()
"""


@pytest.fixture(scope="module", autouse=True)
def tasks():
    """The package, or the reason why its tests are skipped."""
    try:
        return load_tasks()
    except MemoryMazeError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def maze(tasks):
    from data_prep.worlds.memory_maze.environment import MuJoCoMaze

    maze = MuJoCoMaze(9, 64)
    maze.reset(5)
    yield maze
    maze.close()


@pytest.fixture(scope="module")
def loop(tasks):
    """A short evaluation episode."""
    return make_episode(LOOP, 3)


LOOP = MemoryMazeRecipe("loop", split="test", pixels=32, min_frames=90, max_frames=160)


def open_place(maze) -> State:
    """The middle of the longest free stretch along x, looking along it."""
    free, best = maze.world.free, (0, 0, 0)
    for y, row in enumerate(free):
        run = 0
        for x, is_free in enumerate(row):
            run = run + 1 if is_free else 0
            best = max(best, (run, x, y))
    run, x, y = best
    assert run >= 3
    return State(x - run + 1.5, y + 0.5, 0.0)


def test_patches_change_speed_and_no_image(root):
    runs = [
        subprocess.run(
            [sys.executable, "-c", STOCK, how], cwd=root, capture_output=True, text=True, check=True
        )
        for how in ("stock", "patched")
    ]
    assert runs[0].stdout == runs[1].stdout
    assert float(runs[0].stdout.split()[1]) >= 2, "no target was touched: that patch was not compared"


@pytest.mark.parametrize(
    ("geoms", "only", "touched"),
    [
        ([], None, False),
        ([(1, 2), (3, 4)], None, False),
        ([(1, 2), (7, 4)], None, True),
        ([(1, 7)], None, True),
        ([(1, 7), (2, 3)], (1, 9), True),
        ([(4, 7), (1, 3)], (1, 9), False),
    ],
)
def test_a_target_is_touched_when_a_contact_is_its(geoms, only, touched, tasks):
    """The rule alone: contacts of others, and contacts of the target with what does not count, are none of its."""
    from data_prep.worlds.memory_maze import patches

    class Physics:
        data = SimpleNamespace(
            ncon=len(geoms), ptr=SimpleNamespace(contact=SimpleNamespace(geom=np.array(geoms).reshape(-1, 2)))
        )
        rgba = np.ones(4)

        def bind(self, _):
            return self

    target = SimpleNamespace(_activated=False, _geom_id=7, _specific_collision_geom_ids=only, _material=None)
    patches._update_activation(target, Physics())
    assert target._activated == touched and Physics.rgba[-1] == 1 - touched


def test_the_agent_starts_where_it_is_put_and_moves_as_measured(maze):
    place = open_place(maze)
    maze.start(place)
    assert maze.state[:3] == pytest.approx(place[:3], abs=1e-3)
    states = [maze.state]
    for action in [LEFT] * 4 + [NOOP] * 2:
        assert maze.act(action) in (0, 1)
        states.append(maze.state)
    turns = [
        math.degrees(math.remainder(b.heading - a.heading, 2 * math.pi))
        for a, b in itertools.pairwise(states)
    ]
    assert turns == pytest.approx([14.1, 18.3, 18.4, 18.4, 2.9, 0], abs=0.1)
    maze.start(place)
    states = [maze.state]
    for _ in range(4):
        maze.act(FORWARD)
        states.append(maze.state)
    moves = [math.dist(a[:2], b[:2]) for a, b in itertools.pairwise(states)]
    assert moves == pytest.approx([0.111, 0.219, 0.243, 0.248], abs=2e-3)
    assert states[-1].x > states[0].x, "walks where it looks"
    maze.start(place)
    maze.act(RIGHT)
    assert maze.state.heading < 0
    maze.act(FORWARD_LEFT)
    assert len(maze.frames) == 3


def test_the_world_is_the_one_that_is_simulated(maze, tasks):
    """Against the package's own observations and its image of the border."""
    env = tasks.memory_maze_9x9(global_observables=True, seed=5, camera_resolution=64)
    seen = env.reset().observation
    assert np.array_equal(maze.world.free, seen["maze_layout"])
    assert np.array_equal(maze.world.targets, seen["targets_pos"].astype(np.float32))
    colours = np.array(tasks.TARGET_COLORS, np.float32)[:3]
    assert np.array_equal(maze.world.target_colour, colours)
    heading = math.atan2(seen["agent_dir"][1], seen["agent_dir"][0])
    env.close()
    maze.start(State(*seen["agent_pos"], heading))
    shown = np.flatnonzero((colours == seen["target_color"].astype(np.float32)).all(1))
    assert maze.target == shown[0]
    assert np.array_equal(maze.frames[0][:2], seen["image"][:2]), "the border is not the package's"
    error = np.abs(maze.frames[0].astype(int) - seen["image"])
    assert error.mean() < 0.1, "not the view of the place where the package starts"


def test_every_free_cell_can_be_reached(tasks):
    """The policy needs it. Only the text of the mazes is made, which takes no time."""
    for size in (9, 15):
        extra = {"max_rooms": 9, "room_max_size": 3} if size == 15 else {"max_rooms": 6, "room_max_size": 5}
        for seed in range(1, 101):
            text = tasks.TextMazeVaryingWalls(
                height=size + 2,
                width=size + 2,
                room_min_size=3,
                spawns_per_room=1,
                objects_per_room=1,
                max_variations=26,
                simplify=True,
                random_seed=seed,
                **extra,
            )
            text.regenerate()
            free = np.isin(text.entity_layer, (" ", "P", "G"))
            y, x = np.argwhere(free)[0]
            reached, todo = {(x, y)}, [(x, y)]
            while todo:
                new = [cell for cell in neighbours(free, todo.pop()) if cell not in reached]
                reached.update(new)
                todo += new
            assert len(reached) == free.sum()


def test_colours_of_the_walls_are_where_the_world_says(maze):
    """Before every wall that can be faced from a free cell, the middle of the view has the hue of its pattern."""
    world, right, wrong = maze.world, 0, 0
    poses, patterns = [], []
    for y, x in np.argwhere(world.free):
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            if world.wall[y + 1 + dy, x + 1 + dx]:
                poses.append((x + 0.5, y + 0.5, dx, dy))
                patterns.append(world.wall_pattern[y + 1 + dy, x + 1 + dx])
    views = maze.render(np.array(poses, np.float32), np.zeros(len(poses), np.int32))
    from data_prep.worlds.maze.textures import WALL_PALETTE

    def hue(colour):
        colour = colour - colour.mean(-1, keepdims=True)
        return colour / np.linalg.norm(colour, axis=-1, keepdims=True)

    middles = hue(views[:, 26:34, 24:40].reshape(len(poses), -1, 3).astype(float).mean(1))
    for middle, pattern in zip(middles, patterns):
        nearest = (hue(WALL_PALETTE.astype(float)) @ middle).argmax()
        right, wrong = right + (nearest == pattern), wrong + (nearest != pattern)
    assert wrong < 0.1 * right, (right, wrong)


def test_rooms_have_the_brighter_floor(maze):
    """The lowest line of a view shows the floor half a cell ahead: in the cell, seen from its side."""
    cells = np.argwhere(maze.world.free)
    poses = np.array([(x + 0.15, y + 0.5, 1, 0) for y, x in cells], np.float32)
    lines = maze.render(poses, np.zeros(len(poses), np.int32))[:, 61, 24:40].mean((1, 2))
    is_room = maze.world.floor_pattern[1:-1, 1:-1][maze.world.free] == 1
    targets = {tuple(target) for target in maze.world.targets.astype(int).tolist()}
    seen = np.array([(x, y) not in targets for y, x in cells.tolist()])
    assert is_room[seen].any() and not is_room[seen].all()
    assert lines[seen & is_room].min() > lines[seen & ~is_room].max()


def test_a_frame_is_not_overwritten_by_the_next(maze):
    maze.start(open_place(maze))
    physics = maze._core.physics
    first = physics.render(64, 64, "walker/egocentric")
    kept = first.copy()
    maze.act(LEFT)
    assert (physics.render(64, 64, "walker/egocentric") != kept).any() and np.array_equal(first, kept)


def test_a_pose_gives_the_frame_that_was_seen_from_it(maze):
    rng = np.random.default_rng(0)
    _, walk = draw_walk(MemoryMazeRecipe("train", frames=60), 0, lambda _: maze)
    seen = np.stack(maze.frames).astype(int)
    again = maze.render(walk.pose, walk.target)
    assert np.abs(again - seen).mean() < 0.1 and len(np.unique(walk.pose, axis=0)) > 50
    shuffled = rng.permutation(60)
    assert np.array_equal(maze.render(walk.pose[shuffled], walk.target[shuffled]), again[shuffled])


def test_the_oracle_knows_the_map_and_not_the_place(loop):
    n_context, frames = int(loop["n_context"]), loop["frames"].astype(float)
    known = loop["oracle"].astype(float)
    assert np.array_equal(loop["oracle"][:n_context], loop["frames"][:n_context])
    error = ((known[n_context:] - frames[n_context:]) ** 2).mean()
    assert 20 < 10 * math.log10(255**2 / error) < 45, "not a ceiling, or not different from the truth"


def test_an_episode_fits_the_schema_and_is_consistent(loop):
    frames = check_episode(episode_spec(LOOP), "episode", loop)
    assert 90 <= frames <= 160 and int(loop["n_context"]) == math.floor(0.6 * frames)
    assert (loop["actions"][0] == 0).all() and (loop["actions"][1:].sum(1) == 1).all()
    cells = np.floor(loop["agent_pos"]).astype(int)
    assert loop["maze_layout"][cells[:, 1], cells[:, 0]].all()
    changes = np.flatnonzero(np.diff(loop["target"])) + 1
    assert np.array_equal(changes, np.flatnonzero(loop["reward"]))


def test_exact_turns_repeat_bit_for_bit(tasks):
    recipe = MemoryMazeRecipe("rotate", split="test", pixels=32, turn_degrees=45.0)
    episode = make_episode(recipe, 0)
    assert len(episode["frames"]) == 17 and np.array_equal(episode["frames"][8:10], episode["frames"][:2])
    assert len(np.unique(episode["frames"].reshape(17, -1), axis=0)) == 8
    assert np.array_equal(episode["oracle"], episode["frames"])


def test_an_episode_does_not_depend_on_what_was_made_before(loop):
    """Nor on the process."""
    make_episode(MemoryMazeRecipe("train", pixels=32, frames=20), 0)
    chex.assert_trees_all_equal(make_episode(LOOP, 3), loop)


def test_processes_and_kills_change_no_byte(root, tmp_path):
    """Killed with two workers, continued with one, against made in this process."""
    recipe = MemoryMazeRecipe("train", frames=12, pixels=32)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    job = [
        "--protocol",
        "train",
        "--frames",
        "12",
        "--pixels",
        "32",
        "--episodes",
        "6",
        "--shard-episodes",
        "2",
        "--workers",
    ]
    commands.killed("data_prep.make_memory_maze", killed, [*job, "2"], "*-of-*[0-9]", root)
    assert not (killed / "index.json").exists()
    assert commands.run(make_memory_maze.main, "--out", killed, *job, 1) == 0
    options = SimpleNamespace(out=whole, episodes=6, shard_episodes=2)
    write("make_memory_maze", options, recipe, lambda shard: (make_episode(recipe, i) for i in shard))
    assert commands.contents(killed) == commands.contents(whole)
    assert "data_prep.make_memory_maze" in Episodes(whole, "train").spec.info["command"]
