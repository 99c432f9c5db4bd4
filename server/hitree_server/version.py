"""The version of the server."""

from importlib import metadata

try:
    VERSION = metadata.version("hitree")
except metadata.PackageNotFoundError:  # run from a checkout that was never installed
    VERSION = "0+checkout"
