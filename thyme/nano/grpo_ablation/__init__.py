"""The ablation of GRPO-ATS on the embedded model: arms, jobs, intervals and pages (`thyme nano ablate-grpo`)."""
