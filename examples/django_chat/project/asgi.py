"""The application for servers: ``fairlead run project.asgi:application``, or any ASGI server."""

import os

from fairlead.django import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

application = get_asgi_application()
