"""What the commands end with."""

from __future__ import annotations

CANNOT_WRITE = 1
# As argparse ends where arguments are wrong.
CANNOT_START = 2
# As a shell tells of SIGINT and of SIGPIPE.
INTERRUPTED = 130
PIPE_CLOSED = 141
