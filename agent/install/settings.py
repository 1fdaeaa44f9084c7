"""Writes settings into the owner's configuration file: merged into its content, the old file kept as a backup."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from agent.config.load import amended
from agent.install import notes


@dataclass(frozen=True, slots=True)
class WriteSettings:
    """Merge `values`, a tree of sections and keys, into a file. Comments cannot be merged; the backup keeps them."""

    file: Path
    values: Mapping[str, Any]
    title: str = "Write the configuration"

    def describe(self) -> str:
        flat = yaml.safe_dump(dict(self.values), default_flow_style=True, sort_keys=False, width=10_000).strip()
        kept = f" (the file as it is, with its comments, is kept as {self.backup.name})" if self.file.exists() else ""
        return f"merge {flat} into {self.file}{kept}"

    def done(self) -> bool:
        if not self.file.is_file():
            return False
        return amended(self.file, self.values) == amended(self.file, {})

    def run(self, progress: Callable[[float], None]) -> None:
        there = self.file.exists()
        tree = amended(self.file, self.values) if there else dict(self.values)
        text = yaml.safe_dump(tree, sort_keys=False)
        if there:
            old, backup = self.file.read_text(encoding="utf-8"), self.backup
            shutil.copy2(self.file, backup)
            if any(line.lstrip().startswith("#") for line in old.splitlines()):
                text = f"# The comments of the file before the last change are in {backup.name}.\n{text}"
        notes.replace(self.file, text)
        if there:
            shutil.copymode(backup, self.file)

    @property
    def backup(self) -> Path:
        """A backup name that no earlier copy has."""
        names = [f"{self.file.name}.bak", *(f"{self.file.name}.bak{at}" for at in range(2, 1000))]
        return next(path for name in names if not (path := self.file.with_name(name)).exists())
