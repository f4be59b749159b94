"""WebSockets and rooms for Python web applications, and for HTTP APIs that have none.

The public names are resolved when they are first used (PEP 562), so that ``import fairlead`` in a process that only
publishes loads no server.
"""

from __future__ import annotations

__version__ = "0.1.0"
