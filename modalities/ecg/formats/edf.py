"""EDF and EDF+C (Kemp et al. 1992, 2003; https://www.edfplus.info/specs) -> `Channels`; 16 bits, one rate.

The fields about the patient and the recording, bytes 8 to 168, are never decoded.
"""

import numpy as np

from mmalign.errors import BadSample
from modalities.ecg.formats.leads import leads_of
from modalities.ecg.sample import MAX_VALUES, Channels

_WIDTHS = {"label": 16, "transducer": 80, "unit": 8, "low": 8, "high": 8, "least": 8, "most": 8, "filter": 80, "n": 8}
_MAX_SIGNALS = 512
_LARGEST = 1e9  # of the limits in a header, which has eight characters for each


def parse(data: bytes, source: str) -> Channels:
    """The ECG leads of an EDF file.

    Physical value = physical minimum + (stored value - digital minimum) x physical range / digital range.

    Raises:
        BadSample: it is damaged, truncated, discontinuous, of 24 bits, or its leads differ in rate.
    """
    if data[:1] == b"\xff":
        raise BadSample(source, "EDF of 16 bits", "BDF, which has 24")
    try:
        size, records = int(data[184:192]), int(data[236:244])
        duration, count = float(data[244:252]), int(data[252:256])
        if not 0 < count <= _MAX_SIGNALS or len(data) < size or size != 256 * (count + 1) or not duration > 0:
            raise ValueError
        fields: dict[str, list[str]] = {}
        start = 256
        for name, width in _WIDTHS.items():
            starts = range(start, start + count * width, width)
            fields[name] = [data[offset : offset + width].decode("ascii", "replace").strip() for offset in starts]
            start += count * width
        lengths = [int(number) for number in fields["n"]]
        low, high, least, most = (
            np.array([float(x) for x in fields[name]]) for name in ("low", "high", "least", "most")
        )
        if not all(np.abs(limits).max() < _LARGEST for limits in (low, high, least, most)):  # False for NaN
            raise ValueError
    except ValueError as error:
        raise BadSample(source, "an EDF header", "a damaged one") from error
    if data[192:197] == b"EDF+D":
        raise BadSample(source, "a recording without gaps", "EDF+D, which has some")
    frame = sum(lengths)
    held = (len(data) - size) // 2 // max(frame, 1)
    records = held if records == -1 else records
    if min(lengths) < 0 or not 0 < records <= held or records * frame > MAX_VALUES:
        raise BadSample(source, f"{records} records of {frame} samples", f"a truncated file of {held}")
    leads = [offset for offset, lead in enumerate(leads_of(fields["label"])) if lead]
    if not leads:
        raise BadSample(source, "an EDF file with ECG leads", f"signals {', '.join(fields['label'][:12])}")
    if len({lengths[offset] for offset in leads}) > 1:
        raise BadSample(source, "leads of one rate", "several rates")
    if not (most > least)[leads].all() or (high == low)[leads].any():
        raise BadSample(source, "ranges that are not empty", "an empty one in the header")
    stored = np.frombuffer(data, "<i2", records * frame, size).reshape(records, frame)
    ends = np.cumsum(lengths)
    rows = []
    for offset in leads:
        digital = stored[:, ends[offset] - lengths[offset] : ends[offset]].reshape(-1).astype(np.float64)
        gain = (high[offset] - low[offset]) / (most[offset] - least[offset])
        rows.append(low[offset] + (digital - least[offset]) * gain)
    return Channels(
        np.stack(rows),
        lengths[leads[0]] / duration,
        [fields["label"][offset] for offset in leads],
        [fields["unit"][offset] for offset in leads],
    )
