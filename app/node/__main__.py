"""`python -m app.node`, and what the zipapp runs."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
