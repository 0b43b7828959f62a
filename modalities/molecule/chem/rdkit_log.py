"""Silence rdkit."""

from rdkit import rdBase

from modalities.common.reading.silence import Silence

quiet = Silence(lambda undo: undo.enter_context(rdBase.BlockLogs()))
"""Inside `with quiet:` rdkit logs nothing."""
