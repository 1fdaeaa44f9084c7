"""Installer: puts an engine and a model where the agent finds them, step by step, skipping what is already there.

It handles packages, files and hashes, not what a model is for. Nothing is printed: the caller shows progress.
"""

from agent.install.embedded import Convert, EngineCheck, FetchModel, InstallLibrary
from agent.install.models import KNOWN_MODELS, OWNERS_MODELS, KnownModel, model_file, model_path, read_until
from agent.install.openvino import notes as openvino_notes
from agent.install.place import HUB, INDEX
from agent.install.plan import DEFAULT_MODELS, ENGINES, MlcChoices, plan, plan_mlc, told
from agent.install.steps import InstallStep, Progress, alone, execute

__all__ = [
    "DEFAULT_MODELS",
    "ENGINES",
    "HUB",
    "INDEX",
    "KNOWN_MODELS",
    "OWNERS_MODELS",
    "Convert",
    "EngineCheck",
    "FetchModel",
    "InstallLibrary",
    "InstallStep",
    "KnownModel",
    "MlcChoices",
    "Progress",
    "alone",
    "execute",
    "model_file",
    "model_path",
    "openvino_notes",
    "plan",
    "plan_mlc",
    "read_until",
    "told",
]
