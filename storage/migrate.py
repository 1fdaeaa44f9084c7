"""Schema migrations to this program's version, all or nothing. Never downgrades, never guesses."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from market.errors import DataInvalid, NotReady
from storage.connection import Database

_LOCK = 7_301_984
"""Key of the migration among PostgreSQL's advisory locks."""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def prepare(database: Database, *, read_only: bool = False) -> None:
    """Run the missing migrations. Belongs to the database's worker thread.

    Errors: NotReady if the database is from a newer version, or older and `read_only`; DataInvalid if it belongs to
    another program.
    """
    scripts = ScriptDirectory.from_config(_config())
    with database.reading() as connection:
        if _current(connection, scripts, database.place) == scripts.get_current_head():
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
        if _current(connection, scripts, database.place) != scripts.get_current_head():
            upgrade(connection)


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Migrate inside the caller's transaction."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _current(connection: Connection, scripts: ScriptDirectory, place: str) -> str | None:
    """Revision of the database, which this program must know; None while it is empty."""
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is None:
        if inspect(connection).get_table_names():
            raise DataInvalid(f"{place} is some other program's database.", next_step="Name another file.")
        return None
    if revision not in {s.revision for s in scripts.walk_revisions()}:
        raise NotReady(
            f"the database {place} was made by a newer version of edgeclaw (schema {revision}, "
            f"this one knows {scripts.get_current_head()}).",
            next_step="Upgrade edgeclaw, or name another database.",
        )
    return revision
