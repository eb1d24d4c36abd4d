"""The contractors' recordings of Video PreTraining (openai/Video-Pre-Training): ``**/<name>.mp4 + .jsonl``.

A line of the JSON file for every frame: the keyboard's keys, the mouse (dx and dy in pixels, buttons, x and y of the
pointer), ``hotbar``, ``isGuiOpen`` and the state (xpos, ypos, zpos, yaw, pitch). Line t is the state of frame t and the action
taken at it, which leads to frame t + 1; that of the last line leads nowhere. Differences from the loader published with it:

- a pixel is 0.15 degrees exactly; there, degrees are cut to integers;
- frames without any input are kept, because a world model must learn them;
- the pointer, which the recorder left out, is drawn while a screen is open (as an arrow of our own, not the game's).

As in that loader, a changed ``hotbar`` presses that slot's key, because the wheel is not recorded; a left button that is down
in the first line counts only once it has been pressed again; and with a screen open the mouse of some versions (a directory of
the path, such as 6.9) is off by a factor. Mouse or keyboard may be null, which is no input. Positions change for many reasons
beside keys, so a contradiction between them is a note, not a defect.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.recordings.actions import ACTIONS, led_to, vectors
from data_prep.recordings.files import entry_of, find_pairs, number_of, read_json_lines
from data_prep.recordings.recording import BadRecording, Candidate, Recording, Source
from data_prep.recordings.video import frames_for

SOURCE = Source("vpt", "VPT contractors", 20, ACTIONS, strict=False)
LAYOUT = "<name>.mp4 beside <name>.jsonl"
DEGREES_PER_PIXEL = 360 / 2400
KEYBOARD = {
    "key.keyboard.w": "forward",
    "key.keyboard.s": "back",
    "key.keyboard.a": "left",
    "key.keyboard.d": "right",
    "key.keyboard.space": "jump",
    "key.keyboard.left.shift": "sneak",
    "key.keyboard.left.control": "sprint",
    "key.keyboard.e": "inventory",
    "key.keyboard.q": "drop",
    "key.keyboard.f": "swapHands",
    "key.keyboard.escape": "ESC",
    **{f"key.keyboard.{slot}": f"hotbar.{slot}" for slot in range(1, 10)},
}
MOUSE = {0: "attack", 1: "use", 2: "pickItem"}
SCREEN_FACTOR = {"5.7": 0.5, "5.8": 0.5, "6.7": 2.0, "6.8": 2.0, "6.9": 2.0}
"""Of mouse motion while a screen is open, by version of the recorder."""
_STATE = ("xpos", "ypos", "zpos", "yaw", "pitch")


def find(src: Path | str) -> list[Candidate]:
    return find_pairs(src, (".mp4", ".jsonl"))


def read(candidate: Candidate, video_frames: int | None = None) -> Recording:
    video, path = candidate.file(".mp4"), candidate.file(".jsonl")
    rows = read_json_lines(path)
    if not rows:
        raise BadRecording(path, "no lines", "a line for every frame")
    buttons, camera = {name: np.zeros(len(rows), np.float32) for name in ACTIONS}, np.zeros((len(rows), 2))
    pose, cursor = np.full((len(rows), 5), np.nan), np.full((len(rows), 2), np.nan, np.float32)
    factor, nulls, slot, stuck = _screen_factor(path), 0, None, False
    for t, row in enumerate(rows):
        where = f"line {t + 1}"
        keyboard = entry_of(path, where, row, "keyboard", (dict, type(None)))
        mouse = entry_of(path, where, row, "mouse", (dict, type(None)))
        nulls += keyboard is None or mouse is None
        screen = row.get("isGuiOpen") is True
        for key in entry_of(path, where, keyboard, "keys", list) if keyboard else ():
            if key in KEYBOARD:
                buttons[KEYBOARD[key]][t] = 1
        if mouse:
            dx, dy = (number_of(path, where, mouse.get(axis), f"mouse {axis}") for axis in ("dx", "dy"))
            camera[t] = np.array([dy, dx]) * DEGREES_PER_PIXEL * (factor if screen else 1)
            new = entry_of(path, where, mouse, "newButtons", list)
            stuck = new == [0] if t == 0 else stuck and 0 not in new
            for button in entry_of(path, where, mouse, "buttons", list):
                if button in MOUSE and not (button == 0 and stuck):
                    buttons[MOUSE[button]][t] = 1
            if screen:
                cursor[t] = [number_of(path, where, mouse.get(axis), f"mouse {axis}") for axis in "xy"]
        before, slot = slot, _slot(path, where, row)
        if slot is not None and before not in (None, slot):
            buttons[f"hotbar.{slot + 1}"][t] = 1
        for column, name in enumerate(_STATE):
            if row.get(name) is not None:
                pose[t, column] = number_of(path, where, row[name], name)
    frames = frames_for(video, path, len(rows), video_frames)
    for name in ("cameraX", "cameraY"):
        del buttons[name]
    turned = led_to(camera.astype(np.float32), frames)
    return Recording(
        candidate.id,
        SOURCE,
        video,
        frames,
        actions=vectors({name: led_to(pressed, frames) for name, pressed in buttons.items()}, turned),
        camera_deg=turned,
        pose=pose,
        cursor=cursor,
        notes=(f"{nulls} lines in which mouse or keyboard is null",) if nulls else (),
    )


def _slot(path: Path, where: str, row: dict[str, Any]) -> int | None:
    slot = row.get("hotbar")  # from version 6.11 on
    if slot is None:
        return None
    if isinstance(slot, bool) or not isinstance(slot, int) or not 0 <= slot <= 8:
        raise BadRecording(path, f"{where}: hotbar is {slot!r}", "0 to 8")
    return slot


def _screen_factor(path: Path) -> float:
    versions = [part for part in path.parts if re.fullmatch(r"\d+\.\d+", part)]
    return SCREEN_FACTOR.get(versions[-1], 1.0) if versions else 1.0
