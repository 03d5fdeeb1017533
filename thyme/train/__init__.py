"""Training: from trajectories to samples and masks, and supervised fine-tuning on them."""
