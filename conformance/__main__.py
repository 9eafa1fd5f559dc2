"""`python -P -m conformance`: how the command `bpttcheck` starts."""

import signal
import sys

try:
    from conformance.cli import main
except KeyboardInterrupt:  # Ctrl-C while modules are loaded
    sys.stderr.write("bpttcheck: interrupted\n")
    sys.exit(130)

status = main()
signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is said; what is left is tidying up
sys.exit(status)
