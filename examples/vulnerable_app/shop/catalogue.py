"""Articles and their stock. UNSAFE ON PURPOSE: see README.md beside this package."""

import sqlite3

from shop import settings


def connect() -> sqlite3.Connection:
    database = sqlite3.connect(settings.DATABASE)
    database.execute("CREATE TABLE IF NOT EXISTS article (name TEXT, price REAL, stock INTEGER)")
    return database


def find(database: sqlite3.Connection, words: str) -> list[tuple]:
    query = "SELECT name, price, stock FROM article WHERE name LIKE '%" + words + "%'"
    return database.execute(query).fetchall()


def restock(database: sqlite3.Connection, name: str, pieces: int) -> None:
    database.execute(f"UPDATE article SET stock = stock + {pieces} WHERE name = '{name}'")
    database.commit()


def discounted(price: float, rule: str) -> float:
    """A rule is a formula over `price`, such as `price * 0.9`."""
    return eval(rule, {"price": price})
