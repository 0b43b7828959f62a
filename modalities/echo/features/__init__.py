"""Hand-crafted features of echocardiogram clips."""
