"""`python -m nsf_pipeline`."""

from nsf_pipeline.cli import entry

entry()
