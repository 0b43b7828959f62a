"""Segmentation of chemical names into morphemes by one regular expression inside the tokenizer."""

import string
from collections.abc import Iterable
from typing import Any

from tokenizers import Regex, normalizers, pre_tokenizers

CHAINS = (
    "meth", "eth", "prop", "but", "pent", "hex", "hept", "oct", "non", "dec", "undec", "dodec", "tridec", "tetradec",
    "pentadec", "hexadec", "heptadec", "octadec", "nonadec", "icos", "eicos", "henicos", "docos", "tricos", "tetracos",
    "pentacos", "hexacos", "octacos", "triacont", "tetr", "alk", "acyl", "aryl", "vinyl", "allyl", "pren", "farnes",
    "geran", "phyt", "hal",
)  # fmt: skip
PREFIXES = (
    "di", "tri", "tetra", "bi", "bis", "tetrakis", "mono", "poly", "oligo", "hemi", "sesqui", "cyclo", "cyclic",
    "spiro", "iso", "neo", "nor", "homo", "hetero", "organo", "epi", "seco", "deoxy", "dehydro", "hydro", "hydrogen",
    "desmethyl", "demethyl", "anhydr", "anhydro", "epoxy", "peroxy", "oxa", "aza", "azo", "diazo", "azido", "azin",
    "thia", "cis", "trans", "lyso",
)  # fmt: skip
GROUPS = (
    "oxy", "oxo", "hydroxy", "hydroxyl", "hydroxam", "hydroperoxy", "carboxy", "carboxyl", "carbox", "carbonyl",
    "carbamo", "carbam", "carb", "amino", "amin", "imino", "amido", "imido", "ammon", "nitro", "nitroso", "cyan",
    "cyano", "thi", "thio", "sulf", "sulfo", "sulfon", "sulfin", "phosph", "phospho", "phosphor", "phosphon",
    "phosphatid", "chlor", "chloro", "fluor", "fluoro", "brom", "bromo", "iod", "iodo", "form", "acet", "propion",
    "butyr", "valer", "glycer", "acryl", "croton", "malon", "succin", "glutar", "adip", "male", "fumar", "lact",
    "pyruv", "citr", "tartr", "oxal", "palmit", "stear", "ole", "olefin", "linole", "linolen", "myrist", "laur",
    "arachidon", "cinnam", "coumar", "caffe", "ferul", "gall", "salicyl", "phthal", "benz", "benzyl", "phenyl",
    "phenoxy", "phen", "tolu", "tolyl", "xylyl", "anil", "anis", "styr", "cresyl", "catechol",
)  # fmt: skip
RINGS = (
    "furan", "furo", "pyran", "pyr", "pyrrol", "pyrrolo", "pyrid", "pyridin", "pyrimidin", "pyridazin", "pyrazin",
    "pyrazol", "pyrrolidin", "pyrrolizin", "piperid", "piperidin", "piperazin", "morpholin", "imidazol", "imidaz",
    "oxazol", "isoxazol", "indazol", "thiazol", "triazol", "tetrazol", "azol", "triazin", "indol", "indolyl", "quinol",
    "quinolin", "quinazolin", "quinoxalin", "isoquinolin", "quinon", "purin", "thiophen", "thien", "naphth",
    "naphthal", "anthrac", "phenanthr", "pyren", "fluoren", "carbazol", "chrom", "chromen", "xanth", "xanthen", "flav",
    "flavon", "chalcon", "lign", "stilben", "porphyrin", "oxiran", "aziridin", "azetidin", "azepin", "diazepin",
    "dioxol", "dioxan", "oxan", "oxolan", "thian", "chol", "cholest", "cholester", "ergost", "stigmast", "androst",
    "pregn", "estr", "lanost", "olean", "lup", "terpen", "ster", "caroten", "labd", "kaur", "abiet", "dammar", "cembr",
    "guai", "eudesm", "limon",
)  # fmt: skip
NATURAL = (
    "gluc", "galact", "mann", "fruct", "rib", "xyl", "arabin", "fuc", "rhamn", "sucr", "malt", "neuramin", "sial",
    "sacchar", "hexos", "pentos", "nucle", "nucleot", "aden", "guan", "cytid", "urid", "uracil", "thym", "thymid",
    "inos", "glyc", "alan", "val", "leuc", "isoleuc", "ser", "threon", "cyst", "methion", "asparag", "aspart",
    "glutam", "glutathion", "lys", "argin", "histid", "tyros", "tryptoph", "prol", "ornith", "carnit", "inosit",
    "sphing", "ceram", "lipid", "alkaloid", "peptide",
)  # fmt: skip
ENDINGS = (
    "an", "ane", "en", "ene", "yn", "yne", "yl", "ylidene", "idene", "ylene", "oyl", "ol", "al", "one", "oic", "ic",
    "oate", "ate$", "ite$", "ide", "ium", "ine", "in", "idine", "amide", "amine", "imide", "imine", "oxide", "nitrile",
    "thiol", "thione", "lactone", "lactam", "ester", "ether", "aldehyde", "ketone", "quinone", "ose", "os", "osyl",
    "oside", "uron", "uronic", "onic", "id", "oid", "acid", "hydrate", "hydride", "anion", "cation",
)  # fmt: skip
MORPHEMES = frozenset((*CHAINS, *PREFIXES, *GROUPS, *RINGS, *NATURAL, *ENDINGS))
"""Matched longest first, from the left; `$`: only where the word ends, or all of it but an `s`."""

