"""The agent: the loop between model and sandbox, its temperatures, its loop detector."""
