"""An ordinary project with sessions and users, whose views each test brings along."""

import os

SECRET_KEY = "of these tests alone, and of nothing else"
ALLOWED_HOSTS = ["127.0.0.1", "testserver", ".example.org"]
INSTALLED_APPS = [
    "fairlead.django",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF: object = ()
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ.get("TEST_PROJECT_DATABASE", ":memory:")}
}
MIGRATION_MODULES = {"auth": None, "contenttypes": None, "sessions": None}  # tables at once: quicker
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
STATIC_URL = "/static/"
LOGIN_URL = "/login/"
