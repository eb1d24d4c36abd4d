"""What of a recipe the real Memory Maze can follow, and what its data sets say about themselves."""

from dataclasses import replace

import pytest

from data_prep.worlds.maze.episodes import episode_spec
from data_prep.worlds.maze.recipe import Recipe
from data_prep.worlds.memory_maze.recipe import EPISODE_FRAMES, MemoryMazeRecipe
from data_prep.worlds.recipe import RecipeError


@pytest.mark.parametrize(("size", "protocol"), [*zip(EPISODE_FRAMES, ("train", "return", "loop", "rotate"))])
def test_episodes_have_the_schema_of_the_ray_cast_maze(size, protocol):
    options = {"protocol": protocol, "split": "train" if protocol == "train" else "test", "size": size}
    ours, theirs = episode_spec(MemoryMazeRecipe(**options)), episode_spec(Recipe(**options))
    assert ours.arrays == theirs.arrays and ours.statics == theirs.statics and ours.chunk == theirs.chunk
    assert ours.name == f"memory_{theirs.name}" == f"memory_maze_{size}x{size}_{protocol}"
    assert ours.info["source"] == "Memory Maze (MuJoCo)" and theirs.info["source"] == "ray-cast Memory Maze"
    for name in ("actions", "pose", "pose_scale", "fps", "protocol", "size", "pixels", "border"):
        assert ours.info[name] == theirs.info[name]
    assert "supersample" not in ours.info and "room" not in ours.info
    targets = {9: 3, 11: 4, 13: 5, 15: 6}[size]
    assert ours.arrays["targets_vec"] == ((targets, 2), "float32")


def test_whole_episodes_can_be_asked_for():
    for size, frames in EPISODE_FRAMES.items():
        recipe = MemoryMazeRecipe("train", size=size, frames=frames)
        assert recipe.num_frames == frames
        with pytest.raises(RecipeError, match=f"frames: {frames + 1} "):
            replace(recipe, frames=frames + 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "train", "size": 7}, "size: 7 is unknown, expected one of 9, 11, 13, 15"),
        ({"protocol": "train", "size": 10}, "size: 10 is not a maze size"),
        ({"protocol": "train", "supersample": 2}, "supersample: 2 has no meaning"),
        ({"protocol": "train", "pixels": 488}, "pixels: 488 is out of range"),
        ({"protocol": "rotate", "room": True, "size": 3}, "room: True has no meaning"),
        ({"protocol": "return", "split": "test", "max_frames": 1002}, "max_frames: 1002 is longer"),
    ],
)
def test_impossible_recipes_are_refused(options, message):
    with pytest.raises(RecipeError) as error:
        MemoryMazeRecipe(**options)
    assert message in str(error.value) and "\n" not in str(error.value)
