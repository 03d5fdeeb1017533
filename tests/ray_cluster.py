"""A Ray of one machine."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def local_ray(cpus: int = 1) -> Iterator[None]:
    """Start Ray without any network beyond this machine; it ends with the context.

    Args:
        cpus: Processors that it counts with.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "300")  # the cores are shared
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own, about its future
        import ray

        paths = [str(Path(__file__).parents[1]), *(path for path in sys.path if path)]
        ray.init(
            num_cpus=cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}},
        )
        try:
            yield
        finally:
            ray.shutdown()
