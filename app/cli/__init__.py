"""The command line: one file per noun, heavy imports inside the commands.

Exit codes: 0 done, 1 failed, 2 bad usage, 130 ended by Ctrl-C, 143 by SIGTERM.
"""

from app.cli.program import main

__all__ = ["main"]
