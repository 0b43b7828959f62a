"""Training: the LightningModule, its optimiser, and the callbacks that make a run resumable to the bit."""
