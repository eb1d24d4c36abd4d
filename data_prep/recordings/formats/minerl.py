"""MineRL-v0 (minerllabs/minerl): a directory for each trajectory, ``recording.mp4``, ``rendered.npz``, ``metadata.json``.

``rendered.npz`` has ``reward`` (N,) and ``action$...`` (N, ...): the action taken at state t, which leads to t + 1 (camera in
degrees, (pitch, yaw)). There are N + 1 states, and the video shows them at its end: its first frames, as many as
``true_video_frame_count`` of the metadata exceeds N + 1, are left out. The last frame cannot be trusted; as in MineRL's loader,
the one before it is shown twice. Placing a block is "use"; crafting, smelting and equipping have no entry in the action vector.

MineRL opens these files with pickles allowed. Here only plain arrays are read.
"""

import numpy as np

from data_prep.recordings.actions import BUTTONS, led_to, vectors
from data_prep.recordings.files import Arrays, read_json
from data_prep.recordings.recording import BadRecording, Candidate, Recording, Source, unknown_pose

VIDEO, ARRAYS, METADATA = "/recording.mp4", "/rendered.npz", "/metadata.json"
SOURCE = Source("minerl", "MineRL-v0", 20, (VIDEO, ARRAYS, METADATA))


def read(candidate: Candidate) -> Recording:
    metadata = read_json(candidate.file(METADATA))
    arrays = Arrays(candidate.file(ARRAYS))
    steps, notes = len(arrays.get("reward", "iuf", (None,))), ()
    camera = arrays.get("action$camera", "iuf", (steps, 2)).astype(np.float32)
    buttons = {}
    for name in BUTTONS:
        if f"action${name}" in arrays or name == "forward":
            pressed = arrays.get(f"action${name}", shape=(steps,))
            if not np.isin(pressed, (0, 1)).all():
                raise BadRecording(arrays.path, f"action${name} with other values", "0 and 1")
            buttons[name] = pressed
    if "action$place" in arrays and arrays.is_pickled("action$place"):
        notes = ("action$place is no plain array: blocks that were placed are not known",)
    elif "action$place" in arrays:
        names = arrays.get("action$place", "iuU", (steps,))  # or numbers, 0 for none
        placed = names != ("none" if names.dtype.kind == "U" else 0)
        buttons["use"] = np.maximum(buttons.get("use", 0), placed)
    video_frames = metadata.get("true_video_frame_count", int)
    if video_frames < steps + 1:
        found = f"true_video_frame_count is {video_frames} for {steps} steps"
        raise BadRecording(metadata.path, found, f"at least {steps + 1}")
    facts = {"first_frame": video_frames - steps - 1, "repeat_last": True, "notes": notes}
    actions, camera = led_to(vectors(buttons, camera)), led_to(camera)
    return Recording(candidate, SOURCE, actions, unknown_pose(steps + 1), camera, **facts)
