"""Settings of an ordinary Django project; what Fairlead needs are the lines with its name."""

import os
from pathlib import Path

from django.core.management.utils import get_random_secret_key

BASE_DIR = Path(__file__).resolve().parent.parent


def kept_key(file: Path) -> str:
    """The key of earlier starts, or a new one. With another key after every reload everybody would be logged out."""
    if not file.exists():
        draft = file.with_suffix(f".{os.getpid()}.key")
        draft.touch(mode=0o600)
        draft.write_text(get_random_secret_key())
        draft.replace(file)  # in one step: who starts at the same time never reads half a key
    return file.read_text()


SECRET_KEY = os.environ.get("CHAT_SECRET_KEY") or kept_key(BASE_DIR / "chat.key")
DEBUG = os.environ.get("CHAT_DEBUG", "1") == "1"
ALLOWED_HOSTS = os.environ.get("CHAT_HOSTS", "127.0.0.1,localhost").split(",")

INSTALLED_APPS = [
    "fairlead.django",  # before staticfiles: its runserver serves sockets, too
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "chat",
]
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

FAIRLEAD = {"limits": {"message_size": 16 * 1024}}  # nobody types more at once

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("CHAT_DATABASE") or BASE_DIR / "chat.sqlite3",
        "OPTIONS": {"transaction_mode": "IMMEDIATE"},  # writers queue instead of failing with "database is locked"
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "build" / "static"  # where collectstatic puts them, for the web server in front

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "login"
