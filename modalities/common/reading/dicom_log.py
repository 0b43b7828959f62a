"""Silence pydicom: its messages about a damaged file may quote any field, patient data included."""

import logging
from contextlib import ExitStack

from modalities.common.reading.silence import Silence, quiet_warnings


def _silence(undo: ExitStack) -> None:
    logger = logging.getLogger("pydicom")
    undo.callback(logger.setLevel, logger.level)
    logger.setLevel(logging.CRITICAL + 1)
    undo.enter_context(quiet_warnings)


quiet_dicom = Silence(_silence)
"""Inside `with quiet_dicom:` pydicom logs nothing, and no warning is shown."""
