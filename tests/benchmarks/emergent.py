"""Zero-shot classes of a tower that was never paired with the text, through a third tower; the page docs/emergent.md.

    python tests/benchmarks/emergent.py --seeds 0 1 2

Digits: 700 strokes with pictures and 700 pictures with sentences train the chain; 397 strokes are classified by ten
sentences. Beside it: the same strokes tower trained with 700 sentences directly, and logistic regression on the 700
strokes with their labels, both of which see what the chain does not. 95 % intervals over the test digits of the mean
over seeds.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import mmalign
from mmalign.evaluation.metrics import bootstrap

PAGE = Path(__file__).resolve().parents[2] / "docs" / "emergent.md"
RESAMPLES = 2000


def blocks() -> dict[str, str]:
    """The titled blocks of the page."""
    return dict(re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```$', PAGE.read_text(), re.MULTILINE | re.DOTALL))


def correct(run: mmalign.Run, **data: object) -> np.ndarray:
    """Whether each test digit is classified correctly."""
    config = mmalign.DataConfig(manifest="digits.jsonl", files="pictures", **data)  # type: ignore[arg-type]
    pair = ("strokes", "text")
    rows = mmalign.evaluate(run.model, config, "zero-shot", pair=pair, split="test", bootstrap=0).rows
    return np.array([truth == said for truth, said in zip(rows["truth"], rows["prediction"], strict=True)], dtype=float)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    seeds = parser.parse_args().seeds
    files = blocks()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        subprocess.run([sys.executable, "-c", files["make_digits.py"]], check=True)
        Path("chain.yaml").write_text(files["chain.yaml"])
        rows = [json.loads(line) for line in Path("digits.jsonl").read_text().splitlines()]
        # The direct pairs: the strokes that the chain pairs with pictures, with their sentence instead.
        direct = [{**row, "text": f"the digit {row['label']}"} for row in rows if "strokes" in row]
        Path("direct.jsonl").write_text("\n".join(map(json.dumps, direct)))
        columns = {"strokes": "strokes", "text": "text"}
        outcomes: dict[str, list[np.ndarray]] = {"chain, never paired": [], "paired directly": []}
        for seed in seeds:
            run = mmalign.train("chain.yaml", {"seed_everything": seed}, out=f"chain{seed}")
            outcomes["chain, never paired"].append(correct(run, columns=columns))
            pairs = [{"a": "strokes", "b": "text", "objective": "clip"}]
            recipe = Path("chain.yaml").read_text()
            recipe = re.sub(r"    image: .*\n", "", recipe.replace("image: image, ", ""))
            recipe = re.sub(r"    - .*\n    - .*\n", f"    - {json.dumps(pairs[0])}\n", recipe)
            Path("direct.yaml").write_text(recipe)
            run = mmalign.train(
                "direct.yaml", {"seed_everything": seed, "data.manifest": "direct.jsonl"}, out=f"direct{seed}"
            )
            outcomes["paired directly"].append(correct(run, columns=columns))
        train, test = ([row for row in direct if row["split"] == split] for split in ("train", "test"))
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        model.fit([row["strokes"] for row in train], [row["label"] for row in train])
        said = model.predict([row["strokes"] for row in test])
        right = np.array([one == row["label"] for one, row in zip(said, test, strict=True)], dtype=float)
        outcomes["logistic regression on labels"] = [right]
    print("| strokes classified by | accuracy of 10 classes |\n| --- | --- |")
    for name, each in outcomes.items():
        mean = np.mean(each, axis=0)
        (interval,) = bootstrap.means(mean[:, None], np.arange(len(mean)), resamples=RESAMPLES, seed=0)
        print(f"| {name} | {mean.mean():.3f} [{interval[0]:.3f}, {interval[1]:.3f}] |")


if __name__ == "__main__":
    main()
