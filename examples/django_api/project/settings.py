"""Settings of an ordinary Django project, served over HTTP. The last three are all it knows of the gateway."""

import os
from pathlib import Path

from django.core.management.utils import get_random_secret_key

BASE_DIR = Path(__file__).resolve().parent.parent

SECRET_KEY = os.environ.get("DEMO_SECRET_KEY") or get_random_secret_key()
ALLOWED_HOSTS = ["127.0.0.1"]  # cookies belong to a host: page and gateway must be opened under the same one

INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "chat"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]
ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DEMO_DATABASE") or BASE_DIR / "demo.sqlite3",
        "OPTIONS": {"transaction_mode": "IMMEDIATE"},  # writers queue instead of failing with "database is locked"
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "page"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"chat": {"handlers": ["console"], "level": "INFO"}},
}

FAIRLEAD_URL = os.environ.get("DEMO_GATEWAY_URL", "http://127.0.0.1:8100")  # where browsers find the gateway
FAIRLEAD_API_URL = os.environ.get("DEMO_GATEWAY_API_URL", "http://127.0.0.1:8101")  # where this project finds it
FAIRLEAD_API_KEY = os.environ.get("FAIRLEAD_API__KEYS", "")  # the variable that the gateway itself reads
