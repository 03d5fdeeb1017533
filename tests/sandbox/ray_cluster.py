"""A Ray of one machine."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def local_ray() -> Iterator[None]:
    """Start Ray without any network beyond this machine; it ends with the context."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own, about its future
        import ray

        root = Path(__file__).parents[2]
        ray.init(
            num_cpus=1,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"env_vars": {"PYTHONPATH": str(root)}},
        )
        try:
            yield
        finally:
            ray.shutdown()
