"""The model card of a bundle, written from its configuration and provenance."""

from collections.abc import Mapping
from typing import Any


def model_card(config: Mapping[str, Any]) -> str:
    """The card of a bundle, Markdown.

    Args:
        config: Content of its config.json.
    """
    model, provenance = config["model"], config["provenance"]
    towers = "\n".join(
        f"| {name} | {tower['modality']} | {tower['encoder']} | {tower['head']} |"
        for name, tower in model["towers"].items()
    )
    pairs = ", ".join(f"{pair['a']}-{pair['b']} ({pair['objective']}{_sizes(pair)})" for pair in model["pairs"])
    statements = {"licence": "Licence of the data", "citation": "Please cite the data as"}
    stated = "".join(
        f"{title}: {' '.join(str(provenance[key]).split())}\n\n"
        for key, title in statements.items()
        if key in provenance
    )
    provenance_list = "\n".join(f"- {key}: {value}" for key, value in provenance.items() if key not in statements)
    first = next(iter(model["towers"]))
    return f"""# An mmalign bundle

Written by mmalign {config["mmalign"]} on {config["created"]}. A shared space of {model["dim"]} dimensions.
Trained pairs: {pairs}.

| tower | modality | encoder | head |
| --- | --- | --- | --- |
{towers}

```python
import mmalign

model = mmalign.load("this/folder")
embedding = model.encode("{first}", ["..."])
```

Evaluation results: `results.json`.

{stated}{provenance_list}
"""


def _sizes(pair: Mapping[str, Any]) -> str:
    """The nested sizes that a term was trained on, besides the full one."""
    sizes = pair.get("dims") or []
    return f"; also trained on the first {', '.join(map(str, sorted(sizes)))} numbers" if sizes else ""
