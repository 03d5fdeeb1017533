"""The funnel of a build: what came in, what went out, where and why the rest was dropped, what it cost."""
