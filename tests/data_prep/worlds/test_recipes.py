"""Recipes that are not possible are refused in one line that names the field and its value."""

import pytest

from data_prep.worlds.maze.recipe import Recipe as Maze
from data_prep.worlds.memory_maze.recipe import MemoryMazeRecipe as MemoryMaze
from data_prep.worlds.recipe import PROTOCOLS, RecipeError, new_parser, recipe_from
from data_prep.worlds.voxel.recipe import Recipe as Voxel

ROTATE_TEST = {"protocol": "rotate", "split": "test"}
LOOP_TEST = {"protocol": "loop", "split": "test"}
RETURN_TEST = {"protocol": "return", "split": "test"}


@pytest.mark.parametrize("kind", [Maze, Voxel])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "fly"}, "protocol: 'fly'"),
        ({"split": "dev"}, "split: 'dev'"),
        ({"seed": -1}, "seed: -1"),
        ({"supersample": 9}, "supersample: 9"),
        ({"frames": 1}, "frames: 1"),
        ({"context": 3}, "context: 3 has no meaning for protocol train"),
        ({"protocol": "rotate", "context": 3}, "context: 3 has no meaning for protocol rotate, split train"),
        (ROTATE_TEST | {"context": 9, "frames": 9}, "context: 9 is out of range, expected 1 to 8"),
    ],
)
def test_what_no_world_can_make(kind, options, message):
    refused(kind, options, message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 10}, "size: 10"),
        ({"pixels": 60}, "pixels: 60"),
        ({"pixels": 1032}, "pixels: 1032"),
        ({"room": True}, "room: True has no meaning for protocol train"),
        ({"turn_degrees": 30.0}, "turn_degrees: 30.0 has no meaning for protocol train"),
        ({"look_around": True}, "look_around: True has no meaning for protocol train"),
        ({"protocol": "return"}, "split: return"),
        (RETURN_TEST | {"frames": 100}, "frames: 100 has no meaning for protocol return"),
        (RETURN_TEST | {"min_frames": 19}, "min_frames: 19"),
        (LOOP_TEST | {"size": 3}, "size: loop needs a maze of at least 5, not 3"),
        (LOOP_TEST | {"min_frames": 300, "max_frames": 200}, "max_frames: 200"),
        (LOOP_TEST | {"min_frames": 20, "max_frames": 99}, "max_frames: 99"),
        (LOOP_TEST | {"laps": 0}, "laps: 0"),
        (RETURN_TEST | {"laps": 2}, "laps: 2 has no meaning for protocol return"),
        ({"protocol": "rotate", "turn_degrees": 50.0}, "turn_degrees: 50"),
        ({"protocol": "rotate", "turn_degrees": -30.0}, "turn_degrees: -30"),
        ({"protocol": "rotate", "room": True}, "size: the room has size 3, not 9"),
    ],
)
def test_what_a_maze_cannot_make(options, message):
    refused(Maze, options, message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "64"}, "size: '64'"),
        ({"size": "63x64"}, "width: 63"),
        ({"size": "64x4"}, "height: 4"),
        ({"quality": 0}, "quality: 0"),
        ({"turn_probability": 0.6}, "turn_probability: 0.6"),
        (
            {"protocol": "rotate", "turn_probability": 0.1},
            "turn_probability: 0.1 has no meaning for protocol rotate",
        ),
        (LOOP_TEST | {"context": 24}, "context: 24 is out of range, expected 25 to 99"),
        (RETURN_TEST | {"context": 40}, "frames: 100 do not fit a way out of 30 steps"),
    ],
)
def test_what_the_voxel_landscape_cannot_make(options, message):
    refused(Voxel, options, message)


def refused(kind, options, message):
    with pytest.raises(RecipeError) as error:
        kind(**({"protocol": "train"} | options))
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "tested"), [(Maze, ["loop", "return"]), (Voxel, ["rotate", "loop", "return"])]
)
def test_a_command_without_split_writes_the_one_that_the_protocol_is_for(kind, tested):
    parser = new_parser("make", None, kind)
    for protocol in PROTOCOLS:
        options = parser.parse_args(["--out", "d", "--episodes", "1", "--seed", "3", "--protocol", protocol])
        assert recipe_from(options, kind) == kind(protocol, "test" if protocol in tested else "train", seed=3)


def test_the_help_says_what_an_option_is_for_and_leaves_out_what_a_renderer_has_not():
    maze, memory_maze = (
        " ".join(new_parser("make", None, kind).format_help().split()) for kind in (Maze, MemoryMaze)
    )
    for text in (maze, memory_maze):
        assert "rotate, evaluations: frames that are given" in text in text
        assert "return, loop: shortest episode, 60% of it context (100)" in text
    assert "rotate: turn in the middle" in maze and "--supersample" in maze
    assert "--room" not in memory_maze and "--supersample" not in memory_maze
