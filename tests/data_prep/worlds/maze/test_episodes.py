"""Episodes: determinism, observations, and the perfect-map oracle."""

import itertools
import math

import numpy as np
import pytest

from data_prep import make_maze
from data_prep.make_maze import make_episodes
from data_prep.worlds.maze import render
from data_prep.worlds.maze.episodes import episode_spec
from data_prep.worlds.maze.protocols import draw_walk
from data_prep.worlds.maze.recipe import Recipe
from data_prep.worlds.maze.world import World
from data_prep.worlds.recipe import SPLITS
from rad_jax.data.spec import check_episode

ROOM = Recipe("rotate", room=True, size=3, pixels=16)
ROOM_TEST = Recipe("rotate", split="test", room=True, size=3, pixels=16)
TRAIN = Recipe("train", size=7, pixels=16, frames=60)
LOOP = Recipe("loop", split="test", size=7, pixels=16, min_frames=90, max_frames=160)
RECIPES = [ROOM, ROOM_TEST, TRAIN, LOOP]


def world_of(episode: dict) -> World:
    """The world of a stored episode."""
    return World(
        wall=np.pad(1 - episode["maze_layout"], 1, constant_values=1).astype(np.uint8),
        wall_pattern=episode["wall_pattern"],
        wall_colour=episode["wall_color"],
        floor_pattern=episode["floor_pattern"],
        targets=episode["targets_pos"],
        target_colour=episode["targets_color"],
    )


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"{recipe.protocol}-{recipe.split}")
def test_an_episode_depends_on_its_index_alone(recipe, monkeypatch):
    together = list(make_episodes(recipe, range(3)))
    alone = [episode for index in range(3) for episode in make_episodes(recipe, range(index, index + 1))]
    assert all(map(equal, together, alone))
    monkeypatch.setattr(make_maze, "_RENDERED_BYTES", 20_000)  # one or two episodes at a time
    assert all(map(equal, together, make_episodes(recipe, range(3))))
    assert not any(equal(together[i], together[j]) for i in range(3) for j in range(i))


def test_splits_and_seeds_share_no_world():
    colours = {
        draw_walk(Recipe("rotate", split, seed, room=True, size=3), index)[0].world.wall_colour.tobytes()
        for split, seed, index in itertools.product(SPLITS, (0, 1), range(50))
    }
    assert len(colours) == 3 * 2 * 50


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"{recipe.protocol}-{recipe.split}")
def test_episodes_fit_their_schema_and_say_what_was_seen(recipe):
    spec = episode_spec(recipe)
    for episode in make_episodes(recipe, range(2)):
        frames = check_episode(spec, "episode", episode)
        assert (episode["actions"][0] == 0).all() and (episode["actions"][1:].sum(1) == 1).all()
        assert len(spec.info["actions"]) == 6 and spec.info["pose"] == ["x", "y", "cos", "sin"]
        for t in (0, frames // 2, frames - 1):
            x, y, cos, sin = episode["pose"][t].astype(float)
            assert math.hypot(cos, sin) == pytest.approx(1, abs=1e-6)
            assert episode["maze_layout"][int(y), int(x)] == 1
            for k, (tx, ty) in enumerate(episode["targets_pos"]):
                angle = math.atan2(ty - y, tx - x) - math.atan2(sin, cos)  # to the left of straight ahead
                distance = math.dist((x, y), (tx, ty))
                seen = (-distance * math.sin(angle), distance * math.cos(angle))
                assert episode["targets_vec"][t, k] == pytest.approx(seen, abs=1e-5)
            target = episode["target"][t]
            for one, many in (("target_vec", "targets_vec"), ("target_pos", None), ("target_color", None)):
                all_targets = episode[many][t] if many else episode[one.replace("target_", "targets_")]
                assert np.array_equal(episode[one][t], all_targets[target])


@pytest.mark.parametrize("recipe", [TRAIN, LOOP], ids=["train", "loop"])
def test_an_episode_holds_all_that_is_needed_to_render_it_again(recipe):
    (episode,) = make_episodes(recipe, range(3, 4))
    (again,) = render.render([world_of(episode)], [episode["pose"]], [episode["target"]], pixels=16)
    assert np.array_equal(again, episode["frames"])


def test_oracle_equals_the_truth_where_the_agent_has_stood_before():
    for episode in make_episodes(LOOP, range(2)):
        n_context = int(episode["n_context"])
        assert np.array_equal(episode["oracle"][:n_context], episode["frames"][:n_context])
        # Wherever a predicted frame is seen from a position of the context, which turning on the spot provides.
        places = {tuple(place) for place in episode["pose"][:n_context, :2].tolist()}
        known = [t for t in range(len(episode["pose"])) if tuple(episode["pose"][t, :2].tolist()) in places]
        assert np.array_equal(episode["oracle"][known], episode["frames"][known])
        error = (episode["oracle"][n_context:].astype(float) - episode["frames"][n_context:]) ** 2
        assert 20 < 10 * np.log10(255**2 / error.mean()) < 45, (
            "not a ceiling, or not different from the truth"
        )
    for episode in make_episodes(ROOM_TEST, range(2)):
        assert np.array_equal(episode["oracle"], episode["frames"])
