"""Storage of parameter sweeps: Optuna's own tables, in a separate database.

Not in the decision log's: both number their migrations in a table of the same name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from market.errors import Misconfigured, NotReady


def default_url(home: Path) -> str:
    """URL of a file in the home folder, which is created."""
    home.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{home / 'sweeps.db'}"


def open_sweeps(url: str) -> Any:
    """Optuna's storage. Raises NotReady if Optuna is not installed, Misconfigured if the URL does not work; it may hold
    a password, so it is not repeated."""
    try:
        import optuna
    except ImportError:
        raise NotReady("Optuna is not installed.", next_step="Run: pip install 'edgeclaw[research]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        return optuna.storages.RDBStorage(url)
    except (SQLAlchemyError, ImportError, ValueError, RuntimeError) as error:
        raise Misconfigured(
            f"the database of the sweeps cannot be opened ({type(error).__name__}).",
            next_step="Correct --storage, as in sqlite:////home/me/sweeps.db.",
        ) from None
