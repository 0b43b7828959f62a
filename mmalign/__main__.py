"""`python -m mmalign` is `mmalign`."""

import sys

from mmalign.cli import main

sys.exit(main())
