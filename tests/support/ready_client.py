"""The MCP SDK imports jsonschema at a client's first result, for a second of CPU. Here that is done."""

import importlib

importlib.import_module("jsonschema.validators")
