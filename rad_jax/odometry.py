"""Where an agent is, from its actions alone: what actions do is fitted once to known poses, then added up.

With u_t the action that led to frame t, the turn and the movement of the frame are

    y_t = now' u_t + sum_k sum_b (past[k, 0, b] + sum_a past[k, 1 + a, b] u_t[a]) u_(t-k)[b]        k = 1..EARLIER

Taps of earlier actions depend on the newest one because friction does: an agent that is not driven slows faster than one that
is. Where that would be more than `MOST` taps, earlier actions have past[k, 0, b] alone. The first component of y is the turn of
the heading in radians, the others are those of the movement. Two of the positions are the plane in which the agent turns: they
move in its own frame, after the turn. Others, such as the height, move in the world's.

Heading and position are sums from 0. They drift wherever an action does not do what it does elsewhere, as at a wall.
"""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np

from rad_jax.axes import Float
from rad_jax.files.json_files import check_form

EARLIER = 3  # actions before the newest one that count
MOST = 2048  # taps of a component
RIDGE = 1e-12  # times the mean square of a feature

_LARGEST = 1e6  # tap or scale
_MOST_STORED = 2**20  # taps
_FORM = {"plane": [int], "scale": [float], "now": [[float]], "past": [[[[float]]]]}

# An action, the position and the heading of every frame of an episode: (t, a), (t, p), (t,).
Walk = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Odometry:
    """What actions do. Tuples of numbers: it can be compared, and be stored as JSON without a change of a bit.

    Attributes:
      plane: two columns of the position, i and j: heading 0 looks along i, a right angle along j. Empty if there are fewer.
      scale: factor of every column of the position in the condition of a frame.
      now: (a, 1 + p) taps of the newest action; radians, then units of the position.
      past: (k, 1 + a, a, 1 + p) or (k, 1, a, 1 + p) taps of earlier ones.

    Raises:
      ValueError: sizes do not fit each other, or a number is too large.
    """

    plane: tuple[int, ...]
    scale: tuple[float, ...]
    now: tuple
    past: tuple

    def __post_init__(self):
        actions, positions = len(self.now), len(self.scale)
        two = len(set(self.plane)) == len(self.plane) == 2 and max(self.plane) < positions
        if not (two if positions > 1 else self.plane == ()):
            raise ValueError(
                f"plane is {self.plane}, expected two of {positions} columns, () of fewer than two"
            )
        gates = len(self.past[0]) if self.past else 1
        shapes = (actions, 1 + positions), (len(self.past), gates, actions, 1 + positions)
        for name, shape in zip(("now", "past"), shapes):
            taps = np.array(getattr(self, name), np.float64)  # raises ValueError for lists of unequal lengths
            if taps.size and taps.shape != shape:
                raise ValueError(f"{name} has shape {taps.shape}, expected {shape}")
            if taps.size > _MOST_STORED or not (np.abs(taps) <= _LARGEST).all():
                raise ValueError(f"{name} has {taps.size} taps, expected {_MOST_STORED} up to {_LARGEST:g}")
        if not actions or gates not in (1, 1 + actions):
            raise ValueError(
                f"past has {gates} taps for each of {actions} actions, expected 1 or {1 + actions}"
            )
        if not all(abs(factor) <= _LARGEST for factor in self.scale):
            raise ValueError(f"scale is {self.scale}, expected numbers up to {_LARGEST:g}")

    @classmethod
    def parse(cls, content: Any) -> "Odometry":
        """From what `dataclasses.asdict` gave, after a journey through JSON. Raises ValueError if it is something else."""
        check_form(content, _FORM, "odometry")
        try:
            return cls(
                tuple(content["plane"]), *(_tuples(content[name]) for name in ("scale", "now", "past"))
            )
        except ValueError as error:
            raise ValueError(f"odometry: {error}") from None

    @functools.cached_property
    def taps(self) -> Float[np.ndarray, "f p"]:
        """All taps, in the order of `_features`."""
        components = 1 + len(self.scale)
        return np.concatenate([np.reshape(taps, (-1, components)) for taps in (self.now, self.past)])

    @property
    def gated(self) -> bool:
        """Whether taps of earlier actions depend on the newest one."""
        return bool(self.past) and len(self.past[0]) > 1


class Track(NamedTuple):
    """Where an agent is, and what is still under way.

    Attributes:
      past: the last actions, the newest last.
      heading: radians, counted on beyond a turn.
      position: in the units of the data.
    """

    past: Float[np.ndarray, "*b k a"]
    heading: Float[np.ndarray, "*b"]
    position: Float[np.ndarray, "*b p"]


def start(odometry: Odometry, *leading: int) -> Track:
    """At rest, at position 0 with heading 0; what an agent did before is unknown."""
    sizes = (len(odometry.past), len(odometry.now)), (), (len(odometry.scale),)
    return Track(*(np.zeros((*leading, *size)) for size in sizes))


