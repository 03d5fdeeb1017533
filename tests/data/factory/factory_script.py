"""A build in a process of its own, to be killed: ``python factory_script.py DIR STAGES COUNT``."""

from __future__ import annotations

import sys
from pathlib import Path

import factory_parts as parts

from thyme.data.factory.run import run_build

if __name__ == "__main__":
    folder, stages, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    sandbox = stages == "WHOLE"
    try:
        asked = parts.build(Path(folder), getattr(parts, stages), sandbox=sandbox, count=count, duplicates=None)
        made = run_build(asked)
    except KeyboardInterrupt:
        sys.exit(130)
    print(made.state, made.kept, made.rejected)  # noqa: T201  # the test reads it
