"""`python -m stemzoo` is the command `stemzoo`."""

import sys

from stemzoo.cli import main

sys.exit(main())
