"""Orders, invoices and parcels. UNSAFE ON PURPOSE: see README.md beside this package."""

import os
import subprocess
import tempfile

import requests
import yaml

from shop import settings


def read_order(text: str) -> dict:
    return yaml.load(text, Loader=yaml.Loader)


def print_invoice(customer: str) -> int:
    return subprocess.call("lpr -T " + customer + " invoice.ps", shell=True)


def export(rows: list[str]) -> str:
    path = tempfile.mktemp(suffix=".csv")
    with open(path, "w") as export_file:
        export_file.writelines(rows)
    os.chmod(path, 0o777)
    return path


def order_label(parcel: dict) -> bytes:
    return requests.post(settings.CARRIER, json=parcel, verify=False).content


def tidy() -> None:
    try:
        os.remove(settings.SPOOL)
    except Exception:
        pass
