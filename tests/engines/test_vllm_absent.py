"""The backend 'vllm' where vLLM is not installed."""

from importlib.util import find_spec

import pytest

from thyme.config.engine import EngineConfig
from thyme.engines import open_engine
from thyme.errors import EngineError
from thyme.nano import checkpoint_path

FOUND = find_spec("vllm")


@pytest.mark.skipif(FOUND is not None and FOUND.origin is not None, reason="vLLM is installed")
def test_the_message_names_it_and_the_way_out():
    with pytest.raises(EngineError, match=r"needs vLLM 0\.32.*use the backend 'transformers'"):
        open_engine(str(checkpoint_path("final")), EngineConfig(backend="vllm"))
