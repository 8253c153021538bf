"""`python -m nsf_pipeline`."""

import os
import sys
from contextlib import suppress

from nsf_pipeline.cli import INTERRUPTED, main

code = main()
if code == INTERRUPTED:
    # At once: interrupted, JAX's threads may crash while Python ends, and change the code.
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)
sys.exit(code)
