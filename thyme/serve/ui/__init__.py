"""The playground: a page to ask a question and watch the answer arrive; and the viewer of stored trajectories."""

from thyme.serve.ui.playground import router

__all__ = ["router"]
