"""N-grams of texts: against scikit-learn's weights, and what belongs to which word."""

import json
import math

import numpy as np
import pytest
import torch

from mmalign.errors import UserError
from modalities.common.encoders.embedding_bags import bag_matrix
from modalities.text import MODALITY
from modalities.text.encoders.tfidf_linear import NgramBag
from modalities.text.tfidf_transform import NgramSettings, NgramTransform

TEXTS = [
    "The molecule is a hydroxybutanoate.",
    "It is a conjugate acid of a (2R)-2-hydroxybutanoic acid.",
    "The molecule is an amino acid, an amine and an acid.",
    "the amine 42",
]


def fitted(**settings: object) -> NgramTransform:
    transform = NgramTransform(NgramSettings.make({"min_count": 1} | settings))
    transform.fit(TEXTS)
    return transform


def dense(transform: NgramTransform, texts: list[str]) -> torch.Tensor:
    inputs = transform.collate([transform.item(text) for text in texts])
    return bag_matrix(inputs, inputs["text"], len(texts), transform.size).to_dense()


def test_the_weights_are_those_of_scikit_learn() -> None:
    """Each family alone is TfidfVectorizer with sublinear counts; together they have the stated shares."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    transform = fitted()
    words = TfidfVectorizer(token_pattern=r"[^\W\d_]+|\d|[^\w\s]", ngram_range=(1, 2), sublinear_tf=True).fit(TEXTS)
    letters = TfidfVectorizer(analyzer="char", ngram_range=(3, 5), sublinear_tf=True).fit(TEXTS)
    got = dense(transform, TEXTS)
    assert transform.vocabulary is not None
    for vectorizer, family, share in ((words, "words", 0.25), (letters, "letters", 0.75)):
        known = list(transform.vocabulary[family])
        assert set(known) == set(vectorizer.vocabulary_)
        theirs = vectorizer.transform(TEXTS).toarray()[:, [vectorizer.vocabulary_[gram] for gram in known]]
        first = 0 if family == "words" else len(transform.vocabulary["words"])
        ours = got[:, first : first + len(known)]
        torch.testing.assert_close(ours, torch.from_numpy(theirs * math.sqrt(share)).float(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(got.norm(dim=1), torch.ones(4))


def test_a_gram_belongs_to_the_word_in_which_it_begins() -> None:
    transform = fitted()
    assert transform.vocabulary is not None
    item = transform.item("an amine 42")
    grams = [gram for family in transform.vocabulary.values() for gram in family]
    of_word: dict[int, set[str]] = {}
    for gram, word in zip(item.grams.tolist(), item.words.tolist(), strict=True):
        of_word.setdefault(word, set()).add(grams[gram])
    assert item.words_total == 4  # an, amine, 4, 2
    assert {"amine", "ine", "ami", "e 4"} <= of_word[1]
    assert "n a" in of_word[0]
    assert of_word[3] == {"2"}


def test_words_sum_to_the_text_and_the_vector_is_the_linear_map() -> None:
    transform = fitted()
    encoder = NgramBag(transform, width=8)
    inputs = transform.collate([transform.item(text) for text in TEXTS])
    features = encoder(inputs)
    assert features.tokens is not None
    torch.testing.assert_close(features.tokens.values.sum(1), features.vector)
    torch.testing.assert_close(encoder.linear_features(inputs).to_dense() @ encoder.table, features.vector)
    assert not features.tokens.values[~features.tokens.mask].any()


def test_a_set_linear_map_determines_the_vector() -> None:
    transform = fitted()
    encoder = NgramBag(transform, width=8, depth=1, heads=2).eval()
    weight = torch.randn(transform.size, 8, generator=torch.Generator().manual_seed(0))
    encoder.set_linear_weights(weight)
    inputs = transform.collate([transform.item(text) for text in TEXTS])
    torch.testing.assert_close(encoder(inputs).vector, dense(transform, TEXTS) @ weight)


def test_case_form_and_blanks_do_not_matter() -> None:
    transform = fitted()
    assert torch.equal(dense(transform, ["THE  Molecule\tis"]), dense(transform, ["the molecule is"]))


def test_a_text_of_unknown_ngrams_has_zero_weight() -> None:
    transform = fitted()
    encoder = NgramBag(transform, width=8)
    inputs = transform.collate([transform.item("ξξ"), transform.item("the amine")])
    vector = encoder(inputs).vector
    assert not vector[0].any()
    assert vector[1].any()


def test_rare_grams_are_left_out_and_the_most_frequent_kept() -> None:
    some, few = fitted(min_count=2), fitted(vocabulary=3)
    assert some.vocabulary is not None
    assert few.vocabulary is not None
    assert "molecule" in some.vocabulary["words"]
    assert "hydroxybutanoate" not in some.vocabulary["words"]
    assert sorted(few.vocabulary["words"]) == ["is", "is a", "the"] or len(few.vocabulary["words"]) == 3
    with pytest.raises(UserError, match="no n-gram occurs in 9 of 4"):
        fitted(min_count=9)


def test_long_texts_are_cut() -> None:
    short = fitted(max_length=3)
    assert short.item(TEXTS[0]).words_total == 3
    assert torch.equal(dense(short, [TEXTS[0]]), dense(short, ["The molecule is"]))


def test_restored_from_json_to_the_bit() -> None:
    transform = fitted(phrases=True)
    again = MODALITY.restore_transform(json.loads(json.dumps(transform.config())))
    one, two = (each.collate([each.item(text) for text in TEXTS]) for each in (transform, again))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_words_are_dropped_in_training_only() -> None:
    transform = fitted(word_dropout=0.5)
    plain = transform.item(TEXTS[1])
    drawn = [transform.item(TEXTS[1], np.random.default_rng(seed)).words_total for seed in range(5)]
    assert transform.item(TEXTS[1]).words_total == plain.words_total
    assert min(drawn) < plain.words_total
    assert min(drawn) >= 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"letters": [5, 3]}, "letters must be two sizes"),
        ({"words": [0, 1]}, "words must be two sizes"),
        ({"share": 1.0}, "share"),
        ({"vocabulary": 0}, "vocabulary"),
        ({"min_cuont": 2}, "did you mean 'min_count'"),
        ({"word_dropout": 1.0}, "word_dropout"),
        ({"phrases": 1}, "phrases"),
    ],
)
def test_invalid_settings_are_errors(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        NgramSettings.make(settings)


def test_phrases_need_a_transform_that_finds_them() -> None:
    with pytest.raises(UserError, match="does not detect them"):
        NgramBag(fitted(), phrases=True)
    with pytest.raises(UserError, match="call fit"):
        NgramBag(NgramTransform(NgramSettings()))
