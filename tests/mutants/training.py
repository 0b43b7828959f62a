"""Errors in sampling, positives, mixing, averaging, resuming; and in the checks of readers."""

# ruff: noqa: E501 - lines of code are quoted as they are

from tests.mutants.mutant import Mutant

SAMPLING = ("tests/data/batching/test_sampling.py",)
STREAM = ("tests/data/streaming",)
BATCHES = ("tests/data/batching/test_batches.py",)
RESUME = ("tests/training/checkpoints/test_resume.py::test_killed_and_resumed_equals_unbroken[mid-epoch]",)
LEADS = ("tests/modalities/ecg/test_lead_checks.py",)
LABELS = ("tests/modalities/molecule/test_read.py",)
AVERAGE = ("tests/training/test_averaging.py",)

MUTANTS = (
    Mutant("every epoch has the same order", "mmalign/data/batching/sampling.py",
           "np.random.default_rng((self.seed, epoch, 0, 1))", "np.random.default_rng((self.seed, 0, 0, 1))", SAMPLING),
    Mutant("the first batch after resuming is skipped", "mmalign/data/batching/sampling.py",
           "for low, high in self._bounds(first):", "for low, high in self._bounds(first)[1 if first else 0 :]:", SAMPLING),
    Mutant("all ranks train the same rows", "mmalign/data/batching/sampling.py",
           "np.array_split(order[low:high], world)[rank]", "np.array_split(order[low:high], world)[0]",
           ("tests/data/batching/test_sampling.py", "tests/data/test_module.py")),
    Mutant("hard negatives from the next batch", "mmalign/data/batching/sampling.py",
           "first, room = len(batches) - 1, -len(batches) % batch", "first, room = len(batches) - 1, batch", SAMPLING),
    Mutant("a resumed stream begins again", "mmalign/data/streaming/stream_batches.py",
           "for _ in range(skip):", "for _ in range(0):", STREAM),
    Mutant("a resumed stream counts rejected records", "mmalign/data/streaming/stream_batches.py",
           "self.rejections.known() if skip else frozenset()", "frozenset()", STREAM),
    Mutant("all processes stream the same shards", "mmalign/data/streaming/order.py",
           "order[consumer.number :: consumer.total] if divided", "order[:: consumer.total] if divided", STREAM),
    Mutant("a stream trains on held-out records", "mmalign/data/streaming/stream_batches.py",
           "record.location not in known and self.keep(record)", "record.location not in known", STREAM),
    Mutant("augmentation does not depend on the epoch", "mmalign/data/batching/batches.py",
           "np.random.default_rng((self.seed, epoch, index))", "np.random.default_rng((self.seed, 0, index))",
           ("tests/data/batching/test_batches.py", "tests/data/test_module.py")),
    Mutant("positives through a third record are lost", "mmalign/data/batching/batches.py",
           "            parents[max(one, other)] = min(one, other)", "            parents[index] = min(one, other)", BATCHES),
    Mutant("mixing: partners are the rows themselves", "mmalign/training/mixup.py",
           "partners[chosen] = chosen.flip(0)", "partners[chosen] = chosen", ("tests/training/test_mixup.py",)),
    Mutant("moving average with decay 1 - d", "mmalign/training/settings/parsing.py",
           "MovingAverage(decay=self.config.ema)", "MovingAverage(decay=1 - self.config.ema)", AVERAGE),
    Mutant("constants are not clamped after a step", "mmalign/training/module.py",
           "        with torch.no_grad():\n            self.aligner.objective.after_step()", "", AVERAGE),
    Mutant("Python's random state is not restored", "mmalign/training/callbacks.py",
           '        random.setstate(_tuples(saved["python"]))\n', "", RESUME),
    Mutant("NumPy's random state is not restored", "mmalign/training/callbacks.py",
           '        np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002\n',
           "", RESUME),
    Mutant("torch's random state is not restored", "mmalign/training/callbacks.py",
           '        torch.set_rng_state(saved["torch"].cpu())\n', "", RESUME),
    Mutant("a checkpoint's position is one batch late", "mmalign/training/callbacks.py",
           "data.resume(epoch, row)", "data.resume(epoch, row + data.rows_per_step if row else 0)", RESUME),
    Mutant("a damaged checkpoint is believed", "mmalign/training/checkpoints/checkpoint_files.py",
           "    if damaged:\n", "    if False:\n", ("tests/training/checkpoints/test_checkpoint_files.py",)),
    Mutant("the checkpoint before is not kept", "mmalign/training/checkpoints/checkpoint_files.py",
           'if path.name == "last.ckpt" and path.exists():', "if False:", ("tests/training/checkpoints/test_checkpoint_files.py",)),
    Mutant("flat leads join the check of the order", "modalities/ecg/formats/lead_checks.py",
           "_order(signal, valid, [lead for lead in leads if lead not in flat], leads)",
           "_order(signal, valid, list(leads), leads)", LEADS),
    Mutant("causes are not compared with the best one", "modalities/ecg/formats/lead_checks.py",
           "left <= max(0.1 * residual, 2 * tried[0][0]) and left <= allowed", "left <= allowed", LEADS),
    Mutant("double bonds of either side have a label", "modalities/molecule/chem/featurise.py",
           "if bond.GetStereo() > _SPECIFIED]", "if bond.GetStereo() >= _SPECIFIED]", LABELS),
    Mutant("labels of the older CIP rules are kept", "modalities/molecule/chem/featurise.py",
           '        thing.ClearProp("_CIPCode")', '        thing.HasProp("_CIPCode")', LABELS),
)  # fmt: skip
