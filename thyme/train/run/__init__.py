"""A run of training from outside: its folder and disk, checkpoints, progress, trackers, and the records it leaves."""
