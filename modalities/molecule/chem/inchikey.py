"""InChIKeys: identity of molecules, and groups that differ only by stereo, isotopes or protons."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from mmalign.errors import UserError
from mmalign.registry import missing_extra, nearest
from mmalign.safe_io.safe_writing import replaced

GROUPS = ("inchikey", "connectivity", "none")

_remembered: dict[str, str] = {}
_KEY = re.compile(r"([A-Z]{14}-[A-Z]{10}-[A-Z])?")


def inchikeys(smiles: Iterable[str]) -> list[str]:
    """The standard InChIKey of each SMILES, "" where rdkit rejects it or InChI has none (a dummy atom).

    About 0.5 ms per molecule; results are cached in this process, see `Kept`.

    Example:
        >>> from modalities.molecule.chem.inchikey import inchikeys
        >>> inchikeys(["C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O", "C1CC"])
        ['QNAYBMKLOCPYGJ-REOHCLBHSA-N', 'QNAYBMKLOCPYGJ-UWTATZPHSA-N', '']
    """
    try:
        from rdkit import Chem

        from modalities.molecule.chem.enhanced_stereo import with_racemic_flag, without_relative_stereo
        from modalities.molecule.chem.rdkit_log import quiet
    except ModuleNotFoundError as error:
        raise missing_extra(error.name or "rdkit", "molecule") from error
    keys = []
    with quiet:
        for text in smiles:
            if text not in _remembered:
                mol = Chem.MolFromSmiles(text)
                if mol is not None and "|" in text:  # InChI has no enhanced stereo: such centres are undefined
                    mol = without_relative_stereo(with_racemic_flag(mol, text))
                _remembered[text] = Chem.MolToInchiKey(mol) if mol is not None else ""  # type: ignore[no-untyped-call]
            keys.append(_remembered[text])
    return keys


def groups(smiles: Sequence[str], how: str) -> list[str | None]:
    """Group of each molecule that a split must not divide.

    Args:
        smiles: The molecules.
        how: inchikey (the molecule itself), connectivity (the first block of its InChIKey: stereoisomers and most
        charge
            states are one group), or none.

    Returns:
        Group name of each; None for a molecule without an InChIKey, which is its own group.

    Raises:
        UserError: `how` is unknown.

    Example:
        >>> from modalities.molecule.chem.inchikey import groups
        >>> groups(["C[C@H](N)C(=O)O", "CC(N)C(=O)O"], "connectivity")
        ['QNAYBMKLOCPYGJ', 'QNAYBMKLOCPYGJ']
    """
    if how not in GROUPS:
        raise UserError(f"--data.options.group: expected one of {', '.join(GROUPS)}, got {how!r}{nearest(how, GROUPS)}")
    if how == "none":
        return [None] * len(smiles)
    keys = inchikeys(smiles)
    return [(key if how == "inchikey" else key.split("-")[0]) or None for key in keys]


class Kept:
    """Disk cache of InChIKeys.

    Inside the `with` block `inchikeys` uses the file's entries; new ones are added to the file.

    Args:
        folder: Created if missing; None = no cache.
    """

    def __init__(self, folder: str | Path | None) -> None:
        self.folder = None if folder is None else Path(folder).expanduser()

    def __enter__(self) -> None:
        if self.folder is not None and (path := self._path()).is_file():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            cells = (line.split("\t") for line in lines)
            _remembered.update({pair[1]: pair[0] for pair in cells if len(pair) == 2 and _KEY.fullmatch(pair[0])})
        self._known = len(_remembered)

    def __exit__(self, *error: object) -> None:
        if self.folder is None or len(_remembered) == self._known:
            return
        lines = [f"{key}\t{text}\n" for text, key in _remembered.items() if text.isprintable()]
        self.folder.mkdir(parents=True, exist_ok=True)
        with replaced(self._path()) as partial:
            partial.write_text("".join(lines), encoding="utf-8")

    def _path(self) -> Path:
        from rdkit import rdBase

        assert self.folder is not None
        return self.folder / f"inchikeys-2-{rdBase.rdkitVersion}.tsv"
