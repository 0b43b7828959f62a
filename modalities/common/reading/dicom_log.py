"""Silence pydicom: its messages about a damaged file may quote any field, patient data included."""

from modalities.common.reading.silence import quiet_library

quiet_dicom = quiet_library("pydicom")
"""Inside `with quiet_dicom:` pydicom logs nothing, and no warning is shown."""