TELLING = frozenset(word for word in (*CHAINS, *GROUPS, *RINGS, *NATURAL, "hydro", "cyclo", "deoxy") if len(word) > 3)
"""Morphemes that are rare in English words."""

ENGLISH = (
    "method", "formal", "inform", "transform", "isolate", "validate", "decide", "examine", "trial", "proposal",
    "margin", "invalid", "carbohydrate",
)  # fmt: skip
"""English words that consist of morphemes by chance, and words that are kept whole."""

LETTERS = 6
"""Minimum length of a word that is split."""

_END = r"(?=s?\z)"


def longest(words: Iterable[str]) -> str:
    """A regular expression for the longest match among some words, as a trie.

    Example:
        >>> longest(["an", "ane", "yl"])
        '(?>(?:an(?:e)?|yl))'
    """
    tree: dict[str, Any] = {}
    for word in sorted(words):
        node = tree
        for letter in word:
            node = node.setdefault(letter, {})
        node[""] = {}
    return f"(?>{_branches(tree)})"


def _branches(node: dict[str, Any]) -> str:
    branches = [(_END if letter == "$" else letter) + _branches(below) for letter, below in node.items() if letter]
    if len(branches) <= 1 and "" not in node:
        return "".join(branches)
    return f"(?:{'|'.join(branches)})" + "?" * ("" in node) if branches else ""


def morpheme_pattern() -> str:
    r"""A pattern that splits words of chemical names into morphemes, and does not match in other words.

    The text must have been cut into words of lower-case letters before. A word is one of a chemical name where it has
    `LETTERS` letters, is not in `ENGLISH`, and is all morphemes, with `a` or `o` to join them; or where it has a
    `TELLING` one, and each letter that no morpheme covers is followed by at least 3 covered ones, each two such by 5:
    so 5 letters in 7 are covered. A vowel or an `s` may end it.

    Example:
        >>> from tokenizers import Regex, pre_tokenizers
        >>> split = pre_tokenizers.Split(Regex(morpheme_pattern()), "isolated")
        >>> [piece for piece, _ in split.pre_tokenize_str("hydroxybutanoate")]
        ['hydroxy', 'but', 'an', 'oate']
        >>> [piece for piece, _ in split.pre_tokenize_str("another")]
        ['another']
    """

    def of_length(low: int, high: int) -> str:
        return longest(word for word in MORPHEMES if low <= len(word.rstrip("$")) <= high)

    five, three, two = of_length(5, 99), of_length(3, 4), of_length(2, 2)
    some = f"(?>{five}|{three}|{two})"
    least_three = f"(?>{five}|{three}|{two}{some})"
    least_five = f"(?>{five}|{three}{some}|(?!{three}){two}(?:{five}|{three}|{two}{some}))"
    letter = f"(?!{some})[a-z]"
    last = r"[aeo]?s?\z"
    plain = f"(?>{some}|(?!{some})[ao]{least_three})+{last}"
    dense = f"(?>{some}|{letter}{least_three}|{letter}{letter}{least_five})+{last}"
    tells = f"(?>(?:(?!{longest(TELLING)})(?>{some}|[a-z]))*){longest(TELLING)}"
    chemical = f"(?=[a-z]{{{LETTERS}}})(?!(?:{'|'.join(ENGLISH)})s?\\z)(?={plain}|(?={dense}){tells})"
    # \G is the end of the previous match: a chain starts only at the first letter of a chemical word.
    return f"(?:\\A{chemical}|\\G(?!\\A))(?:{some}|(?:{letter})+)"


def chemical_normalizer() -> normalizers.Normalizer:
    """Normalise Unicode (NFKC), white space and case, except isolated capitals: `R`, `N-`, `D-`, `13C`.

    A capital is isolated if no letter is adjacent, except as the first word of a text or a sentence ("A", "I").

    Example:
        >>> chemical_normalizer().normalize_str("A (2R)-N-Acetyl Derivative")
        'a (2R)-N-acetyl derivative'
    """
    # Control characters mark capitals while the rest is lower-cased; those of the text are replaced by blanks.
    marks = {capital: chr(code) for code, capital in enumerate(string.ascii_uppercase, 1)}
    alone = r"(?<!\p{L})(?!(?:\A|(?<=[.!?] ))[A-Z] )%s(?!\p{L})"
    return normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Replace(Regex(r"[\s\x00-\x1f]+"), " "),
            normalizers.Strip(),
            *(normalizers.Replace(Regex(alone % capital), mark) for capital, mark in marks.items()),
            normalizers.Lowercase(),
            *(normalizers.Replace(mark, capital) for capital, mark in marks.items()),
        ]
    )


def chemical_pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    """Split at white space (removed), around every digit and punctuation mark, and between morphemes.

    Example:
        >>> [piece for piece, _ in chemical_pre_tokenizer().pre_tokenize_str("the 3-hydroxybutanoate(1-)")]
        ['the', '3', '-', 'hydroxy', 'but', 'an', 'oate', '(', '1', '-', ')']
    """
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\s+"), "removed"),
            pre_tokenizers.Split(Regex(r"[^\p{L}\p{M}]"), "isolated"),
            pre_tokenizers.Split(Regex(morpheme_pattern()), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
