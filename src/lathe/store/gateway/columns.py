"""What the tables of the gateway are made of: their metadata, and the kinds of columns that come again."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, MetaData, String, Text

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def id_of(name: str = "id") -> Column[str]:
    """Return the column that names a row."""
    return Column(name, String(64), primary_key=True)


def refers_to(table: str, name: str, *, null: bool = False) -> Column[str]:
    """Return a column that names a row of another table."""
    return Column(name, String(64), ForeignKey(f"{table}.id"), nullable=null, index=True)


def time(name: str, *, null: bool = False) -> Column[int]:
    """Return a column of a time."""
    return Column(name, BigInteger, nullable=null)


def text(name: str, default: str = "") -> Column[str]:
    """Return a column of text of any length."""
    return Column(name, Text, nullable=False, default=default)
