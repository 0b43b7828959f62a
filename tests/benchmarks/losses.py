"""The objectives' equations beside other ways to compute them, forward and backward: time, and memory.

    python tests/benchmarks/losses.py                       # every row; float32, two threads
    python tests/benchmarks/losses.py --only pcmepp
    python tests/benchmarks/losses.py --threads 1 --repeats 9 --json losses.json
    python tests/benchmarks/losses.py --quick               # tiny sizes: does it run at all

What is measured, and how, is in `measuring.py`; what both sides do in `vector_rows.py` and `token_rows.py`.
"""

from measuring import Rows, main
from token_rows import grounding, late
from vector_rows import clip, pcmepp, siglip

ROWS: Rows = {
    "clip": clip(1 / 0.07),
    "clip-100": clip(100.0),
    "siglip": siglip(1 / 0.07),
    "siglip-100": siglip(100.0),
    "pcmepp": pcmepp,
    "fdt": grounding,
    "late": late,
}

if __name__ == "__main__":
    main(str(__doc__), __file__, ROWS)
