"""Recordings as their makers' programs write them, a few frames long, written here without the readers' code.

A frame shows its number as eight bars, black or white, so that what was decoded can be told from its pixels.
"""

import functools
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

HEIGHT, WIDTH, BITS = 48, 64, 8
CODECS = {
    "mp4v": ("mp4", "mpeg4", "yuv420p"),
    "mjpg": ("avi", "mjpeg", "yuvj420p"),
    "h264": ("mp4", "libx264", "yuv420p"),
}
# The 25 entries, by number, as the action vector of Oasis is documented.
FORWARD, BACK, LEFT, RIGHT, PITCH, YAW, JUMP, SNEAK, SPRINT = range(11, 20)
INVENTORY, ESC, HOTBAR_1, ATTACK, USE, PICK, DROP = 0, 1, 2, 21, 22, 23, 24


@dataclass
class Expected:
    """What a reader must make of a recording. Without ``pose`` none is known."""

    numbers: list[int]  # shown by its frames
    actions: np.ndarray
    camera_deg: np.ndarray | None
    pose: np.ndarray | None = None
    n_context: int | None = None


def bars(number: int) -> np.ndarray:
    """The frame that shows a number."""
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for bit in range(BITS):
        frame[:, bit * WIDTH // BITS : (bit + 1) * WIDTH // BITS] = 255 * (number >> bit & 1)
    return frame


def numbers(frames: np.ndarray) -> list[int]:
    """The numbers that frames of any size show."""
    parts = np.array_split(frames.mean((1, 3)), BITS, axis=1)
    return [sum((part[t].mean() > 128) << bit for bit, part in enumerate(parts)) for t in range(len(frames))]


@functools.cache
def video_bytes(codec: str, count: int, width: int = WIDTH, rows: int = HEIGHT) -> bytes:
    """A video of numbered frames, in which only so many rows of the bars are white."""
    container_format, name, pixels = CODECS[codec]
    file = io.BytesIO()
    with av.open(file, "w", format=container_format) as container:
        stream = container.add_stream(name, rate=Fraction(20))
        stream.width, stream.height, stream.pix_fmt = width, HEIGHT, pixels
        stream.codec_context.thread_count = 1
        for number in range(count):
            image = bars(number) * (np.arange(HEIGHT) < rows)[:, None, None]
            frame = av.VideoFrame.from_ndarray(image[:, :: WIDTH // width].copy(), format="rgb24")
            container.mux(stream.encode(frame.reformat(format=pixels)))
        container.mux(stream.encode(None))
    return file.getvalue()


def write_video(path: Path, codec: str, count: int, **options: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(video_bytes(codec, count, **options))


def add_arrays(path: Path, **more: np.ndarray) -> None:
    """Add arrays to an npz file, or replace them."""
    with np.load(path, allow_pickle=True) as old:
        np.savez_compressed(path, **{**old, **more})


def blank(frames: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((frames, 25), np.float32), np.zeros((frames, 2), np.float32)


def walk(turns: np.ndarray, forward: np.ndarray, yaw: float = 30.0, step: float = 0.2) -> np.ndarray:
    """x, y, z, yaw of every frame, when ``turns[t]`` and ``forward[t]`` led to frame t."""
    rows, x, z = [], 100.0, -50.0
    for t in range(len(turns)):
        if t:
            yaw += turns[t]
            x -= math.sin(math.radians(yaw)) * step * forward[t]
            z += math.cos(math.radians(yaw)) * step * forward[t]
        rows.append((x, 64.0, z, yaw))
    return np.array(rows)


# ---- one function per format: writes one recording and says what a reader must make of it


def vrag(
    directory: Path, columns: int = 8, name: str = "3/000007", frames: int = 24, seed: int = 0, rows=None
) -> Expected:
    if rows is None:
        rng = np.random.default_rng(seed)
        rows = np.column_stack([*rng.integers(0, 2, (3, frames)), rng.integers(-1, 2, frames)])
        rows[0] = 0
    frames = len(rows)
    actions, camera = blank(frames)
    actions[:, [FORWARD, BACK, JUMP, YAW]] = rows
    camera[:, 1] = 20 * rows[:, 3]
    states = walk(camera[:, 1], rows[:, 0])
    pose = np.full((frames, 5), np.nan)
    stored = rows.astype(np.int32)
    if columns == 8:
        stored = np.concatenate([rows, states], 1).astype(np.float32)
        stored[0] = 0
        pose[1:, :4] = stored[1:, 4:]
    write_video(directory / f"{name}.mp4", "mp4v", frames)
    np.savez_compressed(directory / f"{name}.npz", actions=stored)
    return Expected(list(range(frames)), actions, camera, pose if columns == 8 else None)


def teco(directory: Path, name: str = "training/000007", frames: int = 24) -> Expected:
    rows = np.random.default_rng(1).integers(1, 4, frames).astype(np.int32)
    rows[0] = 0
    actions, camera = blank(frames)
    actions[1:, JUMP] = 1
    actions[rows == 1, FORWARD] = 1
    actions[rows == 2, YAW], camera[rows == 2, 1] = -1, -20
    actions[rows == 3, YAW], camera[rows == 3, 1] = 1, 20
    write_video(directory / f"{name}.mp4", "mp4v", frames)
    np.savez_compressed(directory / f"{name}.npz", actions=rows)
    return Expected(list(range(frames)), actions, camera)


def worldmem(directory: Path, name: str = "0/000002", frames: int = 124, skip: int = 100) -> Expected:
    rng = np.random.default_rng(2)
    rows = np.zeros((frames, 8), np.int32)
    rows[:, 3:5] = 12
    rows[1:, 0], rows[1:, 1] = rng.integers(0, 3, (2, frames - 1))
    rows[1:, 2] = rng.integers(0, 4, frames - 1)
    rows[1:, 3:5] += rng.integers(-1, 2, (frames - 1, 2)).astype(np.int32)
    rows[1:, 5] = rng.choice([0, 1, 2, 3, 6], frames - 1)
    actions, camera = blank(frames)
    for column, meaning in {0: {1: FORWARD, 2: BACK}, 1: {1: LEFT, 2: RIGHT}, 2: {1: JUMP, 2: SNEAK, 3: SPRINT},
                            5: {1: USE, 2: DROP, 3: ATTACK, 6: USE}}.items():  # fmt: skip
        for value, entry in meaning.items():
            actions[rows[:, column] == value, entry] = 1
    camera[:] = (rows[:, 3:5] - 12) * 15
    actions[:, [PITCH, YAW]] = 0.85 * np.sign(camera)
    x, y, z, yaw = walk(camera[:, 1], np.ones(frames)).T
    pitch = np.clip(np.cumsum(camera[:, 0]), -90, 90)
    poses = np.stack([x, y, z, pitch, yaw], 1)
    poses[0, 1] = 4.0  # the wrong height
    write_video(directory / f"{name}.mp4", "mp4v", frames)
    np.savez_compressed(directory / f"{name}.npz", actions=rows, poses=poses)
    skipped = slice(skip, None)
    actions, camera = actions[skipped], camera[skipped]
    actions[0], camera[0] = 0, 0
    pose = np.stack([x, y, z, yaw, pitch], 1)[skipped]
    return Expected(list(range(skip, frames)), actions, camera, pose)


def loopnav(
    directory: Path, name: str = "ABA/plains_village_1/15/05-04_14-11-01", frames: int = 24
) -> Expected:
    rng = np.random.default_rng(3)
    turns = rng.choice([-8.0, 0.0, 5.0], (frames, 2))  # pitch, yaw in degrees, of Minecraft
    turns[:, 0] *= 0.5
    forward = rng.integers(0, 2, frames)
    x, y, z, yaw = walk(turns[:, 1], forward).T
    pitch = np.concatenate([[0], np.cumsum(turns[1:, 0])])
    rows, names = [], ("forward", "back", "left", "right", "jump", "sprint", "sneak")
    pressed = rng.integers(0, 2, (frames, 7)).astype(bool)
    pressed[:, 0] = forward
    for t in range(frames):
        goal = {"x": x[0] + (12 if t < 15 else 0), "y": 64, "z": z[0] + 1}
        rows.append({
            "x": round(x[t], 3), "y": round(y[t], 3), "z": round(z[t], 3),
            # Mineflayer's yaw grows to the left from -z, its pitch upwards
            "yaw": round(math.radians(180 - yaw[t]), 3), "pitch": round(-math.radians(pitch[t]), 3),
            "action": {**dict(zip(names, map(bool, pressed[t]), strict=True)),
                       "camera": [-math.radians(turns[t, 1]), -math.radians(turns[t, 0])]},
            "goal": goal if t else None, "frame_count": t + 20, "extra_info": {"seed": 42},
        })  # fmt: skip
    actions, camera = blank(frames)
    actions[:, [FORWARD, BACK, LEFT, RIGHT, JUMP, SPRINT, SNEAK]] = pressed
    camera[:] = turns
    actions[:, [PITCH, YAW]] = mu_law(turns)
    actions[0], camera[0] = 0, 0
    path = directory / f"{name}.json"
    write_video(path.with_suffix(".avi"), "mjpg", frames)
    path.write_text(json.dumps(rows))
    return Expected(list(range(frames)), actions, camera, np.stack([x, y, z, yaw, pitch], 1), n_context=15)


def mu_law(degrees: np.ndarray) -> np.ndarray:
    """The camera of the action vector, written down a second time: one number after another, in plain Python."""
    out = []
    for value in np.ravel(degrees):
        share = max(-20.0, min(20.0, float(value))) / 20
        compressed = math.copysign(math.log(1 + 2.7 * abs(share)) / math.log(3.7), share)
        out.append((round((20 * compressed + 20) / 0.5) - 40) / 40)
    return np.array(out, np.float32).reshape(np.shape(degrees))


def vpt(directory: Path, name: str = "9.1/cheeky-setter-20220421", frames: int = 24) -> Expected:
    rng = np.random.default_rng(4)
    keys = {"key.keyboard.w": FORWARD, "key.keyboard.a": LEFT, "key.keyboard.space": JUMP, "key.keyboard.left.shift": SNEAK,
            "key.keyboard.left.control": SPRINT, "key.keyboard.e": INVENTORY, "key.keyboard.escape": ESC,
            "key.keyboard.q": DROP, "key.keyboard.3": HOTBAR_1 + 2}  # fmt: skip
    rows, taken, turned = [], np.zeros((frames, 25), np.float32), np.zeros((frames, 2))
    yaw, hotbar = 12.0, 4
    for t in range(frames):
        dx, dy = (int(v) for v in rng.choice([-60, 0, 38, 100], 2))
        down = [key for key in keys if rng.random() < 0.2]
        buttons = [0] if t < 5 else [1, 2] if t < 9 else [0] if t > 12 else []
        if t == 10:
            hotbar = 7
        mouse = {"x": 640.0, "y": 360.0, "dx": float(dx), "dy": float(dy), "buttons": buttons, "dwheel": 0.0,
                 "newButtons": [0] if t in (0, 13) else []}  # fmt: skip
        row = {"mouse": mouse, "keyboard": {"keys": [*down, "key.keyboard.p"], "newKeys": [], "chars": ""}, "isGuiOpen": False,
               "hotbar": hotbar, "yaw": yaw, "pitch": 3.0, "xpos": t * 0.1, "ypos": 70.0, "zpos": -3.0, "tick": t,
               "milli": 50 * t}  # fmt: skip
        if t == 20:  # as some recorders wrote a step without input
            row["mouse"] = row["keyboard"] = None
            dx, dy, down, buttons = 0, 0, [], []
        rows.append(row)
        taken[t, [keys[key] for key in down]] = 1
        taken[t, ATTACK] = 0 in buttons and t > 12  # stuck from the first line until it is pressed
        taken[t, [USE, PICK]] = 1 in buttons
        if t == 10:
            taken[t, HOTBAR_1 + 7] = 1
        turned[t] = dy * 0.15, dx * 0.15
        yaw += dx * 0.15
    taken[:, [PITCH, YAW]] = mu_law(turned)
    actions, camera = blank(frames)
    actions[1:], camera[1:] = taken[:-1], turned[:-1]
    pose = np.array([[r["xpos"], r["ypos"], r["zpos"], r["yaw"], r["pitch"]] for r in rows])
    path = directory / f"{name}.jsonl"
    write_video(path.with_suffix(".mp4"), "h264", frames)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Expected(list(range(frames)), actions, camera, pose)


def oasis(
    directory: Path, kind: str = "both", name: str = "Player729-f153ac423f61", frames: int = 24
) -> Expected:
    import torch

    rng = np.random.default_rng(5)
    names = ["inventory", "ESC", *(f"hotbar.{k}" for k in range(1, 10)), "forward", "back", "left", "right", None, None,
             "jump", "sneak", "sprint", "swapHands", "attack", "use", "pickItem", "drop"]  # fmt: skip
    rows = []
    for _ in range(frames):
        row = {key: np.int64(rng.random() < 0.1) for key in names if key}
        rows.append({**row, "camera": rng.integers(0, 81, 2)})
    vectors = np.array([[row[key] if key else 0 for key in names] for row in rows], np.float32)
    vectors[:, [PITCH, YAW]] = [[(b - 40) / 40 for b in row["camera"]] for row in rows]
    actions, camera = blank(frames)
    actions[1:] = vectors[:-1]
    turned = actions[:, [PITCH, YAW]].astype(np.float64)
    camera[:] = 20 * np.sign(turned) * (3.7 ** np.abs(turned) - 1) / 2.7
    write_video(directory / f"{name}.mp4", "h264", frames)
    if kind != "dicts":
        torch.save(torch.from_numpy(vectors), directory / f"{name}.one_hot_actions.pt")
    if kind != "vectors":
        torch.save(rows, directory / f"{name}.actions.pt")
    return Expected(list(range(frames)), actions, camera)


def minerl(directory: Path, name: str = "v3_absolute_grape-6", steps: int = 20, before: int = 5) -> Expected:
    rng = np.random.default_rng(6)
    keys = {"forward": FORWARD, "back": BACK, "left": LEFT, "right": RIGHT, "jump": JUMP, "sneak": SNEAK, "sprint": SPRINT,
            "attack": ATTACK}  # fmt: skip
    arrays = {f"action${key}": rng.integers(0, 2, steps) for key in keys}
    turns = rng.choice(np.array([-12.0, 0, 3.3, 18], np.float32), (steps, 2))
    placed = rng.choice(["none", "dirt"], steps)
    trajectory = directory / name
    write_video(trajectory / "recording.mp4", "h264", before + steps + 1)
    arrays |= {"action$camera": turns, "action$place": placed, "reward": np.zeros(steps, np.float32)}
    others = {"observation$compass$angle": np.zeros(steps + 1)}
    others["action$craft"] = np.array(["none"] * steps, object)
    np.savez_compressed(trajectory / "rendered.npz", **arrays, **others)
    metadata = {"true_video_frame_count": before + steps + 1, "duration_steps": steps, "success": True}
    (trajectory / "metadata.json").write_text(json.dumps(metadata))
    actions, camera = blank(steps + 1)
    for key, entry in keys.items():
        actions[1:, entry] = arrays[f"action${key}"]
    actions[1:, USE] = placed == "dirt"
    actions[1:, [PITCH, YAW]], camera[1:] = mu_law(turns), turns
    shown = [*range(before, before + steps), before + steps - 1]  # the last one is its predecessor
    return Expected(shown, actions, camera)


def maze_arrays(frames: int = 24, seed: int = 7) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    angle = np.cumsum(rng.uniform(-0.3, 0.3, frames))
    choice = rng.integers(0, 6, frames)
    constant = {
        "maze_layout": rng.integers(0, 2, (9, 9)).astype(np.uint8),
        "targets_pos": rng.uniform(0, 9, (3, 2)),
    }
    return {
        "image": np.stack([bars(t) for t in range(frames)]),
        "action": np.eye(6)[choice],
        "reward": np.zeros(frames),
        "agent_pos": rng.uniform(0, 9, (frames, 2)),
        "agent_dir": np.stack([np.cos(angle), np.sin(angle)], 1),
        "target_color": rng.uniform(0, 1, (frames, 3)),
        "terminal": np.zeros(frames, bool),
        **{name: np.repeat(array[None], frames, 0) for name, array in constant.items()},
    }


def memory_maze(
    directory: Path, layout: str = "official", name: str = "train/20220920T045048-0024"
) -> Expected:
    arrays = maze_arrays()
    actions = arrays["action"].astype(np.float32)
    actions[0] = 0
    pose = np.concatenate([arrays["agent_pos"], arrays["agent_dir"]], 1).astype(np.float32).astype(np.float64)
    path = directory / f"{name}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    if layout == "pydreamer":
        arrays["image_t"] = arrays.pop("image").transpose(1, 2, 3, 0)
        arrays["action"][0] = 0
        arrays["reset"] = np.arange(len(actions)) == 0
    elif layout == "numbers":
        arrays["action"] = arrays["action"].argmax(1)
    np.savez_compressed(path, **arrays)
    return Expected(list(range(len(actions))), actions, None, pose)


WRITERS: dict[str, Callable[..., Expected]] = {
    "vrag": vrag,
    "vrag-4": functools.partial(vrag, columns=4),
    "teco": teco,
    "worldmem": worldmem,
    "loopnav": loopnav,
    "vpt": vpt,
    "oasis": oasis,
    "oasis-vectors": functools.partial(oasis, kind="vectors"),
    "oasis-dicts": functools.partial(oasis, kind="dicts"),
    "minerl": minerl,
    "memory_maze": memory_maze,
    "memory_maze-pydreamer": functools.partial(memory_maze, layout="pydreamer"),
    "memory_maze-numbers": functools.partial(memory_maze, layout="numbers"),
}
