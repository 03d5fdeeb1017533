"""What trainers read: samples in memory, indexed on disk, or streamed, and the readers of their sources."""
