import sys
from pathlib import Path

HERE = Path(__file__).parent
# The measures that several tests use, and the writers of the two modalities that meet here.
sys.path[:0] = [str(HERE), str(HERE.parent / "ecg"), str(HERE.parent / "echo")]
