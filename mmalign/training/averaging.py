"""The exponential moving average of the weights, on the device of the weights."""

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EMAWeightAveraging


class MovingAverage(EMAWeightAveraging):
    """Lightning's average, which is made before the model is moved to its device, follows it there.

    Otherwise every step copies all weights to the CPU.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Move the average."""
        super().on_train_start(trainer, pl_module)
        if self._average_model is not None:
            self._average_model.to(pl_module.device)
