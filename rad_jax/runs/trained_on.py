"""What a run was trained on, kept in its work directory so that nothing needs the training data afterwards.

WORKDIR/trained_on.json    `TrainedOn`: names of the actions, pose columns, frame size, digest of the data, tokenizer, odometry
WORKDIR/tokenizer.npz      the tokenizer's file; a large network stays where it is, and its absolute path is kept
"""

import dataclasses
import hashlib
import json
import os
import reprlib
from pathlib import Path
from typing import Any

from rad_jax import files
from rad_jax import tokenizer as tokenizers
from rad_jax.config import ConfigError
from rad_jax.data import DataError, Episodes
from rad_jax.data.reader import frame_size
from rad_jax.data.spec import check_file_name, check_info
from rad_jax.files.json_files import check_form, read_json
from rad_jax.odometry import Odometry
from rad_jax.runs.training_run import TrainingRun, tokenizer_file
from rad_jax.tokenizer import TokenizerError

FILE = "trained_on.json"
FORMAT = "rad_jax trained on 1"
SMALL = 64 * 2**20  # bytes; a larger tokenizer file is not copied

_TEXTS = dict.fromkeys(("format", "tokenizer", "fingerprint", "file", "digest"), str)

# Entries of a data set's info that give the columns of actions and poses their meaning.
COLUMNS = ("actions", "pose", "pose_scale")


@dataclasses.dataclass(frozen=True)
class TrainedOn:
    """The facts of the training data and of the tokenizer.

    Attributes:
      tokenizer: its name, as `rad_jax.tokenizer.load` takes it.
      fingerprint: sha256 (hex) of its weights.
      file: absolute path of its file.
      frame_size: height and width of the frames in pixels; None if the data hold latents and do not say.
      digest: sha256 (hex) of the episodes, wherever they lie; None for an export.
      info: what the data set says about itself: "actions" (names), "pose" (names of columns), "pose_scale", "source", ...
      odometry: what actions do, if the condition of the model is made of it.
    """

    tokenizer: str
    fingerprint: str
    file: Path
    frame_size: tuple[int, int] | None
    digest: str | None
    info: dict[str, Any]
    odometry: Odometry | None = None

    @classmethod
    def of(cls, run: TrainingRun) -> "TrainedOn":
        """The facts of a run that is open for training."""
        return cls(
            run.tokenizer.name,
            run.tokenizer.fingerprint,
            tokenizer_file(run.config, run.episodes).absolute(),
            _frame_size(run.episodes),
            digest_of(run.episodes),
            dict(run.episodes.spec.info),
            run.odometry,
        )

    @classmethod
    def read(cls, workdir: Path) -> "TrainedOn":
        """What `keep` wrote.

        Raises:
          ConfigError: the work directory does not have it (an earlier version made it), or the file is damaged.
        """
        path = workdir / FILE
        if not path.exists():
            raise ConfigError(
                f"{workdir} does not say what it was trained on (no {FILE}: an earlier version trained it); "
                "give its training command once more, which adds it"
            )
        try:
            # A run of an earlier version says nothing of an odometry.
            values = {"odometry": None} | read_json(path, {**_TEXTS, "info": dict, "frame_size": object})
            check_facts(values, FORMAT, values["info"])
            odometry = parse_odometry(values)
            if not os.path.isabs(values["file"]):
                check_file_name("file", values["file"])
        except ValueError as error:
            raise ConfigError(
                f"{path} is damaged ({error}); delete it and give the training command once more, which writes it again"
            ) from None
        facts = {field.name: values[field.name] for field in dataclasses.fields(cls)}
        size = values["frame_size"] and tuple(values["frame_size"])
        file = workdir.absolute() / values["file"]
        return cls(**facts | {"file": file, "frame_size": size, "odometry": odometry})

    def keep(self, workdir: Path) -> None:
        """Writes the facts into a work directory, and the tokenizer's file beside them (see `copy_tokenizer`)."""
        file = copy_tokenizer(self, workdir) or str(self.file)
        files.write_json(workdir / FILE, {"format": FORMAT, **dataclasses.asdict(self), "file": file})


def check_facts(content: dict[str, Any], expected: str, info: dict[str, Any]) -> None:
    """Raises ValueError unless a description of a run or a model has a format, and data and frames that could be."""
    if content["format"] != expected:
        raise ValueError(f"format is {reprlib.repr(content['format'])}, expected {expected!r}")
    if content["frame_size"] is not None:
        check_form(content["frame_size"], (int, int), "frame_size")
    check_info(info)


def parse_odometry(content: dict[str, Any]) -> Odometry | None:
    """The "odometry" of a description of a run or a model. Raises ValueError if it is neither null nor one."""
    return None if content["odometry"] is None else Odometry.parse(content["odometry"])


def copy_tokenizer(trained_on: TrainedOn, directory: Path) -> str | None:
    """Copies the tokenizer's file into a directory and returns the name of the copy.

    None if the file is larger than `SMALL`, or a network that cannot be read without the ``config.json`` beside it.
    """
    source = trained_on.file
    if source.stat().st_size > SMALL:
        return None
    copy = directory / f"tokenizer{source.suffix}"
    if copy.exists() and copy.samefile(source):
        return copy.name
    files.write_bytes(copy, source.read_bytes())
    try:
        tokenizers.load(trained_on.tokenizer, copy, trained_on.fingerprint)
    except TokenizerError:
        copy.unlink()
        return None
    return copy.name


def digest_of(episodes: Episodes) -> str:
    """sha256 (hex) of a split: its episodes, the bytes of its shards and the meaning of its columns, not its place."""
    info = {name: episodes.spec.info.get(name) for name in COLUMNS}
    content = [episodes.spec.arrays, episodes.ids, episodes.lengths.tolist(), episodes.checksums, info]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def check_evaluation_set(episodes: Episodes, trained_on: TrainedOn, condition: str) -> None:
    """Raises `DataError` unless a data set shows a model what it was trained on.

    Compared are the size of the frames, the names of the actions and, where ``condition`` includes the pose, the names of its
    columns. Scales of the pose may differ, as they do between mazes of different sizes.
    """
    size, info = _frame_size(episodes), episodes.spec.info
    columns = ["actions", "pose"] if "pose" in condition else ["actions"]
    pairs = {"frames (height, width)": (size, trained_on.frame_size)} if size else {}
    pairs |= {name: (info.get(name), trained_on.info.get(name)) for name in columns}
    for name, (found, expected) in pairs.items():
        if expected is not None and found != expected:
            raise DataError(
                f"{episodes}: {name} are {_words(found)}, the model was trained on {_words(expected)}; "
                "evaluate it on a data set of the same kind"
            )


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else "not named"


def _frame_size(episodes: Episodes) -> tuple[int, int] | None:
    """As `frame_size`; None for latents that do not say how large their frames were, which can be trained on."""
    try:
        return frame_size(episodes)
    except DataError:
        if "frames" in episodes.spec.arrays:
            raise
        return None
