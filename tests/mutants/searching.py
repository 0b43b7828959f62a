"""Errors in search, mining, tuning, export, reduced precision, several items per record, and the building of networks."""

# ruff: noqa: E501 - lines of code are quoted as they are

from tests.mutants.mutant import Mutant

APPROXIMATE = ("tests/searching/test_approximate.py",)
EXACT = ("tests/searching/test_exact.py",)
STORED = ("tests/embedding/test_stored_vectors.py",)
MINING = ("tests/mining",)
ONE_TO_K = ("tests/objectives/functional/test_one_to_k.py",)
FOUND = ("tests/fuzz/test_found.py",)

MUTANTS = (
    Mutant("an index of another size is searched", "mmalign/searching/approximate.py",
           "(index.ntotal, index.d) != (len(table), table.vectors.dim)", "False", APPROXIMATE),
    Mutant("a damaged index is searched", "mmalign/searching/approximate.py",
           'if not file.is_file() or file_sha256(file) != facts["sha256"]:', "if not file.is_file():", APPROXIMATE),
    Mutant("rows that an index does not find have a score", "mmalign/searching/exact.py",
           "scores = scores.masked_fill(candidates < 0, -torch.inf)", "scores = scores + 0", EXACT),
    Mutant("int8 without its center", "mmalign/embedding/stored_vectors.py",
           "return self.center + self.step * codes", "return self.step * codes", STORED),
    Mutant("binary signs are turned", "mmalign/embedding/stored_vectors.py",
           "(vectors > center).numpy()", "(vectors < center).numpy()", STORED),
    Mutant("codes that decode to infinity are read", "mmalign/embedding/stored_vectors.py",
           "self.center.abs() + self.step.abs() *", "self.center.abs() + 0 * self.step.abs() *", STORED),
    Mutant("mining: the relative margin is added", "mmalign/mining/selection.py",
           "[positive - self.relative_margin * abs(positive)]", "[positive + self.relative_margin * abs(positive)]", MINING),
    Mutant("mining: the absolute margin is added", "mmalign/mining/selection.py",
           "[positive - self.absolute_margin]", "[positive + self.absolute_margin]", MINING),
    Mutant("tuning: every expert has all templates", "mmalign/tuning/learn.py",
           "templates[expert :: self.experts] or templates", "templates or templates", ("tests/tuning",)),
    Mutant("export: the worst of equal scores is not counted", "mmalign/exporting/parity.py",
           "rank = (~(matrix < own)).sum(dim=1) - 1", "rank = (matrix > own).sum(dim=1)", ("tests/exporting/test_parity.py",)),
    Mutant("one to K: the columns are not divided by K", "mmalign/objectives/functional/one_to_k.py",
           "column_losses * positives.of_columns / occurrences(groups_b.sort().values, groups_b)", "column_losses * positives.of_columns", ONE_TO_K),
    Mutant("Split.take: indices in the order of the split", "mmalign/data/split.py",
           "indices=tuple(self.indices[row] for row in chosen)", "indices=tuple(self.indices[row] for row in sorted(chosen))",
           ("tests/data/test_split_take.py",)),
    Mutant("draw: always the first alternatives", "mmalign/data/batching/batches.py",
           "return sorted(rng.permutation(count)[:number].tolist())", "return list(range(number))", ("tests/data/batching/test_batches.py",)),
    Mutant("layers of size 0 are built", "mmalign/building.py",
           "        raise UserError(\n            f\"expected layers", "        UserError(\n            f\"expected layers",
           ("tests/contract/test_encoder_arguments.py::test_a_layer_of_size_zero_is_refused_and_the_check_ends_with_its_context",)),
    Mutant("heads below 1", "modalities/common/encoders/transformer.py",
           "if heads < 1 or width < 1 or width % heads:", "if width % heads:",
           ("tests/contract/test_encoder_arguments.py::test_every_number_is_used_or_refused[image vit]",)),
    Mutant("a record of a blank group joins the others", "mmalign/data/validation.py",
           "name if name and name.strip() else None", "name", FOUND),
    Mutant("a lead that overflows is valid", "modalities/ecg/read.py",
           "return ~(high - low > MIN_RANGE)", "return ~(high > low)", FOUND),
    Mutant("colours beyond 255 become integers", "modalities/pointcloud/formats/arrays.py",
           "colours.size and (np.abs(colours) <= 255).all() and", "colours.size and", FOUND),
)  # fmt: skip
