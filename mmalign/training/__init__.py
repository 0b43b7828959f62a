"""Training: the LightningModule, its optimiser, and callbacks for bit-exact resumption."""
