"""`python -P -m conformance`: how the command `bpttcheck` starts."""

import sys

from conformance.cli import main

sys.exit(main())
