"""Read a molecule from any supported source; errors contain rdkit's reason."""

import re
from os import PathLike
from pathlib import Path
from typing import Any

from rdkit import Chem

from mmalign.errors import BadSample
from modalities.common.reading.local_file import demand_file
from modalities.molecule.chem.enhanced_stereo import relative_groups, with_racemic_flag
from modalities.molecule.chem.featurise import featurise
from modalities.molecule.chem.mol_text import MAX_BYTES, block_problem, only_block, text_of
from modalities.molecule.chem.rdkit_log import quiet
from modalities.molecule.sample import MAX_ATOMS, MAX_TEXT, Molecule

WANTED = "a SMILES, or a MOL or SDF file"
ENDINGS = (".mol", ".sdf")
_LONG = 10_000  # characters beyond which atoms are counted before rdkit looks for rings


def read_molecule(source: Any) -> Molecule:
    """Read one molecule.

    Plain hydrogen atoms become counts on their neighbours; nothing else is changed, salts keep all their parts.

    Args:
        source: A SMILES (a ChemAxon extension in bars may follow it), the text or the bytes of a MOL or SDF file, the
            path of one that ends in `.mol` or `.sdf`, an rdkit molecule, or a `Molecule`, which is returned.

    Raises:
        BadSample: rdkit rejects it, the file contains several molecules, it has no atom, or more than `MAX_ATOMS` atoms
            or `MAX_TEXT` characters.

    Example:
        >>> from modalities.molecule.read import read_molecule
        >>> len(read_molecule("CCO").atoms)
        3
        >>> read_molecule("C1CC")
        Traceback (most recent call last):
        mmalign.errors.BadSample: SMILES 'C1CC': expected a SMILES that rdkit reads, got ring bond 1 that is not closed
    """
    if isinstance(source, Molecule):
        return source
    if isinstance(source, Chem.Mol):
        return _from_mol(source)
    if isinstance(source, PathLike):
        return _from_path(Path(source))
    if isinstance(source, bytes | bytearray | memoryview):
        name = f"{len(source)} bytes"
        return _from_text(text_of(bytes(source), name), name)
    if not isinstance(source, str):
        raise BadSample("molecule", WANTED, "nothing" if source is None else f"a {type(source).__name__}")
    if "\n" not in source and source.lower().endswith(ENDINGS):
        return _from_path(Path(source))
    return _from_text(source, "")


def _from_path(path: Path) -> Molecule:
    demand_file(path, "a .mol or .sdf file", most=MAX_BYTES)
    return _from_block(only_block(text_of(path.read_bytes(), str(path)), str(path)), str(path))


def _from_text(text: str, source: str) -> Molecule:
    if "\n" in text.strip():
        return _from_block(only_block(text, source or "MOL text"), source or "MOL text")
    return _from_smiles(text.strip(), source)


def _from_smiles(text: str, source: str) -> Molecule:
    where = source or f"SMILES {text[:40] + '...' * (len(text) > 40)!r}"
    if not text:
        raise BadSample(source or "SMILES", WANTED, "an empty text")
    _check_length(text, where)
    head, _, rest = text.partition(" ")
    if len(text.split()) > 1 and not rest.lstrip().startswith("|"):
        raise BadSample(where, "a SMILES alone", f"more text after it: {' '.join(text.split()[1:])[:40]!r}")
    with quiet:
        try:
            if len(head) > _LONG:
                _check_size(Chem.MolFromSmiles(text, sanitize=False), where)
            mol = Chem.MolFromSmiles(text)
            if mol is None:
                raw = Chem.MolFromSmiles(text, sanitize=False)
                raise BadSample(where, "a SMILES that rdkit reads", _problem(raw) or _syntax(head))
            _check_size(mol, where)
            if "|" in text:
                mol = with_racemic_flag(mol, text)
            # Stereo is written by these signs alone, or in bars.
            return featurise(mol, text, stereo=any(sign in text for sign in "@/\\|"))
        except (RuntimeError, ValueError) as error:
            raise _refused(error, where, "a SMILES that rdkit reads") from error


