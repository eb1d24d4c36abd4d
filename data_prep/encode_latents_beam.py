"""Encode a data set into latents on a cluster, with Apache Beam (pip install 'rad_jax[beam]').

    python -m data_prep.encode_latents_beam --src DIR --dst DIR --tokenizer NAME --weights FILE \
        -- --runner DirectRunner --direct_running_mode multi_processing --direct_num_workers 8

Options are those of `data_prep.encode_latents` and, after a "--", those of Beam. One element is one shard, encoded by the same
function as locally: the bytes are the same, and a pipeline that was stopped continues where it was. All workers must see --src,
--dst and --weights under the same paths.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import partial

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions

from data_prep.common.command import run
from data_prep.encode_latents import make_jobs, parse, report
from data_prep.latents.job import Job, encode_shard
from rad_jax.data.shards import finished_shards
from rad_jax.data.writer import begin

PROGRAM = "encode_latents_beam"


class EncodeShard(beam.DoFn):
    """(job, shard) -> the same, when it is encoded."""

    def __init__(self, jobs: Sequence[Job]):
        self._jobs = list(jobs)

    def setup(self) -> None:
        """Loads the tokenizer once for all shards of a worker."""
        import jax

        self._devices = jax.local_devices()
        self._tokenizer = self._jobs[0].tokenizer.load()

    def process(self, element: tuple[int, int]) -> Iterator[tuple[int, int]]:
        """Encodes a shard; one that another attempt is encoding is waited for."""
        index, number = element
        encode_shard(self._jobs[index], number, self._tokenizer, self._devices, wait=True)
        yield element


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    place = arguments.index("--") if "--" in arguments else len(arguments)
    options, rest = parse(PROGRAM, __doc__, arguments[:place], local=False), arguments[place + 1 :]
    return run(PROGRAM, partial(encode, options, rest))


def encode(options: argparse.Namespace, beam_arguments: Sequence[str]) -> None:
    """Encode what the options say in a pipeline; raises DataError, TokenizerError, OSError, or what the runner raises."""
    jobs = make_jobs(options)
    for job in jobs:
        begin(job.layout)
    elements = [
        (index, number)
        for index, job in enumerate(jobs)
        for number in sorted(set(range(job.layout.num_shards)) - finished_shards(job.layout))
    ]
    beam_options = PipelineOptions(list(beam_arguments))
    beam_options.view_as(SetupOptions).save_main_session = False  # all that workers run is in modules
    with beam.Pipeline(options=beam_options) as pipeline:
        _ = (
            pipeline
            | "shards" >> beam.Create(elements)
            | "one by one" >> beam.Reshuffle()  # else a runner may leave them all to one worker
            | "encode" >> beam.ParDo(EncodeShard(jobs))
        )
    report(jobs)


if __name__ == "__main__":
    sys.exit(main())
