"""Jobs of an imaginary shop, for pictures of the pane: ordinary functions that print in the usual ways."""

import linecache
import logging
import os
import random
import sys
import time
from pathlib import Path

from tqdm import tqdm

GREEN, YELLOW, CYAN, BOLD, PLAIN = "\x1b[32m", "\x1b[33m", "\x1b[36m", "\x1b[1m", "\x1b[0m"

SHIPPED = "/app/shop/prices.py"
"""Where tracebacks say that the code is: a picture is of no machine in particular."""


def _until(path: str) -> None:
    """Return when the file is there."""
    while not Path(path).exists():
        time.sleep(0.05)


def sync_orders(path: str) -> None:
    """Stop at a half-done bar until the file is there."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO, stream=sys.stdout)
    shop = logging.getLogger("shop.orders")
    print(f"{BOLD}Sync of orders{PLAIN} with https://warehouse.example/api/v2/orders?since=2026-11-23")
    for page in range(1, 15):
        shop.info("page %d of 14: %d orders", page, 250 - page)
    print("::group::Check of stock")
    for sku in ("TEA-0412", "TEA-0413", "CUP-1180", "CUP-1181"):
        print(f"  {sku}  {GREEN}ok{PLAIN}  {random.Random(sku).randrange(3, 900)} in stock")
    print("::endgroup::")
    shop.warning("3 orders have no address; they are left for tomorrow")
    for _ in range(12):
        print("waiting for the warehouse to answer")
    print('{"event": "warehouse.ready", "bins": 48, "pickers": ["ana", "jo", "li"], "late": false}')
    with tqdm(total=3432, desc="orders", ncols=80, unit="", file=sys.stderr, mininterval=0) as bar:
        for _ in range(20):
            time.sleep(0.1)
            bar.update(106)
        bar.update(7)
        bar.refresh()
        _until(path)


def price_import() -> None:
    """Fail on a row, some frames down."""
    logging.basicConfig(format="%(levelname)s:%(name)s:%(message)s", level=logging.INFO, stream=sys.stdout)
    print(f"{CYAN}[1/2] reading prices.csv{PLAIN}")
    for number in range(1, 180):
        print(f"row {number:4}  {number * 7 % 97 / 7:8.2f} EUR  {GREEN}ok{PLAIN}")
    print(f"{YELLOW}row  180 has no currency, EUR is taken{PLAIN}", file=sys.stderr)
    logging.getLogger("shop.prices").error("row 181: the price is not a number")
    _convert({"sku": "CUP-1181", "price": "n/a"})


def _convert(row: dict[str, str]) -> float:
    """Raise ValueError."""
    return round(float(row["price"]), 2)


for _function in (price_import, _convert):
    _function.__code__ = _function.__code__.replace(co_filename=SHIPPED)
linecache.cache[SHIPPED] = (1, None, Path(__file__).read_text().splitlines(keepends=True), SHIPPED)


def thumbnails(path: str) -> None:
    """Print colours, and wait for the file."""
    for number in range(1, 41):
        colour = 31 + number % 6
        print(f"\x1b[{colour}m■{PLAIN} media/{number:05}.jpg  →  {number * 31 % 240 + 80} by {number * 17 % 200 + 60}")
    _until(path)


def newsletter(path: str) -> None:
    """Print mails, now and then one that bounces, and wait for the file."""
    for number in range(1, 60):
        print(f"mail {number:4} of 4,120 to customer {number * 7919 % 100000:05} sent")
        if number % 20 == 0:
            print(f"WARNING: customer {number * 7919 % 100000:05} bounced", file=sys.stderr)
    _until(path)


def nightly_report() -> None:
    """Print a table, and end."""
    print(f"{BOLD}Nightly report{PLAIN}\n")
    for region in ("north", "east", "south", "west"):
        print(f"  {region:<6} {random.Random(region).randrange(900, 4000):6} orders  {GREEN}▲ 4.{len(region)} %{PLAIN}")
    print(f"\n{GREEN}Report sent{PLAIN} to ops@shop.example")


def audit(lines: int) -> None:
    """Print so many lines quickly."""
    draw = random.Random(7)
    levels = ["INFO"] * 60 + ["DEBUG"] * 30 + ["WARNING"] * 4
    for start in range(0, lines, 1000):
        block = []
        for number in range(start + 1, min(start + 1000, lines) + 1):
            level = "ERROR" if number % 90_001 == 0 else draw.choice(levels)
            block.append(
                f"{level} audit: account {draw.randrange(10**7):07} entry {number} balance {draw.random():.4f}\n"
            )
        sys.stdout.write("".join(block))
    os.write(1, b"done\n")
