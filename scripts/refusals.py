"""Plan a counting patch at every function word of a profile's kernel, offline; print a table of refusals."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict

import numpy as np
import numpy.typing as npt

from kgdbpatch import guests
from kgdbpatch.errors import Refused
from kgdbpatch.image import Image
from kgdbpatch.isa.registers import mask, names
from kgdbpatch.patch.plan import Place, count_payload, plan
from kgdbpatch.patch.survey import Survey
from kgdbpatch.rules import survey_rules

_BODY, _COUNTER = 0x12_0000, 0x9_0030  # offsets in the arena
_GPRS = frozenset(names(0xFFFF_FFFF & ~mask("r1", "r2", "r13")))


def main(name: str, every: int) -> None:
    """Print the refusals of every ``every``-th function, and the cost of the patches in guest words."""
    profile = guests.profile(name)
    path = profile.image_path()
    assert path is not None, f"run: kgdbpatch image build {name}"
    image = Image.load(path)

    def words(address: int, count: int) -> npt.NDArray[np.uint32]:
        return np.frombuffer(image.read(address, 4 * count), ">u4").astype(np.uint32)

    survey = Survey(image, survey_rules(profile, image), words)
    arena = profile.arena(image)
    boards = arena.springboards.start if arena.springboards else None
    # without springboards bodies lie within reach, where the guest has a window for them
    body = arena.near.start + _BODY if boards is None and arena.near is not None else arena.virtual + _BODY
    place = Place(body, boards, arena.virtual + _COUNTER)
    total: Counter[str] = Counter()
    refused: dict[str, Counter[str]] = defaultdict(Counter)
    example: dict[tuple[str, str], str] = {}
    cost: dict[str, Counter[int]] = defaultdict(Counter)
    discarded = profile.discarded(image)
    for function in image.functions[::every]:
        if any(window.start <= function.address < window.end for window in discarded):
            continue
        for address in range(function.address, function.address + function.size, 4):
            total[function.section] += 1
            try:
                site = survey.site(address)
                made = plan(site, count_payload(), place)
            except Refused as no:
                refused[function.section][no.rule] += 1
                example.setdefault((function.section, no.rule), str(no))
                continue
            gprs = len(site.free & _GPRS)
            kind = "3 free, cr0 and lr" if "lr" in site.free else "3 free, cr0"
            if gprs < 3 or "cr0" not in site.free:
                kind = "3 free" if gprs >= 3 else "fewer free"
            cost[kind][made.body_words + len(made.springboard_code) // 4] += 1
    for section, count in total.items():
        share = sum(refused[section].values()) / count
        print(f"{section}: {count} words, {share:.2%} refused")
        for rule, number in refused[section].most_common():
            print(f"  {rule:16} {number:7} {number / count:7.2%}  e.g. {example[section, rule]}")
    for kind, counts in sorted(cost.items()):
        every_one = sorted(counts.elements())
        number = len(every_one)
        print(
            f"{kind:20} {number:8} sites; words of body and springboard: median {every_one[number // 2]}, "
            f"mean {sum(every_one) / number:.1f}, most {every_one[-1]}"
        )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
