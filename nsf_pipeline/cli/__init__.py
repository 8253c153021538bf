"""The command line: a verb for each stage, and a few more; `nsf VERB --help` has an example.

A verb imports its stage only when it runs, so that jobs start fast and simulate without JAX.
"""

import sys

if __name__ == "__main__":
    sys.exit("nsf_pipeline: this file is a part; run `python -m nsf_pipeline` or `nsf` instead")

# Each registers its verbs; `nsf --help` has them in this order.
from nsf_pipeline.cli import data as data
from nsf_pipeline.cli import models as models
from nsf_pipeline.cli import planning as planning
from nsf_pipeline.cli import reports as reports
from nsf_pipeline.cli import tools as tools
from nsf_pipeline.cli.command import entry, main

__all__ = ["entry", "main"]
