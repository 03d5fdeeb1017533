"""``thyme serve``: the agent as an OpenAI-compatible server, and its page. Needs the extra ``serve``."""
