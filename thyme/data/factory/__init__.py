"""Running the factory: draws, chunks, journal, shards, executors, progress, the funnel."""