def follow(
    odometry: Odometry, track: Track, actions: Float[np.ndarray, "*b t a"]
) -> tuple[Track, Float[np.ndarray, "*b t p"], Float[np.ndarray, "*b t"]]:
    """Where the agent is after every one of some more actions.

    Frames one by one give the same bits as all at once: every sum has one order.

    Returns:
      The track at the last frame, and position and heading at every frame, float64.
    """
    rows = np.concatenate([track.past, actions], axis=-2)
    earlier = track.past.shape[-2]
    features = _features(rows, earlier, odometry.gated)
    moves = np.zeros((*features.shape[:-1], odometry.taps.shape[-1]))
    for column in np.flatnonzero(features.any(axis=tuple(range(features.ndim - 1)))):
        moves += features[..., column, None] * odometry.taps[column]
    heading = _running(track.heading, moves[..., 0], axis=-1)
    steps = moves[..., 1:]
    if odometry.plane:
        steps = _turned(steps, odometry.plane, heading)
    position = _running(track.position, steps, axis=-2)
    return (
        Track(rows[..., rows.shape[-2] - earlier :, :], heading[..., -1], position[..., -1, :]),
        position,
        heading,
    )


def fit(walks: Iterable[Walk], scale: Sequence[float]) -> Odometry:
    """Least squares over all frames but the first of every walk, before which an agent is taken to be at rest.

    A heading may be wrapped; no frame turns by half a turn or more.

    The plane, and the sense in which a heading turns in it, are those of all pairs of columns that leave the smallest residual
    of scaled positions; of equal ones, the first and the last column.

    Raises:
      ValueError: there is no frame that follows another one, or actions do not explain the poses by taps of usable size.
    """
    pairs = sorted(permutations(range(len(scale)), 2), key=lambda pair: pair != (0, len(scale) - 1))
    gram, moments, squares = 0.0, 0.0, 0.0
    for actions, position, heading in walks:
        actions = np.array(actions, np.float64)
        actions[0] = 0
        gated = _count(actions.shape[-1], True) <= MOST
        features = _features(np.pad(actions, ((EARLIER, 0), (0, 0))), EARLIER, gated)[1:]
        moved = np.diff(np.asarray(position, np.float64), axis=0)
        turned = np.diff(heading)
        turned = (turned + np.pi) % (2 * np.pi) - np.pi
        own = [_turned(moved, pair, -heading[1:])[:, list(pair)] for pair in pairs]
        targets = np.concatenate([turned[:, None], moved, *own], axis=1)
        gram = gram + features.T @ features
        moments = moments + features.T @ targets
        squares = squares + np.square(targets).sum(axis=0)
    if np.ndim(gram) == 0 or not np.any(gram):
        raise ValueError("there is no action between two frames")
    ridge = RIDGE * np.trace(gram) / len(gram)
    taps = np.linalg.solve(gram + ridge * np.eye(len(gram)), moments)
    residuals = squares - 2 * (taps * moments).sum(axis=0) + (taps * (gram @ taps)).sum(axis=0)
    columns = {pair: _columns(pair, pairs, len(scale)) for pair in pairs or [()]}
    costs = {pair: np.square(scale) @ residuals[chosen] for pair, chosen in columns.items()}
    plane = min(costs, key=costs.__getitem__)
    taps = taps[:, [0, *columns[plane]]]
    count = actions.shape[-1]
    past = taps[count:].reshape(EARLIER, -1, count, taps.shape[-1])
    return Odometry(plane, tuple(map(float, scale)), _tuples(taps[:count].tolist()), _tuples(past.tolist()))


def _columns(pair: tuple[int, ...], pairs: Sequence[tuple[int, int]], positions: int) -> list[int]:
    """The targets of a fit that are the positions where a pair of them is the plane."""
    columns = list(range(1, 1 + positions))
    for place, column in enumerate(pair):
        columns[column] = 1 + positions + 2 * pairs.index(pair) + place
    return columns


def _count(actions: int, gated: bool) -> int:
    return actions + EARLIER * (1 + actions * gated) * actions


def _features(rows: Float[np.ndarray, "*b r a"], earlier: int, gated: bool) -> Float[np.ndarray, "*b t f"]:
    """What taps are factors of, for every row that has ``earlier`` ones before it."""
    frames = rows.shape[-2] - earlier
    newest = rows[..., earlier:, :]
    gate = (
        np.concatenate([np.ones_like(newest[..., :1]), newest], axis=-1)
        if gated
        else np.ones_like(newest[..., :1])
    )
    features = [newest]
    for k in range(1, earlier + 1):
        products = gate[..., :, None] * rows[..., earlier - k : earlier - k + frames, None, :]
        features.append(products.reshape(*newest.shape[:-1], -1))
    return np.concatenate(features, axis=-1)


def _turned(
    steps: Float[np.ndarray, "*b t p"], plane: Sequence[int], heading: Float[np.ndarray, "*b t"]
) -> Float[np.ndarray, "*b t p"]:
    """Steps with the two components of a plane turned by a heading."""
    i, j = plane
    cos, sin, steps = np.cos(heading), np.sin(heading), steps.copy()
    ahead, left = steps[..., i].copy(), steps[..., j].copy()
    steps[..., i] = cos * ahead - sin * left
    steps[..., j] = sin * ahead + cos * left
    return steps


def _running(first: np.ndarray, steps: np.ndarray, axis: int) -> np.ndarray:
    """Sums of steps along an axis, from a first value on, added one after another."""
    sums = np.cumsum(np.concatenate([np.expand_dims(first, axis), steps], axis=axis), axis=axis)
    return np.delete(sums, 0, axis=axis)


def _tuples(nested: Any) -> Any:
    return tuple(map(_tuples, nested)) if isinstance(nested, list) else float(nested)
