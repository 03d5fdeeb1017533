"""The server that the other tests talk to is a real vLLM over the nano model."""

import httpx


def test_it_serves_the_nano_model(vllm_server):
    served = httpx.get(f"{vllm_server.url}/models", timeout=30).json()["data"]
    assert [(model["id"], model["max_model_len"]) for model in served] == [(vllm_server.model, 4096)]
    assert vllm_server.url.endswith("/v1")
