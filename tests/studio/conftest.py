"""Fixtures of the studio's tests."""

from __future__ import annotations

from studio_postgres import postgres_server, postgres_url

__all__ = ["postgres_server", "postgres_url"]
