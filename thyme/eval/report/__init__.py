"""The report of an evaluation: a page, a table in markdown, figures as JSON, files for leaderboards."""
