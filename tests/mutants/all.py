"""The list of all mutants."""

from tests.mutants import evaluation, objectives, training

MUTANTS = (*objectives.MUTANTS, *evaluation.MUTANTS, *training.MUTANTS)
