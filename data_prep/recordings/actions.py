"""The action vector of Oasis: 25 numbers, of which two are the camera in bins of a µ-law.

Source: etched-ai/open-oasis, utils.py (names and order) and issue #9 (the quantiser). Its names of entries 15 and 16 are
swapped against what they do (issue #35): 15 turns up and down, 16 left and right.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int, Num
from numpy.typing import ArrayLike

ACTIONS = (
    *("inventory", "ESC", *(f"hotbar.{slot}" for slot in range(1, 10))),
    *("forward", "back", "left", "right", "cameraX", "cameraY", "jump", "sneak", "sprint"),
    *("swapHands", "attack", "use", "pickItem", "drop"),
)
PITCH, YAW = ACTIONS.index("cameraX"), ACTIONS.index("cameraY")
BUTTONS = tuple(name for name in ACTIONS if not name.startswith("camera"))
MOVES = ("forward", "back", "left", "right", "jump")

LARGEST_TURN = 20.0  # degrees; the camera does not turn further in one frame
HALF_BINS = 40  # bins on either side of no turn, of half a "degree" each on the compressed scale
MU = 2.7


def camera_bin(degrees: ArrayLike) -> Int[np.ndarray, "..."]:
    """The bin, 0 to 80, of turns in degrees; beyond 20 degrees the last one."""
    share = np.clip(np.asarray(degrees, np.float64), -LARGEST_TURN, LARGEST_TURN) / LARGEST_TURN
    compressed = np.sign(share) * np.log1p(MU * np.abs(share)) / np.log1p(MU)
    return np.round((compressed + 1) * HALF_BINS).astype(np.int64)


def bin_value(bins: ArrayLike) -> Float[np.ndarray, "..."]:
    """What the action vector holds for bins 0 to 80: -1 to 1, float32."""
    return ((np.asarray(bins) - HALF_BINS) / HALF_BINS).astype(np.float32)


def camera_value(degrees: ArrayLike) -> Float[np.ndarray, "..."]:
    """What the action vector holds for turns in degrees."""
    return bin_value(camera_bin(degrees))


def camera_degrees(value: ArrayLike) -> Float[np.ndarray, "..."]:
    """The turn in degrees, float32, that a value of the action vector stands for: the inverse of `camera_value`."""
    value = np.asarray(value, np.float64)
    return (LARGEST_TURN * np.sign(value) * ((1 + MU) ** np.abs(value) - 1) / MU).astype(np.float32)


def vectors(buttons: Mapping[str, Num[np.ndarray, "t"]], camera_deg: ArrayLike) -> Float[np.ndarray, "t 25"]:
    """Action vectors from buttons by name (those not given are not pressed) and turns (t, 2), (pitch, yaw) in degrees."""
    camera_deg = np.asarray(camera_deg)
    out = np.zeros((len(camera_deg), len(ACTIONS)), np.float32)
    for name, pressed in buttons.items():
        out[:, ACTIONS.index(name)] = pressed
    out[:, [PITCH, YAW]] = camera_value(camera_deg)
    return out


def led_to(rows: np.ndarray, num_frames: int) -> np.ndarray:
    """From actions taken at frames (row t leads to t + 1) to actions that led to frames: a zero row, then the others."""
    return np.concatenate([np.zeros_like(rows[:1]), rows[: num_frames - 1]])
