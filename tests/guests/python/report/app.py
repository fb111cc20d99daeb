"""report IN OUT: reads orders, a JSON file, and writes what each customer bought, most first. Says how much it read,
with its SHA-256. The same program is there in other languages."""

import hashlib
import json
import sys
from collections import Counter

from wit_world import exports


class Run(exports.Run):
    def run(self) -> None:
        try:
            status = report(*sys.argv[1:])
        except (OSError, TypeError) as error:
            print("usage: report IN OUT" if isinstance(error, TypeError) else f"report: {error}", file=sys.stderr)
            status = 1
        sys.stdout.flush()
        sys.stderr.flush()
        if status:
            sys.exit(status)


def report(source: str, target: str) -> int:
    with open(source, "rb") as file:
        content = file.read()
    orders = json.loads(content)

    cents: Counter[str] = Counter()
    for order in orders:
        cents[order["customer"]] += order["count"] * order["cents"]
    customers = sorted(cents.items(), key=lambda bought: (-bought[1], bought[0]))
    bought = [{"cents": cents, "customer": name} for name, cents in customers]
    with open(target, "w") as file:
        file.write(json.dumps(bought, separators=(",", ":"), ensure_ascii=False) + "\n")

    print(f"{len(orders)} orders, sha256 {hashlib.sha256(content).hexdigest()}")
    for name, cents in customers:
        print(f"{name:<12}{f'{cents // 100}.{cents % 100:02}':>12}")
    return 0
