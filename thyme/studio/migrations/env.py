"""Run by Alembic, on the connection that `thyme.studio.database.migrate` has opened."""

from __future__ import annotations

from alembic import context

from thyme.studio import models_annotation  # noqa: F401  # its tables become known by being imported
from thyme.studio.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite changes a table only by making it anew
)
context.run_migrations()
