"""What the tests of the point cloud modality share."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # the writers are a module that the tests import
