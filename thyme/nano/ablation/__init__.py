"""The ablation of fine-tuning on the embedded model: Table 5 of the paper in miniature (`thyme nano ablate-sft`)."""
