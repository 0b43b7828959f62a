"""Functional groups and rings by name: SMARTS patterns, for the evaluation of explanations; no model reads them."""

import re
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from modalities.molecule.chem.rdkit_log import quiet

GROUPS: dict[str, tuple[str, str]] = {
    "hydroxy": ("[OX2H]", "hydroxyl?|hydroxyls"),
    "alcohol": ("[CX4][OX2H]", "alcohols?"),
    "phenol": ("c[OX2H]", "phenols?|phenolic"),
    "carboxylic acid": ("[CX3](=O)[OX2H]", "carboxy|carboxylic"),
    "carboxylate": ("[CX3](=O)[O-]", "carboxylates?"),
    "ester": ("[CX3](=O)[OX2][#6]", "esters?"),
    "lactone": ("[CX3;R](=O)[OX2;R]", "lactones?"),
    "ether": ("[OD2;!$(OC=O)]([#6])[#6]", "ethers?"),
    "methoxy": ("[OX2][CH3]", "methoxy"),
    "ketone": ("[#6][CX3](=O)[#6]", "ketones?"),
    "oxo": ("[#6]=[OX1]", "oxo"),
    "aldehyde": ("[CX3H1](=O)", "aldehydes?"),
    "acetyl": ("[CH3][CX3]=O", "acetyl"),
    "amide": ("[CX3](=O)[NX3]", "amides?|carboxamides?"),
    "lactam": ("[CX3;R](=O)[NX3;R]", "lactams?"),
    "amine": ("[NX3;!$(N[C,S,P]=[O,S,N])]", "amines?"),
    "amino": ("[NX3H2,NX4H3]", "amino"),
    "ammonium": ("[NX4+]", "ammonium"),
    "imine": ("[CX3]=[NX2]", "imines?|imino"),
    "oxime": ("C=N[OX2]", "oximes?"),
    "hydrazine": ("[NX3][NX3]", "hydrazines?|hydrazides?"),
    "urea": ("[NX3][CX3](=O)[NX3]", "ureas?"),
    "guanidine": ("[NX3][CX3](=[NX2,NX3+])[NX3]", "guanidines?|guanidino"),
    "carbamate": ("[NX3][CX3](=O)[OX2]", "carbamates?"),
    "nitrile": ("[CX2]#[NX1]", "nitriles?|cyano"),
    "nitro": ("[NX3+](=O)[O-]", "nitro"),
    "sulfate": ("S(=O)(=O)([O])[O]", "sulfates?|sulfuric|sulfooxy"),
    "sulfonic acid": ("[#6]S(=O)(=O)[OX2H,OX1-]", "sulfonic|sulfonates?|sulfo"),
    "sulfonamide": ("S(=O)(=O)[NX3]", "sulfonamides?|sulfonamido"),
    "sulfone": ("[#6]S(=O)(=O)[#6]", "sulfones?|sulfonyl"),
    "sulfide": ("[#6][SX2][#6]", "sulfides?|thioethers?"),
    "thiol": ("[SX2H]", "thiols?|sulfanyl"),
    "phosphate": ("P(=O)([O])([O])[O]", "phosphates?|phospho"),
    "epoxide": ("C1OC1", "epoxides?|epoxy"),
    "fluorine": ("F", "fluoro|fluorine|fluoride|fluorides"),
    "chlorine": ("[Cl]", "chloro|chlorine|chloride|chlorides"),
    "bromine": ("[Br]", "bromo|bromine|bromide|bromides"),
    "iodine": ("[I]", "iodo|iodine|iodide|iodides"),
    "methyl": ("[CX4H3]", "methyl"),
    "trifluoromethyl": ("C(F)(F)F", "trifluoromethyl"),
    "benzene": ("c1ccccc1", "phenyl|benzenes?"),
    "pyridine": ("n1ccccc1", "pyridines?|pyridyl"),
    "pyrimidine": ("n1cnccc1", "pyrimidines?"),
    "pyrrole": ("[nX3]1cccc1", "pyrroles?"),
    "imidazole": ("n1cncc1", "imidazoles?|imidazolyl"),
    "pyrazole": ("n1nccc1", "pyrazoles?"),
    "indole": ("c1ccc2nccc2c1", "indoles?"),
    "purine": ("c1ncnc2ncnc12", "purines?"),
    "furan": ("o1cccc1", "furans?|furyl"),
    "thiophene": ("s1cccc1", "thiophenes?|thienyl"),
    "thiazole": ("s1cncc1", "thiazoles?"),
    "piperidine": ("[#7]1[CX4][CX4][CX4][CX4][CX4]1", "piperidines?|piperidinyl"),
    "piperazine": ("[#7]1[CX4][CX4][#7][CX4][CX4]1", "piperazines?|piperazinyl"),
    "pyrrolidine": ("[#7]1[CX4][CX4][CX4][CX4]1", "pyrrolidines?"),
    "morpholine": ("[#7]1[CX4][CX4]O[CX4][CX4]1", "morpholines?"),
}
"""Name -> SMARTS of its atoms, and a pattern of the whole words that name it, in lower case."""


def groups_of(smiles: str) -> dict[str, NDArray[np.bool_]]:
    """The atoms of each group that a molecule contains: name -> `(atoms,)`, atoms in the order of the SMILES.

    Example:
        >>> {name: atoms.nonzero()[0].tolist() for name, atoms in groups_of("CCO").items()}
        {'hydroxy': [2], 'alcohol': [1, 2], 'methyl': [0]}
    """
    with quiet:
        molecule = Chem.MolFromSmiles(smiles)
    if molecule is None:
        return {}
    found = {}
    for name in GROUPS:
        matches = molecule.GetSubstructMatches(_pattern(name), maxMatches=10_000)
        if matches:
            mask = np.zeros(molecule.GetNumAtoms(), dtype=np.bool_)
            mask[[atom for match in matches for atom in match]] = True
            found[name] = mask
    return found


def named_group(word: str) -> str | None:
    """The group that a word of a sentence names, with numbers of it and punctuation ignored.

    Example:
        >>> named_group("Dihydroxy"), named_group("esters,"), named_group("hydroxyflavone")
        ('hydroxy', 'ester', None)
    """
    plain = re.sub(r"^[^a-z]+|[^a-z]+$", "", word.lower())
    for name, pattern in _words():
        if pattern.fullmatch(plain):
            return name
    return None


@cache
def _pattern(name: str) -> Any:
    pattern = Chem.MolFromSmarts(GROUPS[name][0])
    assert pattern is not None, name
    return pattern


@cache
def _words() -> tuple[tuple[str, re.Pattern[str]], ...]:
    number = "(?:mono|di|tri|tetra|penta|hexa|bis|tris)?"
    return tuple((name, re.compile(f"{number}(?:{words})")) for name, (_, words) in GROUPS.items())
