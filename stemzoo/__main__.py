"""`python -m stemzoo` is the command `stemzoo`."""

import sys

from stemzoo.cli import main

if __name__ == "__main__":  # a worker process imports this module and is no command
    sys.exit(main())
