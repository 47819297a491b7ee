"""The first form of the database."""

from alembic import op

from lathe.store.gateway import schema
from lathe.store.gateway.columns import metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make all tables. Until a release has been made, this one follows the schema."""
    schema.make(op.get_bind())


def downgrade() -> None:
    """Drop all tables."""
    metadata.drop_all(op.get_bind())
