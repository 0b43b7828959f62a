"""What each family of objectives learns: same towers, data and budget, three seeds, held-out quality with intervals.

    python tests/benchmarks/families.py --data digits eurosat --out runs/families
    python tests/benchmarks/families.py --data digits eurosat --shuffled 0.3 --objectives clip pcmepp prolip

Every run is a `mmalign train` of its own; what is there already in --out is not trained again. Prints Markdown tables.
"""

import argparse
import csv
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
from figures import Scores, difference, interval

FAMILIES: dict[str, tuple[str, list[str]]] = {
    "clip": ("objective: clip", []),
    "siglip": ("objective: siglip", []),
    "fdt": ("objective: fdt", []),
    "transport": ("objective: transport", []),
    "late_interaction": ("objective: late_interaction", []),
    "pcmepp": ("objective: pcmepp, args: {reduction: rows}", []),
    "pcmepp_mixed": ("objective: pcmepp, args: {reduction: rows}", ["--model.mixup.tower=image"]),
    "prolip": ("objective: prolip", ["--model.gaussian.pool=token"]),
}
RECIPES = {"digits": ("image-text/demo", 14), "eurosat": ("image-text/overhead", 20)}
SCORES = ("zero-shot top-1", "image to text hit@1", "text to image MRR")


def data_folder() -> Path:
    """Where the real data lies."""
    return Path(os.environ.get("MMALIGN_DATA", Path(__file__).parents[3] / "shared" / "data"))


def tables(out: Path, name: str, shuffled: float) -> list[str]:
    """The `--data.*` flags of a data set, of which a share of the training captions is exchanged."""
    made = out / f"{name}-{shuffled:g}"
    made.mkdir(parents=True, exist_ok=True)
    rows, pictures = _digits(made) if name == "digits" else _eurosat()
    rng = np.random.default_rng(0)
    train = [place for place, row in enumerate(rows) if row["split"] == "train"]
    wrong = rng.choice(train, round(shuffled * len(train)), replace=False)
    for place in wrong:  # the sentence of another class: exchanging within a class would shuffle nothing
        row = rows[place]
        others = [other["text"] for other in rows if other["label"] != row["label"]]
        row["text"], row["shuffled"] = others[rng.integers(len(others))], "1"
    with (made / "table.tsv").open("w", newline="", encoding="utf-8") as file:
        columns = ["id", "file", "text", "label", "split", "shuffled"]
        writer = csv.DictWriter(file, columns, delimiter="\t")
        writer.writeheader()
        writer.writerows({"shuffled": "0", "id": str(place), **row} for place, row in enumerate(rows))
    return [
        "--data.source=manifest", f"--data.manifest={made / 'table.tsv'}", f"--data.files={pictures}",
        "--data.columns.image=file", "--data.columns.text=text", "--data.columns.label=label",
        "--data.columns.split=split", "--data.columns.id=id",
    ]  # fmt: skip


def _digits(folder: Path) -> tuple[list[dict[str, str]], Path]:
    from PIL import Image

    from mmalign.data.sources.base import SourceConfig
    from mmalign.data.sources.digits import DigitsSource

    rows, target = [], folder / "digits.tar"
    with tarfile.open(target, "w") as archive:
        for place, record in enumerate(DigitsSource(SourceConfig()).records()):
            encoded = io.BytesIO()
            Image.fromarray(record.values["image"][0]).save(encoded, "PNG")
            member = tarfile.TarInfo(f"{place}.png")
            member.size = encoded.tell()
            encoded.seek(0)
            archive.addfile(member, encoded)
            text = record.values["text"][0]
            rows.append({"file": member.name, "text": text, "label": record.labels[0], "split": str(record.split)})
    return rows, target


def _eurosat() -> tuple[list[dict[str, str]], Path]:
    folder = data_folder() / "eurosat_rgb"
    with (folder / "labels.tsv").open(encoding="utf-8") as file:
        rows = [
            {"file": row["file"], "text": row["text"], "label": row["text"], "split": row["split"]}
            for row in csv.DictReader(file, delimiter="\t")
        ]
    return rows, folder / "eurosat_rgb_3200.tar"


def run(out: Path, data: str, shuffled: float, objective: str, seed: int, epochs: int | None) -> Path:
    """Train and measure one model, unless that is done; the folder of its figures."""
    folder = out / f"{data}-{shuffled:g}" / f"{objective}-{seed}"
    if (folder / "figures.json").exists():
        return folder
    recipe, usual = RECIPES[data]
    flags = tables(out, data, shuffled)
    command = [
        sys.executable, "-m", "mmalign", "train", recipe, *flags, f"--seed_everything={seed}",
        f"--trainer.max_epochs={epochs or usual}", "--trainer.limit_val_batches=0", "--overwrite", f"--out={folder}",
        f"--model.pairs=[{{a: image, b: text, {FAMILIES[objective][0]}}}]", *FAMILIES[objective][1],
    ]  # fmt: skip
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    figures = measure(folder, flags, shuffled > 0) | {"seconds": time.perf_counter() - begun}
    (folder / "figures.json").write_text(json.dumps(figures) + "\n")
    return folder


