"""The commands that write, index, search and explore embedded tables: parsing, nothing else."""

from dataclasses import asdict

import mmalign
from mmalign.cli.parsing import parse, parse_with_data
from mmalign.cli.table_flags import EmbedFlags, ExploreFlags, IndexFlags, SearchFlags
from mmalign.cli.targets import picture_target, target, write_json


def embed_command(arguments: list[str]) -> int:
    """Mmalign embed BUNDLE TOWER OUT.parquet --data.*."""
    flags, data = parse_with_data("embed", EmbedFlags, arguments)
    out = target(flags.out)
    table = mmalign.embed(
        flags.bundle, data, flags.tower,
        split=flags.split, batch_size=flags.batch_size, dims=flags.dims, precision=flags.precision,
        device=flags.device,
    )  # fmt: skip
    table.write(out)
    kept = f"{table.vectors.dim} numbers" + f" ({flags.precision})" * (flags.precision != "float32")
    print(f"{len(table)} vectors of {kept} -> {out}; rejected records: {len(table.rejected)}")
    return 0


def index_command(arguments: list[str]) -> int:
    """Mmalign index TABLE [--kind hnsw|ivfpq]."""
    flags = parse("index", IndexFlags, arguments)
    json_file = target(flags.json)
    report = mmalign.build_index(flags.table, flags.kind, queries=flags.queries, recall=flags.recall, seed=flags.seed)
    report.show()
    if json_file:
        write_json(json_file, asdict(report))
    return 0


def search_command(arguments: list[str]) -> int:
    """Mmalign search BUNDLE INDEX.parquet TOWER QUERY [QUERY ...]."""
    flags, data = parse_with_data("search", SearchFlags, arguments)
    json_file, picture = target(flags.json), picture_target(flags.picture)
    result = mmalign.search(
        flags.bundle, flags.queries, tower=flags.tower, index=flags.index, k=flags.k, engine=flags.engine,
        by_id=flags.by_id, rescore=flags.rescore, device=flags.device,
    )  # fmt: skip
    result.show()
    if json_file:
        write_json(json_file, result.to_json())
    if picture:
        result.draw(picture, data)
        print(f"drawn: {picture}")
    return 0


def explore_command(arguments: list[str]) -> int:
    """Mmalign explore BUNDLE TABLE [--data.*]; serves until Ctrl-C."""
    flags, data = parse_with_data("explore", ExploreFlags, arguments)
    page = mmalign.explore(
        flags.bundle, flags.table, data if data.towers else None, k=flags.k, port=flags.port,
        upload_mb=flags.upload_mb, seconds=flags.seconds, split=flags.split, device=flags.device,
    )  # fmt: skip
    with page:
        print(f"open {page.url} in a browser; Ctrl-C stops the page", flush=True)
        try:
            page.wait()
        except KeyboardInterrupt:
            print("stopped")
    return 0
