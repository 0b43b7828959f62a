"""InChIKeys: which molecules are one and the same, and which differ only by stereo, isotopes or protons."""

from collections.abc import Iterable, Sequence

from mmalign.errors import UserError
from mmalign.registry import missing_extra, nearest

GROUPS = ("inchikey", "connectivity", "none")

_remembered: dict[str, str] = {}


def inchikeys(smiles: Iterable[str]) -> list[str]:
    """The standard InChIKey of each SMILES, "" where rdkit refuses it or InChI knows none (a dummy atom).

    About 0.5 ms a molecule, once a process: a molecule that was asked for before is not worked out again.

    Example:
        >>> inchikeys(["C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O", "C1CC"])
        ['QNAYBMKLOCPYGJ-UWTATZPHSA-N', 'QNAYBMKLOCPYGJ-REOHCLBHSA-N', '']
    """
    try:
        from rdkit import Chem

        from modalities.molecule.quiet import quiet
    except ModuleNotFoundError as error:
        raise missing_extra(error.name or "rdkit", "molecule") from error
    found = []
    with quiet():
        for text in smiles:
            if text not in _remembered:
                mol = Chem.MolFromSmiles(text)
                _remembered[text] = Chem.MolToInchiKey(mol) if mol is not None else ""
            found.append(_remembered[text])
    return found


def groups(smiles: Sequence[str], how: str) -> list[str | None]:
    """What molecules that must not be torn apart have in common.

    Args:
        smiles: The molecules.
        how: inchikey (the molecule itself), connectivity (the first block of its InChIKey: stereoisomers and most
            states of charge belong together), or none.

    Returns:
        A name for each; None for a molecule without an InChIKey, which stands alone.

    Raises:
        UserError: another way.

    Example:
        >>> groups(["C[C@H](N)C(=O)O", "CC(N)C(=O)O"], "connectivity")
        ['QNAYBMKLOCPYGJ', 'QNAYBMKLOCPYGJ']
    """
    if how not in GROUPS:
        raise UserError(f"--data.options.group: expected one of {', '.join(GROUPS)}, got {how!r}{nearest(how, GROUPS)}")
    if how == "none":
        return [None] * len(smiles)
    keys = inchikeys(smiles)
    return [(key if how == "inchikey" else key.split("-")[0]) or None for key in keys]
