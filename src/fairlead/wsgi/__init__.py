"""WSGI applications, with sockets beside their pages.

application = WSGI(flask_app)       # an ASGI application: serve it with fairlead.run(application)
"""

from __future__ import annotations

from fairlead.wsgi.application import WSGI

__all__ = ["WSGI"]
