import sys
import warnings
from pathlib import Path

HERE = Path(__file__).parent
# The measures that several tests use, and the writers of the two modalities that meet here.
sys.path[:0] = [str(HERE), str(HERE.parent / "ecg"), str(HERE.parent / "echo")]

with warnings.catch_warnings():  # wfdb 4.3 sets an option that pandas 3.1 calls old
    warnings.simplefilter("ignore")
    import wfdb  # noqa: F401
