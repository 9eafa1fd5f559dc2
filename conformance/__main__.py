"""`python -P -m conformance`: how the command `bpttcheck` starts."""

import sys

try:
    from conformance.cli import main
except KeyboardInterrupt:  # Ctrl-C while modules are loaded
    sys.stderr.write("bpttcheck: interrupted\n")
    sys.exit(130)

sys.exit(main())
