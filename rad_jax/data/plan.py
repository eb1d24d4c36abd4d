"""What a split is to become, known before its first shard is written and the same for every process that writes one."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rad_jax.data.index import schema_entry
from rad_jax.data.spec import DataError, EpisodeSpec, check_name


@dataclass(frozen=True)
class SplitPlan:
    """A split of a data set.

    Attributes:
      directory: the data set. All its splits have the same arrays, statics and chunk.
      split: e.g. "train".
      spec: the schema, and the `info` of this split.
      num_episodes: episodes of the split.
      episodes_per_shard: episodes of a shard file; the last shard has the rest.
      tokenizer: {"name", "fingerprint", "path"} of the data set's latents (see `record_tokenizer`); None leaves open what is
        or will be recorded.

    Raises:
      DataError: a name that cannot be one, or numbers below 1.
    """

    directory: Path
    split: str
    spec: EpisodeSpec
    num_episodes: int
    episodes_per_shard: int
    tokenizer: Mapping[str, str] | None = None

    def __post_init__(self):
        check_name("split", self.split)
        if self.num_episodes < 1 or self.episodes_per_shard < 1:
            raise DataError(
                f"split {self.split!r}: num_episodes is {self.num_episodes} and episodes_per_shard "
                f"{self.episodes_per_shard}, expected at least 1"
            )

    @property
    def num_shards(self) -> int:
        return -(-self.num_episodes // self.episodes_per_shard)

    def episodes(self, number: int) -> range:
        """The indices of the episodes of a shard."""
        first = number * self.episodes_per_shard
        return range(first, min(first + self.episodes_per_shard, self.num_episodes))

    def path(self, number: int) -> Path:
        """The file of a shard."""
        name = f"{self.spec.name}-{self.split}.array_record-{number:05d}-of-{self.num_shards:05d}"
        return self.directory / name

    @property
    def progress(self) -> Path:
        """The directory that is there as long as the split is not complete, see `rad_jax.data.progress`."""
        return self.directory / f"{self.split}.progress"

    @property
    def shared(self) -> dict[str, Any]:
        """What all splits of the data set have in common, as JSON gives it back."""
        tokenizer = {} if self.tokenizer is None else {"tokenizer": dict(self.tokenizer)}
        return {**schema_entry(self.spec), **tokenizer}

    @property
    def content(self) -> dict[str, Any]:
        """Everything that the split's bytes depend on beside its episodes, as JSON gives it back."""
        own = {name: getattr(self, name) for name in ("num_episodes", "episodes_per_shard")}
        return {**self.shared, "info": self.spec.info, **own}
