"""Words about a DICOM file for messages; they never quote it, since a damaged length moves one field into another."""

from typing import Any

MODALITIES = (
    "CR", "CT", "DX", "ECG", "EPS", "ES", "HD", "IO", "IVUS", "MG", "MR", "NM", "OCT", "OP", "OT", "PR", "PT", "PX",
    "RF", "RTDOSE", "RTIMAGE", "RTPLAN", "RTSTRUCT", "SEG", "SM", "SR", "US", "XA", "XC",
)  # fmt: skip
"""Values of the attribute Modality that a message repeats (DICOM PS3.3, C.7.3.1.1.1)."""


def uid_name(uid: Any) -> str:
    """The standard's name of a SOP class or transfer syntax; of an unknown one, that it is unknown.

    Example:
        >>> uid_name("1.2.840.10008.5.1.4.1.1.3.1"), uid_name("1.2.3^Smith^John")
        ('Ultrasound Multi-frame Image Storage', 'an object of an unknown class')
    """
    from pydicom._uid_dict import UID_dictionary

    entry = UID_dictionary.get(str(uid))
    return "an object of an unknown class" if entry is None else entry[0]


def known_word(value: Any, words: tuple[str, ...]) -> str:
    """A value if it is one of the standard's words, else "another".

    Example:
        >>> known_word("CT", MODALITIES), known_word("CT^Smith", MODALITIES)
        ('CT', 'another')
    """
    return str(value) if str(value) in words else "another"
