"""Names of leads and units in files, and limb leads derived from two others."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from modalities.ecg.sample import LEADS

LIMB = LEADS[:6]

LIMB_WEIGHTS = np.array([[1, 0], [0, 1], [-1, 1], [-0.5, -0.5], [1, -0.5], [-0.5, 1]])
"""Each limb lead as weights of I and II: Einthoven's `III = II - I`, Goldberger's `aVR = -(I + II) / 2`,
`aVL = I - II / 2`, `aVF = II - I / 2`."""

MILLIVOLTS = {
    "v": 1e3, "volt": 1e3, "mv": 1.0, "millivolt": 1.0, "uv": 1e-3, "\u00b5v": 1e-3, "\u03bcv": 1e-3,
    "microvolt": 1e-3, "nv": 1e-6, "nanovolt": 1e-6,
}  # fmt: skip
"""Millivolts per unit."""

_BY_NAME = {lead.upper(): lead for lead in LEADS}
_BY_NAME |= {f"C{n}": f"V{n}" for n in range(1, 7)}  # the chest electrodes' own names
_BY_NAME |= {f"{d}{name}": lead for d in ("D", "L") for name, lead in (("I", "I"), ("II", "II"), ("III", "III"))}
_BY_NAME |= {f"D{n}": lead for n, lead in zip("123", LEADS, strict=False)} | {"MLII": "II", "MLI": "I"}
_PREFIX = re.compile(r"^(MDC[_ ]ECG[_ ]LEAD[_ ]|(ECG|EKG)[ _:-]*(LEAD[ _]+)?|LEAD[ _]+)")


_ELECTRODE = re.compile(r"^C[1-6]$")
_EEG = re.compile(r"^(FP|AF|F|FC|FT|CP|TP|T|P|PO|O|A|M|E)(Z|\d{1,2})$|^(CZ|LOC|ROC)$|^(EEG|EOG)\b")
"""Electrodes of the 10-20 system, of the ears and the eyes; and labels that say EEG or EOG."""


def leads_of(names: Sequence[str]) -> list[tuple[str, int] | None]:
    """The standard lead of each channel of a recording, as `lead_of`.

    `C1` to `C6` are chest leads only beside a limb lead and without any name of an EEG electrode: alone they may be
    electrodes of an EEG.

    Example:
        >>> leads_of(["C3", "C4", "O1"]), leads_of(["II", "C3"])
        ([None, None, None], [('II', 1), ('V3', 1)])
    """
    leads = [lead_of(name) for name in names]
    chest = any(lead is not None and lead[0] in LIMB for lead in leads) and not any(map(_is_eeg, names))
    return [
        None if _ELECTRODE.match(_plain(name)) and not chest else lead for name, lead in zip(names, leads, strict=True)
    ]


def _is_eeg(name: str) -> bool:
    # In `C3-A2` and `C3 (A2)` the second electrode is the reference.
    return any(_EEG.match(part.strip()) for part in [name.upper(), *re.split(r"[-:/()\[\]]", name.upper())])


def _plain(name: str) -> str:
    return re.sub(r"[(\[].*$", "", name).strip().upper()


def lead_of(name: str) -> tuple[str, int] | None:
    """The standard lead of a channel name, and its sign; None for other channels.

    Case does not matter; `MDC_ECG_LEAD_`, `ECG`, `Lead`, and what stands in brackets is left out; `DI`, `D2`, `C1`
    and `MLII` are understood; a leading minus turns the sign, as in Cabrera's `-aVR`.

    Example:
        >>> lead_of("MDC_ECG_LEAD_AVR"), lead_of("Lead I (Einthoven)"), lead_of("DII"), lead_of("-aVR"), lead_of("SpO2")
        (('aVR', 1), ('I', 1), ('II', 1), ('aVR', -1), None)
    """
    word = _PREFIX.sub("", _plain(name)).strip()
    sign = -1 if word.startswith("-") else 1
    lead = _BY_NAME.get(word.lstrip("-").replace(" ", ""))
    return None if lead is None else (lead, sign)


def millivolts(unit: str) -> float | None:
    """Factor from a unit to millivolts; None if it is no unit of voltage.

    Example:
        >>> millivolts("uV"), millivolts("mmHg")
        (0.001, None)
    """
    return MILLIVOLTS.get(unit.strip().lower())


def complete(
    signal: NDArray[np.float64], valid: NDArray[np.bool_], leads: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], tuple[str, ...]]:
    """Add missing limb leads if any two were recorded: all are linear combinations of I and II.

    Args:
        signal: `(leads, time)`.
        valid: `(leads, time)`.
        leads: Standard names.

    Returns:
        The same three, in the standard order, with up to four more rows.

    Example:
        >>> one = np.ones((1, 3))
        >>> signal, _, leads = complete(np.concatenate([one, 3 * one]), np.ones((2, 3), bool), ["I", "II"])
        >>> dict(zip(leads, signal[:, 0].tolist(), strict=True))
        {'I': 1.0, 'II': 3.0, 'III': 2.0, 'aVR': -2.0, 'aVL': -0.5, 'aVF': 2.5}
    """
    rows, masks = dict(zip(leads, signal, strict=True)), dict(zip(leads, valid, strict=True))
    known = [lead for lead in LIMB if lead in rows and masks[lead].any()]
    missing = [lead for lead in LIMB if lead not in rows]
    if len(known) >= 2 and missing:
        first, second = known[:2]
        basis = np.linalg.inv(LIMB_WEIGHTS[[LIMB.index(first), LIMB.index(second)]])  # I and II from those two
        both = masks[first] & masks[second]
        for lead in missing:
            weights = LIMB_WEIGHTS[LIMB.index(lead)] @ basis
            rows[lead] = np.where(both, weights[0] * rows[first] + weights[1] * rows[second], 0.0)
            masks[lead] = both
    order = tuple(lead for lead in LEADS if lead in rows)
    return np.stack([rows[lead] for lead in order]), np.stack([masks[lead] for lead in order]), order
