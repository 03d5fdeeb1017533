"""Making data: records by scenarios, stages and a factory, problems by filters and annotation; export and reports."""
