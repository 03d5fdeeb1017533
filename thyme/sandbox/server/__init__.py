"""``thyme sandbox serve``: sessions for whoever holds the token, or may open the socket. Needs the extra ``serve``."""
