"""Settings in groups, and the only reader of the environment.

Every setting has the prefix COMFY_BRIDGE_; names that existing compose files already set (COMFYUI_URL,
COMFYUI_OUTPUTS, …) work too. `docs/settings.md` lists them; a test holds it complete.

A part gets the group that it needs, not all settings. A new setting goes into its group: engines.py,
cloud.py, work.py (jobs, store, GPUs), files.py, surfaces.py (HTTP), environment.py (logs).
"""

from comfy_mcp.settings.engines import DEFAULT_ENGINE_URL, EngineGroup, EngineSettings
from comfy_mcp.settings.environment import (
    LogGroup,
    Settings,
    load_settings,
    sources,
    unknown_variables,
)
from comfy_mcp.settings.files import FileGroup
from comfy_mcp.settings.names import PREFIX
from comfy_mcp.settings.surfaces import HttpGroup
from comfy_mcp.settings.work import JobGroup, StoreGroup

__all__ = [
    "DEFAULT_ENGINE_URL",
    "PREFIX",
    "EngineGroup",
    "EngineSettings",
    "FileGroup",
    "HttpGroup",
    "JobGroup",
    "LogGroup",
    "Settings",
    "StoreGroup",
    "load_settings",
    "sources",
    "unknown_variables",
]
