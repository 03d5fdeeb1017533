"""The embedded world for the data factory: its source of problems, and a teacher and a checker that go by rules."""
