"""The Jupyter server extension, under the name that ``lab/server.json`` gives it."""

from labkit.lab.proxy import _jupyter_server_extension_points, _load_jupyter_server_extension

__all__ = ["_jupyter_server_extension_points", "_load_jupyter_server_extension"]
