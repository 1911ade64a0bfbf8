"""Where the shop finds its parts. UNSAFE ON PURPOSE: see README.md beside this package."""

import os

DATABASE = os.environ.get("SHOP_DATABASE", "shop.sqlite")
CARRIER = os.environ.get("SHOP_CARRIER", "https://carrier.example/labels")

# The credentials below are made up or come from public documentation; none opens anything.
ADMIN_PASSWORD = "correct-horse-battery-staple"
AWS_ACCESS_KEY_ID = "AKIAIOSFODNN7EXAMPLE"
AWS_SECRET_ACCESS_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
WAREHOUSE = "postgresql://shop:n0t-a-real-one@warehouse.example/stock"

SPOOL = "/tmp/shop-spool"
