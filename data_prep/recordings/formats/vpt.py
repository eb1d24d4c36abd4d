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

import numpy as np

from data_prep.recordings.actions import BUTTONS, led_to, vectors
from data_prep.recordings.files import JsonObject, read_json_lines
from data_prep.recordings.recording import BadRecording, Candidate, Recording, Source

SOURCE = Source("vpt", "VPT contractors", 20, (".mp4", ".jsonl"), strict=False)
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


def read(candidate: Candidate) -> Recording:
    path = candidate.file(".jsonl")
    rows = read_json_lines(path)
    pressed = {name: np.zeros(len(rows), np.float32) for name in BUTTONS}
    camera, cursor = np.zeros((len(rows), 2), np.float32), np.full((len(rows), 2), np.nan, np.float32)
    factor, nulls, slot, stuck = _screen_factor(path), 0, None, False
    for t, row in enumerate(rows):
        keyboard, mouse = (_device(row, name) for name in ("keyboard", "mouse"))
        nulls += None in (row.content["keyboard"], row.content["mouse"])
        screen = row.content.get("isGuiOpen") is True
        for key in keyboard.list_of("keys", str) if keyboard else ():
            if key in KEYBOARD:
                pressed[KEYBOARD[key]][t] = 1
        if mouse:
            turned = np.array([mouse.number("dy"), mouse.number("dx")]) * DEGREES_PER_PIXEL
            camera[t] = turned * (factor if screen else 1)
            new = mouse.list_of("newButtons", int)
            stuck = new == [0] if t == 0 else stuck and 0 not in new
            for button in mouse.list_of("buttons", int):
                if button in MOUSE and not (button == 0 and stuck):
                    pressed[MOUSE[button]][t] = 1
            if screen:
                cursor[t] = mouse.number("x"), mouse.number("y")
        before, slot = slot, _slot(row)
        if slot is not None and before not in (None, slot):
            pressed[f"hotbar.{slot + 1}"][t] = 1
    pose = [
        [np.nan if row.content.get(name) is None else row.number(name) for name in _STATE] for row in rows
    ]
    actions, camera = led_to(vectors(pressed, camera))[:-1], led_to(camera)[:-1]
    notes = (f"{nulls} lines in which mouse or keyboard is null",) if nulls else ()
    return Recording(candidate, SOURCE, actions, np.array(pose), camera, cursor=cursor, notes=notes)


def _device(row: JsonObject, name: str) -> JsonObject | None:
    """What keyboard or mouse did in a line; None where this is null or empty."""
    return row.object(name) if row.get(name, dict, type(None)) else None


def _slot(row: JsonObject) -> int | None:
    slot = row.content.get("hotbar")  # from version 6.11 on
    if slot is not None and (type(slot) is not int or not 0 <= slot <= 8):
        raise BadRecording(row.path, f"{row.where}: hotbar is {slot!r}", "0 to 8")
    return slot


def _screen_factor(path: Path) -> float:
    versions = [part for part in path.parts if re.fullmatch(r"\d+\.\d+", part)]
    return SCREEN_FACTOR.get(versions[-1], 1.0) if versions else 1.0
