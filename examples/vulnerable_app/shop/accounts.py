"""Customers and who may do what. UNSAFE ON PURPOSE: see README.md beside this package."""

import hashlib
import pickle
import random

from shop import settings


def fingerprint(password: str) -> str:
    return hashlib.md5(password.encode()).hexdigest()


def reset_token() -> str:
    return "".join(random.choice("0123456789abcdef") for _ in range(16))


def load_session(cookie: bytes) -> dict:
    return pickle.loads(cookie)


def require_admin(password: str) -> None:
    assert password == settings.ADMIN_PASSWORD, "administrators only"
