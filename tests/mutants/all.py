"""The list of all mutants."""

from tests.mutants import evaluation, objectives, searching, training

MUTANTS = (*objectives.MUTANTS, *evaluation.MUTANTS, *training.MUTANTS, *searching.MUTANTS)