def measure(folder: Path, flags: list[str], shuffled: bool) -> dict[str, object]:
    """Outcomes of the held-out rows, and where captions were shuffled how unsure the model is of its training pairs."""
    import torch

    import mmalign
    from mmalign.data.config import DataConfig
    from mmalign.embedding.loop import embed_split, opened
    from mmalign.evaluation.run_task import evaluate

    given = dict(flag.removeprefix("--data.").split("=", 1) for flag in flags)
    columns = {key.removeprefix("columns."): value for key, value in given.items() if key.startswith("columns.")}
    plain = {key: value for key, value in given.items() if not key.startswith("columns.")}
    model = mmalign.load(folder)
    sides = ("image", "text")
    shot = evaluate(model, DataConfig(**plain, columns=columns), "zero-shot", pair=sides, bootstrap=0)
    scores, truth = shot.details["probabilities"], shot.details["truth"]
    right = scores.masked_fill(~truth, -1).amax(1) > scores.masked_fill(truth, -1).amax(1)
    data = DataConfig(**plain, columns=columns)
    found = evaluate(model, data, "retrieval", pair=sides, relevance="content", bootstrap=0).details
    outcomes = {
        SCORES[0]: right.double().tolist(),
        SCORES[1]: (found["image_to_text"].best == 0).double().tolist(),
        SCORES[2]: (1 / (1 + found["text_to_image"].best.double())).tolist(),
    }
    figures: dict[str, object] = {"outcomes": outcomes}
    if not shuffled:
        return figures
    with open(given["manifest"], encoding="utf-8") as file:
        marks = {row["id"]: row["shuffled"] == "1" for row in csv.DictReader(file, delimiter="\t")}
    train = opened(model, data, sides, "train")
    pair = [embed_split(model, train, side, "train", batch_size=256).embedding for side in sides]
    score = "probability" if "probability" in model.objective.between(*sides)[0].scores else ""
    with torch.no_grad():
        matched = torch.cat(
            [model.similarity(pair[0][row], pair[1][row], score)[0] for row in torch.arange(len(pair[0]))[:, None]]
        )
    uncertainties = {
        "shuffled": [marks[record.id] for record in train.split("train").records],
        "no match": (1 - matched).tolist(),
    }
    if pair[0].log_variance is not None:
        uncertainties |= {side: one.uncertainty.tolist() for side, one in zip(sides, pair, strict=True)}
    figures["training pairs"] = uncertainties
    return figures


def scores_of(folder: Path) -> Scores:
    """What a run's figures say, a number an item."""
    outcomes = json.loads((folder / "figures.json").read_text())["outcomes"]
    return Scores({name: np.asarray(values) for name, values in outcomes.items()}, np.arange(len(outcomes[SCORES[0]])))


def quality(runs: dict[str, list[Path]]) -> str:
    """A row an objective: every score with its interval over seeds and items, and the difference from CLIP."""
    lines = [f"| objective | {' | '.join(SCORES)} | top-1 minus clip | seconds |", "| --- | " + "--- | " * 5]
    base = [scores_of(folder) for folder in runs.get("clip", [])]
    for objective, folders in runs.items():
        seeds = [scores_of(folder) for folder in folders]
        cells = []
        for name in SCORES:
            low, high = interval(seeds, name)
            cells.append(f"{np.mean([one.mean(name) for one in seeds]):.3f} [{low:.3f}, {high:.3f}]")
        apart = "" if objective == "clip" or not base else _signed(*difference(seeds, base, SCORES[0]))
        seconds = np.median([json.loads((f / "figures.json").read_text())["seconds"] for f in folders])
        lines.append(f"| {objective} | {' | '.join(cells)} | {apart} | {seconds:.0f} |")
    return "\n".join(lines)


def _signed(mean: float, low: float, high: float) -> str:
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"


def noisy_pairs(runs: dict[str, list[Path]]) -> str:
    """AUROC with which each kind of uncertainty tells the shuffled training pairs from the others.

    Variances are those of one sample; `no match` is of the pair: one less its score, a probability where there is one.
    """
    from sklearn.metrics import roc_auc_score

    lines = ["| objective | variance of image | of text | no match |", "| --- | --- | --- | --- |"]
    for objective, folders in runs.items():
        areas: dict[str, list[float]] = {"image": [], "text": [], "no match": []}
        for folder in folders:
            pairs = json.loads((folder / "figures.json").read_text())["training pairs"]
            for kind in areas.keys() & pairs.keys():
                areas[kind].append(roc_auc_score(pairs["shuffled"], pairs[kind]))
        cells = [
            f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})" if values else ""
            for values in areas.values()
        ]
        lines.append(f"| {objective} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Train what is missing, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--objectives", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--shuffled", type=float, default=0.0, help="share of the training captions to exchange")
    parser.add_argument("--epochs", type=int, help="default: 14 for digits, 20 for eurosat")
    parser.add_argument("--out", type=Path, default=Path("runs/families"))
    options = parser.parse_args()
    for data in options.data:
        runs: dict[str, list[Path]] = {objective: [] for objective in options.objectives}
        for seed in options.seeds:
            for objective in options.objectives:
                runs[objective].append(run(options.out, data, options.shuffled, objective, seed, options.epochs))
                print(f"{data} {objective} {seed} done", file=sys.stderr, flush=True)
        share = f", {options.shuffled:.0%} of the training captions shuffled" if options.shuffled else ""
        print(f"\n{data}{share}, {len(options.seeds)} seeds:\n\n{quality(runs)}")
        if options.shuffled:
            print(f"\n{noisy_pairs(runs)}")


if __name__ == "__main__":
    main()
