"""The sides of the rollout benchmark: each a process of its own that does the same work on the same weights."""
