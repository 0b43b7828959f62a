"""Overrides of the recipe image-text/demo for a run of a few seconds."""

from typing import Any

SMALL: dict[str, Any] = {
    "model.dim": 8,
    "model.towers": {
        "image": {
            "encoder": "vit",
            "args": {"patch": 8, "width": 8, "depth": 1, "heads": 2},
            "transform": {"size": 16},
        },
        "text": {"encoder": "transformer", "args": {"width": 8, "depth": 1, "heads": 2}},
    },
    "data.batch_size": 200,
    "trainer.max_epochs": 2,
    "trainer.accelerator": "cpu",
    "trainer.enable_progress_bar": False,
}
