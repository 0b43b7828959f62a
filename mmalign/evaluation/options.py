"""The flags of `mmalign evaluate` that some tasks have: names, types and one line of help each."""

from typing import Any

TASK_OPTIONS: dict[str, tuple[Any, str]] = {
    "gallery": (str, "Retrieval gallery: split = the evaluated split, or corpus = the source's full corpus."),
    "ks": (list[int], "Lengths of the list (retrieval): --ks 1 10 100."),
    "ties": (str, "Equal scores (retrieval): worst = wrong answers first, middle = every order counts alike."),
    "exclude_seen_groups": (bool, "Exclude queries whose group occurs in the training split (retrieval)."),
    "rerank": (int, "Gallery items per query, first by cosine, re-ranked by the full score (retrieval); 0 = all."),
    "ensemble": (list[str], "Further bundles; items are ranked by the mean of the models' ranks (retrieval)."),
    "average": (list[str], "Sides whose clips of one record count as one (retrieval, multi-label, regression)."),
    "prompt_fraction": (float, "Share of the prompts to keep, the least uncertain ones (multi-label, regression)."),
    "tune_split": (str, "Where thresholds are chosen (multi-label, regression): a split, or none."),
    "uncertainty": (bool, "Does the model know when it is wrong (zero-shot, multi-label, regression)."),
    "target": (str, "The number to predict, one of the data's targets (regression, probe)."),
    "threshold": (float, "Also judge on which side of this number a prediction falls (regression, probe)."),
    "prediction": (str, "From scores to a number (regression): mean or median."),
    "temperature": (float, "Of the softmax over values (regression, prediction mean)."),
    "top": (float, "Share of the prompts whose values' median is taken (regression, prediction median)."),
    "features": (str, "What is probed: encoder, or embedding = the shared space (probe)."),
    "fractions": (list[float], "Fractions of the training records (probe): --fractions 0.01 0.1 1."),
    "shots": (list[int], "Training rows of each class (probe): --shots 1 5 10."),
    "seeds": (int, "Draws of training rows and of random weights (probe)."),
}
"""Name -> type, help. Each is an argument of the task's function
in `mmalign.evaluation.run_task.TASKS`; one that is not given is left to it. A `list` type takes values side by side."""
