"""Schema migrations to this program's version, all or nothing. Never downgrades, never guesses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, column, inspect, select, table, text

from market.errors import DataInvalid, NotReady
from storage.connection import Database

_LOCK = 7_301_984
"""Key of the migration among PostgreSQL's advisory locks."""
REVISIONS = ("0001", "0002", "0003", "0004", "0005")
"""Those of the migrations, the newest last. Written down here, so that a database which has the newest is recognised
without Alembic, which takes longer to import than most verbs to answer."""
_READABLE = REVISIONS[3:]
"""Those that have all tables that reading needs: what came since is for who writes."""
_VERSION = table("alembic_version", column("version_num"))

if TYPE_CHECKING:
    from alembic.config import Config


def prepare(database: Database, *, read_only: bool = False) -> None:
    """Run the missing migrations. Belongs to the database's worker thread.

    Errors: NotReady if the database is from a newer version, or older and `read_only`; DataInvalid if it belongs to
    another program.
    """
    with database.reading() as connection:
        found = _current(connection, database.place)
    if found == REVISIONS[-1] or (read_only and found in _READABLE):
        return
    if read_only:
        raise NotReady(
            f"the database {database.place} has not been brought to this version yet.",
            next_step="Start a run once; it migrates the database.",
        )
    with database.writing() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        # Checked again under the lock: another program may have migrated in the meantime.
        if _current(connection, database.place) != REVISIONS[-1]:
            upgrade(connection)


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Migrate inside the caller's transaction."""
    from alembic import command  # here: only where something is to migrate

    config = scripts()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def scripts() -> Config:
    """Alembic's configuration: where the migrations are."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def _current(connection: Connection, place: str) -> str | None:
    """Revision of the database, which this program must know; None while it is empty."""
    look = inspect(connection)
    found = connection.scalar(select(_VERSION.c.version_num)) if look.has_table(_VERSION.name) else None
    if found is None:
        if look.get_table_names():
            raise DataInvalid(f"{place} is some other program's database.", next_step="Name another file.")
        return None
    if found not in REVISIONS:
        raise NotReady(
            f"the database {place} was made by a newer version of edgeclaw (schema {found}, "
            f"this one knows {REVISIONS[-1]}).",
            next_step="Upgrade edgeclaw, or name another database.",
        )
    return str(found)
