"""What a damaged DICOM file says of its patient must not be said again: in no log, warning, error or traceback."""

import io
import logging
import threading
import traceback
import warnings

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from mmalign.errors import BadSample
from modalities.common.reading.dicom_log import quiet_dicom
from modalities.ecg.read import read_ecg
from modalities.echo.read import read_echo

NUMBER, CLASS, NAME = b"40.00000", b"1.2.3.45", b"Doe^Jane"  # of one length: the name lands where others should stand


def written(file: Dataset) -> bytes:
    """The file's bytes with the patient's name in place of two values, as a writer that is off by a field leaves it."""
    file.SOPClassUID, file.SOPInstanceUID, file.PatientName = CLASS.decode(), "1.2.3", NAME.decode()
    file.file_meta, stream = FileMetaDataset(), io.BytesIO()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.save_as(stream, enforce_file_format=True)
    assert stream.getvalue().count(NUMBER) == 1
    return stream.getvalue().replace(NUMBER, NAME).replace(CLASS, NAME)


def ecg_file() -> bytes:
    file, group, channel, source = (Dataset() for _ in range(4))
    source.CodeValue, source.CodingSchemeDesignator, source.CodeMeaning = "2:1", "MDC", "Lead I"
    channel.ChannelSourceSequence = Sequence([source])
    group.NumberOfWaveformChannels, group.NumberOfWaveformSamples = 1, 400
    group.SamplingFrequency, group.ChannelDefinitionSequence = NUMBER.decode(), Sequence([channel])
    group.WaveformBitsAllocated, group.WaveformSampleInterpretation = 16, "SS"
    group.WaveformData = np.arange(400, dtype="<i2").tobytes()
    file.WaveformSequence = Sequence([group])
    return written(file)


def echo_file() -> bytes:
    file = Dataset()
    file.Modality, file.NumberOfFrames, file.Rows, file.Columns, file.SamplesPerPixel = "US", 8, 48, 64, 1
    file.PhotometricInterpretation, file.PixelRepresentation, file.FrameTime = "MONOCHROME2", 0, NUMBER.decode()
    file.BitsAllocated, file.BitsStored, file.HighBit = 8, 8, 7
    file.PixelData = np.zeros((8, 48, 64), np.uint8).tobytes()
    return written(file)


READERS = [(ecg_file, read_ecg), (echo_file, read_echo)]


@pytest.mark.parametrize(("made", "read"), READERS)
def test_no_patient_is_quoted(
    made: object, read: object, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    data = made()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with pytest.raises(BadSample, match="a damaged one") as caught:
            read(data)
    error = caught.value
    said = [caplog.text, *capfd.readouterr(), *(str(one.message) for one in heard), str(error)]
    said += traceback.format_exception(error)
    assert "Doe" not in " ".join(said)
    assert "ValueError" in str(error)  # what kind of damage it was is told


@pytest.mark.parametrize(("made", "read"), READERS)
def test_pydicom_alone_quotes_the_field(made: object, read: object, caplog: pytest.LogCaptureFixture) -> None:
    """So that the test above tests something."""
    import pydicom

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        file = pydicom.dcmread(io.BytesIO(made()))
        value = file.WaveformSequence[0].SamplingFrequency if "WaveformSequence" in file else file.FrameTime
        assert file.SOPClassUID
    with pytest.raises(ValueError, match="Doe"):
        float(value)
    assert "Doe" in caplog.text
    assert any("Doe" in str(one.message) for one in heard)


def test_threads_that_overlap_leave_log_and_warnings_as_they_were(caplog: pytest.LogCaptureFixture) -> None:
    logger, second_in, first_out = logging.getLogger("pydicom"), threading.Event(), threading.Event()
    level, filters = logger.level, list(warnings.filters)

    def second() -> None:
        with quiet_dicom:
            second_in.set()
            first_out.wait(10)
            logger.error("Doe")
            warnings.warn("Doe", stacklevel=1)

    other = threading.Thread(target=second)
    with quiet_dicom:
        other.start()
        second_in.wait(10)
    first_out.set()
    other.join()
    assert "Doe" not in caplog.text
    assert (logger.level, list(warnings.filters)) == (level, filters)
    logger.error("heard again")
    assert "heard again" in caplog.text
