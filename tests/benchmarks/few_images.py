"""Few images with a caption of their own: emoji and their names, held out by base emoji, and EuroSAT.

    python tests/benchmarks/few_images.py --data emoji --recipes image-text/features --seeds 0 1 2 --out runs/few

Emoji: a fifth of the base emoji (first code point) is the test split, as in openclip_train.py; a tenth of the others is
the validation split, by which `keep: best` selects the epoch. EuroSAT: its own validation split is the test split here.
Prints, for each recipe and seed, hit@10 in both directions (emoji) or zero-shot top-1 (EuroSAT), with 95 % bootstrap
intervals over groups.
"""

import argparse
import csv
import hashlib
import json
import subprocess
import sys
from pathlib import Path

from prepared import data_folder

TASKS = {"emoji": ["retrieval", "--ks", "1", "10"], "eurosat": ["zero-shot"]}


def table(name: str, path: Path) -> Path:
    """Write the table with columns file, text, group, split; returns the archive of the pictures."""
    folder = data_folder() / {"emoji": "noto_emoji", "eurosat": "eurosat_rgb"}[name]
    source = folder / {"emoji": "names.tsv", "eurosat": "labels.tsv"}[name]
    with source.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE))
    lines = ["file\ttext\tgroup\tlabel\tsplit"]
    for row in rows:
        if name == "emoji":
            group = row["codepoints"].split("-")[0]
            number = int(hashlib.sha256(group.encode()).hexdigest(), 16)
            split = "test" if number % 5 == 0 else "validation" if number // 5 % 10 == 3 else "train"
            lines.append("\t".join((row["file"], row["name"], group, "", split)))
        else:
            number = int(hashlib.sha256(row["file"].encode()).hexdigest(), 16)
            split = "test" if row["split"] == "validation" else "validation" if number % 10 == 0 else "train"
            lines.append("\t".join((row["file"], row["text"], row["file"], row["text"], split)))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / {"emoji": "png72.tar", "eurosat": "eurosat_rgb_3200.tar"}[name]


def main() -> None:
    """Train and evaluate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=TASKS, default="emoji")
    parser.add_argument("--recipes", nargs="+", default=["image-text/features"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--set", nargs="*", default=[], help="overrides, such as --set trainer.max_epochs=0")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    manifest = options.out / f"{options.data}.tsv"
    archive = table(options.data, manifest)
    for recipe in options.recipes:
        for seed in options.seeds:
            run = options.out / options.data / recipe.replace("/", "-") / str(seed)
            train = [
                "train", recipe, "--data.source=manifest", f"--data.manifest={manifest}", f"--data.files={archive}",
                "--data.columns={image: file, text: text}", f"--seed_everything={seed}", "--overwrite", f"--out={run}",
                *(f"--{override}" for override in options.set),
            ]  # fmt: skip
            scores = run / "test.json"
            evaluate = ["evaluate", str(run), "--split", "test", "--json", str(scores), "--task", *TASKS[options.data]]
            for command in (train, evaluate):
                subprocess.run([sys.executable, "-m", "mmalign", *command], check=True, stdout=subprocess.DEVNULL)
            print(recipe, seed, json.dumps(json.loads(scores.read_text())["scores"]), flush=True)


if __name__ == "__main__":
    main()
