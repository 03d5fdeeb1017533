"""GRPO with adaptive temperature sampling: our engines roll out, one on-policy step a batch, monitors at every one."""
