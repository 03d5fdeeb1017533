"""Training: from trajectories to samples and masks, supervised fine-tuning, and reinforcement."""
