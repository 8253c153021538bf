"""`python -m nsf_pipeline`."""

import sys

from nsf_pipeline.cli import main

sys.exit(main())
