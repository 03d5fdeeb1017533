"""From samples to a batch of tensors, and where a batch gets its images from."""
