"""Two runs of a program: how far their numbers are apart."""

import json
import math
from pathlib import Path

DATA = Path(__file__).parent.parent / "data" / "programs.json"

#: What rounding may do to a program's numbers, relative to the largest of each list. Training
#: makes the last bits grow; most of all where batch norm sees few numbers, as in the ResNet.
USUAL = 1e-4
LOOSER = {"resnet18": 2e-2, "unet": 1e-3}

Numbers = dict[str, list[float]]


def stored() -> dict[str, Numbers]:
    """torch's numbers of every program, by the script make_data.py."""
    return json.loads(DATA.read_text(encoding="utf-8"))["programs"]


def difference(name: str, found: Numbers, expected: Numbers) -> str | None:
    """The first list that differs by more than the program's tolerance, in words; None if none."""
    if found.keys() != expected.keys():
        return f"{name} returned {sorted(found)}, not {sorted(expected)}"
    for key, numbers in expected.items():
        ours = found[key]
        if len(ours) != len(numbers):
            return f"{name}.{key} has {len(ours)} numbers, not {len(numbers)}"
        largest = max([abs(n) for n in numbers if math.isfinite(n)], default=0.0)
        for place, (a, b) in enumerate(zip(ours, numbers)):
            same = a == b or (math.isnan(a) and math.isnan(b))
            if not same and not abs(a - b) <= LOOSER.get(name, USUAL) * largest:
                return f"{name}.{key}[{place}] is {a!r}, not {b!r}; the largest is {largest:.3g}"
    return None
