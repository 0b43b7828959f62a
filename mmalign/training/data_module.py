"""The data module that Lightning's trainer needs; `mmalign.data` itself imports no Lightning."""

import pytorch_lightning as pl

from mmalign.data.module import PairedData


class TrainingData(PairedData, pl.LightningDataModule):
    """`PairedData` as a LightningDataModule: same settings, same loaders."""
