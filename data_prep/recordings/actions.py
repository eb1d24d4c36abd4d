"""The action vector of Oasis: 23 buttons, and the two angles of the camera in the bins of a µ-law.

Source: etched-ai/open-oasis, utils.py (names and order) and issue #9 (the quantiser). The names of entries 15 and 16 do not say
what they do (issue #35): 15, cameraX, turns up and down, 16, cameraY, left and right.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Num
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


def bin_value(bins: ArrayLike) -> Float[np.ndarray, "..."]:
    """The entries of the action vector for bins 0 to 80: -1 to 1, float32."""
    return ((np.asarray(bins) - HALF_BINS) / HALF_BINS).astype(np.float32)


def camera_value(degrees: ArrayLike) -> Float[np.ndarray, "..."]:
    """The entries of the action vector for turns in degrees; a turn beyond 20 degrees is in the last bin."""
    share = np.clip(np.asarray(degrees, np.float64), -LARGEST_TURN, LARGEST_TURN) / LARGEST_TURN
    compressed = np.sign(share) * np.log1p(MU * np.abs(share)) / np.log1p(MU)
    return bin_value(np.round((compressed + 1) * HALF_BINS))


def camera_degrees(value: ArrayLike) -> Float[np.ndarray, "..."]:
    """The turns in degrees, float32, of entries of the action vector: the inverse of `camera_value`."""
    value = np.asarray(value, np.float64)
    return (LARGEST_TURN * np.sign(value) * ((1 + MU) ** np.abs(value) - 1) / MU).astype(np.float32)


def vectors(buttons: Mapping[str, Num[np.ndarray, "t"]], camera_deg: ArrayLike) -> Float[np.ndarray, "t 25"]:
    """Action vectors from the buttons that are pressed, by name, and turns (pitch, yaw) in degrees."""
    camera_deg = np.asarray(camera_deg)
    out = np.zeros((len(camera_deg), len(ACTIONS)), np.float32)
    for name, pressed in buttons.items():
        out[:, ACTIONS.index(name)] = pressed
    out[:, [PITCH, YAW]] = camera_value(camera_deg)
    return out


def led_to(rows: Num[np.ndarray, "t *a"]) -> Num[np.ndarray, "t+1 *a"]:
    """From actions taken at frames (row t leads to frame t + 1) to actions that led to frames: a zero row, then these."""
    return np.concatenate([np.zeros_like(rows[:1]), rows])