def _from_block(text: str, where: str) -> Molecule:
    if not text.strip():
        raise BadSample(where, WANTED, "an empty text")
    _check_length(text, where)
    with quiet:
        try:
            raw = Chem.MolFromMolBlock(text, sanitize=False, removeHs=False)
            if raw is None:
                raise BadSample(where, "a MOL block that rdkit reads", block_problem(text))
            _check_size(raw, where, 4)
            mol = Chem.MolFromMolBlock(text)
            if mol is None:
                raise BadSample(where, "a MOL block that rdkit reads", _problem(raw) or "a molecule that it refuses")
            return _finished(mol, where)
        except (RuntimeError, ValueError) as error:
            raise _refused(error, where, "a MOL block that rdkit reads") from error


def _from_mol(mol: Chem.Mol) -> Molecule:
    where = "rdkit molecule"
    with quiet:
        try:
            _check_size(mol, where, 4)
            mol = Chem.RemoveHs(mol)  # a copy, sanitised
            Chem.AssignStereochemistry(mol)
            return _finished(mol, where)
        except (RuntimeError, ValueError) as error:
            raise _refused(error, where, "a molecule that rdkit accepts") from error


def _finished(mol: Chem.Mol, where: str) -> Molecule:
    _check_size(mol, where)
    smiles = _smiles(mol)
    again = Chem.MolFromSmiles(smiles)  # in the order of the SMILES, as if that had been read
    if again is None:
        raise BadSample(where, "a molecule that a SMILES can say", f"one whose SMILES rdkit refuses: {smiles[:60]}")
    return featurise(again, smiles)


def _smiles(mol: Chem.Mol) -> str:
    """Canonical SMILES, with the groups of enhanced stereo in bars where there are any."""
    if not relative_groups(mol):
        return Chem.MolToSmiles(mol)
    return Chem.MolToCXSmiles(mol, Chem.SmilesWriteParams(), Chem.CXSmilesFields.CX_ENHANCEDSTEREO)


def _refused(error: Exception, where: str, expected: str) -> BadSample:
    if isinstance(error, BadSample):
        return error
    return BadSample(where, expected, " ".join(str(error).split())[:200] or type(error).__name__)


def _check_length(text: str, where: str) -> None:
    if len(text) > MAX_TEXT:
        raise BadSample(where, f"at most {MAX_TEXT} characters", str(len(text)))
    if not text.isprintable() and "\n" not in text:  # a MOL block has lines
        raise BadSample(where, WANTED, "control characters")


def _check_size(mol: Chem.Mol | None, where: str, hydrogens: int = 1) -> None:
    if mol is not None and not 1 <= mol.GetNumAtoms() <= MAX_ATOMS * hydrogens:
        raise BadSample(where, f"a molecule of 1..{MAX_ATOMS} atoms", f"{mol.GetNumAtoms()}")


def _problem(raw: Chem.Mol | None) -> str:
    """Chemical problem of a parsed molecule, in words."""
    messages = [] if raw is None else [problem.Message() for problem in Chem.DetectChemistryProblems(raw)]
    return "; ".join(" ".join(message.split()) for message in messages[:2])


def _syntax(text: str) -> str:
    """Most likely syntax error of a SMILES that cannot be parsed."""
    plain = re.sub(r"\[[^\[\]]*\]", "*", text)
    if "[" in plain or "]" in plain:
        return "an unmatched square bracket"
    depth = 0
    for sign in plain:
        depth += (sign == "(") - (sign == ")")
        if depth < 0:
            break
    if depth:
        return "an unmatched round bracket"
    marks = re.findall(r"%\(\d+\)|%\d\d|\d", plain)
    if odd := sorted({mark.strip("%()") for mark in marks if marks.count(mark) % 2}):
        return f"ring bond {odd[0]} that is not closed"
    return "a text that is none"
