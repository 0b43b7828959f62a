"""CCA initialisation: linear layers set by canonical correlation analysis before training."""
