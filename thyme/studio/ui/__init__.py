"""The studio's pages: HTML that the server writes and escapes, with scripts and styles of its own beside it."""

from thyme.studio.ui.routes import router

__all__ = ["router"]
