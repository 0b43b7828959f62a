"""A report on a simulated heart, consistent with its parameters."""

import numpy as np

from modalities.heart.simulator.heart import Heart

FRACTIONS = (
    "Left ventricular ejection fraction is {ef} percent.",
    "LVEF {ef} %.",
    "The ejection fraction is estimated at {ef} %.",
    "EF {ef} percent.",
    "Systolic function is {word}, ejection fraction {ef} %.",
)
WORDS = (
    "Left ventricular systolic function is {word}.",
    "{Word} left ventricular ejection fraction.",
    "The left ventricle contracts with {word} function.",
    "{Word} LV systolic function.",
)
RATES = ("Heart rate {rate} per minute.", "Sinus rhythm at {rate} bpm.", "Ventricular rate {rate}.")
RHYTHMS = {
    "slow": ("Sinus bradycardia.", "Slow sinus rhythm."),
    "usual": ("Normal sinus rhythm.", "Sinus rhythm at a normal rate."),
    "fast": ("Sinus tachycardia.", "Fast sinus rhythm."),
}
CONDUCTION = {
    "normal conduction": (
        "Normal conduction.",
        "Normal PR interval, no bundle branch block.",
        "No conduction abnormality.",
    ),
    "left bundle branch block": ("Left bundle branch block.", "Wide QRS, LBBB pattern.", "LBBB with rocking apex."),
    "first-degree AV block": ("First-degree AV block.", "Prolonged PR interval.", "Delayed AV conduction, long PR."),
}

LEFT_OUT = {"fraction": 0.12, "rate": 0.2, "conduction": 0.2}
"""Probability that a report omits each."""


def report_of(heart: Heart) -> str:
    """Generate one to three sentences in English, deterministic.

    The ejection fraction is given as a rounded number (60 % of the reports) or as its class: severely (below 30),
    moderately (below 40) or mildly (below 50) reduced, or normal. Rate and rhythm, and conduction, have several
    wordings and orders; some reports omit one or two of the three.

    Example:
        >>> from modalities.heart.simulator.heart import draw_heart
        >>> isinstance(report_of(draw_heart(0, 3)), str)
        True
    """
    rng = heart.stream("report")
    parts = {"fraction": _fraction(heart, rng), "rate": _rate(heart, rng), "conduction": _conduction(heart, rng)}
    findings = [name for name, likely in LEFT_OUT.items() if rng.random() >= likely] or ["fraction"]
    return " ".join(parts[name] for name in rng.permutation(findings).tolist())


def _fraction(heart: Heart, rng: np.random.Generator) -> str:
    word = heart.ejection_class
    template = _one(FRACTIONS if rng.random() < 0.6 else WORDS, rng)
    return template.format(ef=round(heart.ejection_fraction), word=word, Word=word.capitalize())


def _rate(heart: Heart, rng: np.random.Generator) -> str:
    kind = "slow" if heart.rate < 60 else "fast" if heart.rate > 100 else "usual"
    return _one(RATES if rng.random() < 0.5 else RHYTHMS[kind], rng).format(rate=round(heart.rate))


def _conduction(heart: Heart, rng: np.random.Generator) -> str:
    return _one(CONDUCTION[heart.conduction], rng)


def _one(choices: tuple[str, ...], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]
