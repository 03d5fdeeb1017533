"""Running the factory: the draw, its survey, chunks, journals, shards, executors, and how far it is."""
