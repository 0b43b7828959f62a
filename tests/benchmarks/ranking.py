"""Seconds to rank the texts of a split against the corpus of ChEBI-20: reading, embedding, ranking, re-ranking.

    python tests/benchmarks/ranking.py
    python tests/benchmarks/ranking.py --texts 500 --molecules 3000 --rerank 20 --json ranking.json

Towers start at random: time does not ask what they know. They are `gine` and `transformer`, 256 wide, 5 layers;
`--width` and `--depth` change both. Heads make vectors, and for re-ranking tokens too. Re-ranking is timed on
`--rerank_texts` texts, and the row after it says what all of them would take. With `$MMALIGN_CACHE` molecules come from
the store that a former run left there. Processor time is what other work on the machine disturbs less.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from figures import table as markdown

from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.embedding.loop import embed_split
from mmalign.embedding.scoring import full_blocks
from mmalign.evaluation.ranking.corpus import corpora, embed_corpus
from mmalign.evaluation.ranking.rank_fusion import mean_rank_blocks
from mmalign.evaluation.ranking.ranks import rank_blocks
from mmalign.evaluation.ranking.relevance import RelevanceMatrix
from mmalign.evaluation.ranking.rerank import reranked_blocks
from mmalign.model import Aligner, TowerConfig, fit_transforms, modality_of
from mmalign.objectives.pairs.pair_config import PairConfig

SIDES = ("molecule", "text")


def chebi20() -> Path:
    """The folder of ChEBI-20."""
    return Path(os.environ.get("MMALIGN_DATA", Path(__file__).parents[3] / "shared" / "data")) / "chebi20"


def measure(
    folder: Path, *, texts: int, molecules: int, width: int, depth: int, rerank: int, rerank_texts: int
) -> list[dict[str, Any]]:
    """One row a step: what is done, how many of what, seconds."""
    rows: list[dict[str, Any]] = []

    def timed(work: str, count: int, run: Callable[[], Any]) -> Any:
        start, processor = time.perf_counter(), time.process_time()
        made = run()
        spent = {"seconds": time.perf_counter() - start, "processor": time.process_time() - processor}
        rows.append({"work": work, "count": count, **spent})
        return made

    torch.manual_seed(0)
    sizes = {"width": width, "depth": depth}
    towers = {"molecule": TowerConfig(encoder="gine", args=sizes), "text": TowerConfig(args={**sizes, "heads": 4})}
    columns = {"molecule": "smiles", "text": "text"}
    options = {"group": "none"}
    config = DataConfig("chebi20", str(folder), columns=columns, options=options, validation=0.0, max_rejected=1.0)
    whole = Dataset.open(config, {side: modality_of(side, tower) for side, tower in towers.items()}, splits=[])
    listed = corpora(whole, ("molecule",), "corpus")["molecule"][:molecules]
    count = len(whole.records)
    few = replace(whole, splits=tuple("test" if index < texts else "train" for index in range(count)))
    data = timed("reading the pairs", min(texts, count), lambda: few.read("test"))
    transforms = fit_transforms(towers, {side: data.split("test").samples(side) for side in SIDES})
    model = Aligner(towers, [PairConfig(*SIDES, "clip")], 128, transforms)
    scored = [PairConfig(*SIDES, "clip", score_weight=0.5), PairConfig(*SIDES, "transport", score_weight=0.5)]
    fine = Aligner(towers, scored, 128, transforms)
    asked = timed(
        "embedding texts", texts, lambda: embed_split(model, data, "text", "test", batch_size=256, packed=True)
    )
    found = timed("reading and embedding molecules", len(listed), lambda: embed_corpus(model, data, "molecule", listed))
    queries, gallery = asked.embedding, found.embedded.embedding
    right = RelevanceMatrix(asked, found.embedded, data.split("test").records, gallery_records=found.records)
    cosines = [full_blocks(queries, gallery, score=lambda a, b: a.vector @ b.vector.T) for _ in range(4)]
    options = {"gallery": len(gallery), "ks": (1, 10, 100)}
    timed("ranking by vectors", len(queries), lambda: rank_blocks(cosines[0], right, **options))
    timed(
        "ranking by vectors, ties in the middle",
        len(queries),
        lambda: rank_blocks(cosines[1], right, ties="middle", **options),
    )
    together = mean_rank_blocks(cosines[2:])
    timed("ranking by two models", len(queries), lambda: rank_blocks(together, right, **options))
    tokens = timed("embedding molecules with tokens", len(listed), lambda: embed_corpus(fine, data, "molecule", listed))
    few = embed_split(fine, data, "text", "test", batch_size=256, packed=True).embedding[:rerank_texts]
    blocks = reranked_blocks(few, tokens.embedded.embedding, score=fine.similarity_pairwise, depth=rerank)
    timed(f"re-ranking {rerank} each by transport", len(few), lambda: rank_blocks(blocks, right, **options))
    clocks = ("seconds", "processor")
    whole = {clock: rows[-1][clock] * len(queries) / len(few) for clock in clocks}
    rows.append({"work": "the same for every text", "count": len(queries), **whole})
    whole = {clock: sum(row[clock] for row in rows[1:4]) for clock in clocks}
    rows.append({"work": "embedding and ranking by vectors", "count": len(queries), **whole})
    return rows


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=3300)
    parser.add_argument("--molecules", type=int, default=33_010)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--depth", type=int, default=5)
    parser.add_argument("--rerank", type=int, default=100)
    parser.add_argument("--rerank_texts", type=int, default=100)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, default=None, help="Write the rows here.")
    options = vars(parser.parse_args(arguments))
    torch.set_num_threads(options.pop("threads"))
    path = options.pop("json")
    rows = measure(chebi20(), **options)
    shown = [{"step": row["work"], "items": f"{row['count']:,}"} | _clocks(row) for row in rows]
    print(markdown(shown))
    if path:
        path.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return rows


def _clocks(row: dict[str, Any]) -> dict[str, str]:
    return {"seconds": f"{row['seconds']:.1f}", "seconds of a processor": f"{row['processor']:.1f}"}


if __name__ == "__main__":
    main()
