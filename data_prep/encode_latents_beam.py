"""Encode a data set into latents on a cluster, with Apache Beam (pip install 'rad_jax[beam]').

    python -m data_prep.encode_latents_beam --src DIR --dst DIR --tokenizer NAME --weights FILE \
        -- --runner DirectRunner --direct_running_mode multi_processing --direct_num_workers 8

Options are those of `data_prep.encode_latents` (of which --workers only checks recordings here) and, after a "--", those of
Beam. One element is one shard, encoded by the same function as locally: the bytes are the same, and a pipeline that was stopped
continues where it was. All workers must see --src, --dst and --weights under the same paths.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions

from data_prep.common.command import run
from data_prep.encode_latents import make_jobs, parse, report
from data_prep.latents.job import encode_shard, unfinished

PROGRAM = "encode_latents_beam"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    place = arguments.index("--") if "--" in arguments else len(arguments)
    options = parse(PROGRAM, __doc__, arguments[:place])
    return run(PROGRAM, partial(encode, options, arguments[place + 1 :]))


def encode(options: argparse.Namespace, beam_arguments: Sequence[str]) -> None:
    """Encode what the options say in a pipeline; raises a `UserError`, an `OSError`, or what the runner raises."""
    jobs = make_jobs(options)
    beam_options = PipelineOptions(list(beam_arguments))
    beam_options.view_as(SetupOptions).save_main_session = False  # all that workers run is in modules
    with beam.Pipeline(options=beam_options) as pipeline:
        _ = (
            pipeline
            | "shards" >> beam.Create(unfinished(jobs, *options.shard))
            | "one by one" >> beam.Reshuffle()  # else a runner may leave them all to one worker
            # Each worker has the devices of its host; a shard that another attempt is encoding is waited for.
            | "encode" >> beam.Map(partial(encode_shard, jobs, 1, True))
        )
    report(jobs)


if __name__ == "__main__":
    sys.exit(main())
