"""Write the C of a trace program's maps: their memory, the search in them, what changes a value."""

from __future__ import annotations

from collections.abc import Iterator

from kgdbpatch.tracing.plan import MapPlan

__all__ = ["cleared_text", "map_text", "update_text"]

_MIX = "0x9E3779B1ul"  # 2**32 by the golden ratio


def update_text(plan: MapPlan) -> Iterator[str]:
    """Yield the C that adds ``kgt_new`` to ``kgt_entry``."""
    kind = plan.kind
    if kind in ("sum", "avg"):
        yield "kgt_entry->value += kgt_new;"
    if kind in ("min", "max"):
        sign = "<" if kind == "min" else ">"
        yield f"if (!kgt_entry->n || kgt_new {sign} kgt_entry->value)"
        yield "    kgt_entry->value = kgt_new;"
    if kind == "hist":
        yield "kgt_entry->buckets[kgt_bucket(kgt_new)]++;"
    elif kind == "lhist":
        last = plan.buckets - 1
        yield f"if (kgt_new < {plan.least}ll)"
        yield "    kgt_entry->buckets[0]++;"
        yield f"else if (kgt_new >= {plan.most}ll)"
        yield f"    kgt_entry->buckets[{last}]++;"
        yield "else"
        yield f"    kgt_entry->buckets[1 + (kgt_word)(kgt_new - {plan.least}ll) / {plan.step}u]++;"
    else:
        yield "kgt_entry->n++;"


def cleared_text(plan: MapPlan) -> Iterator[str]:
    """Yield the C that takes all values out of ``kgt_entry``."""
    if plan.kind in ("hist", "lhist"):
        yield "for (kgt_word kgt_at = 0; kgt_at < sizeof(kgt_entry->buckets) / sizeof(kgt_word); kgt_at++)"
        yield "    ((volatile kgt_word *)kgt_entry->buckets)[kgt_at] = 0;"
        return
    if plan.kind != "value":
        yield "kgt_entry->n = 0;"
    if plan.kind != "count":
        yield "kgt_entry->value = 0;"


def map_text(plan: MapPlan, index: int, name: str, cpus: int) -> str:
    """Return the C of a map: its structures, its memory and the search in it."""
    value = {
        "count": "kgt_word n;",
        "value": "long long value;",
        "hist": f"kgt_word buckets[{plan.buckets}];" if plan.kind == "hist" else "",
        "lhist": f"kgt_word buckets[{plan.buckets}];" if plan.kind == "lhist" else "",
    }.get(plan.kind, "long long value; kgt_word n;")
    words, bits = plan.key_words, (plan.slots // plan.ways).bit_length() - 1
    keys = f"kgt_word key[{words}];" if words else ""
    copies = 1 if plan.shared else cpus
    cpu = "0" if plan.shared or cpus == 1 else "kgp_cpu()"
    head = [
        f"struct kgt_entry_{index} {{ kgt_word used; {keys} {value} }} {_aligned(plan)};",
        f"struct kgt_map_{index} {{ struct kgt_entry_{index} entries[{plan.slots}]; kgt_word lost; }};",
        f"KGT_SHARED struct kgt_map_{index} {name}[{copies}];",
        f"static inline __attribute__((unused)) struct kgt_entry_{index} *"
        f"kgt_find_{index}(const kgt_word *key, int add)",
        "{",
    ]
    if not words:
        return "\n".join(
            [
                *head,
                f"    struct kgt_entry_{index} *entry = &{name}[{cpu}].entries[0];",
                "    (void)key;",
                "    if (add)",
                "        entry->used = 1;",
                "    return entry;",
                "}",
            ]
        )
    hashed = f"key[0] * {_MIX}"
    for at in range(1, words):
        hashed = f"(({hashed}) ^ key[{at}]) * {_MIX}"
    same = " && ".join(f"entry[number].key[{at}] == key[{at}]" for at in range(words))
    kept = " ".join(f"entry->key[{at}] = key[{at}];" for at in range(words))
    first = f"({hashed}) >> {32 - bits}" if bits else "0"
    return "\n".join(
        [
            *head,
            f"    struct kgt_map_{index} *map = &{name}[{cpu}];",
            f"    struct kgt_entry_{index} *entry = &map->entries[({first}) * {plan.ways}];",
            f"    #pragma GCC unroll {plan.ways}",
            f"    for (int number = 0; number < {plan.ways}; number++)",
            f"        if (__builtin_expect(entry[number].used && {same}, number == 0))",
            "            return entry + number;",
            "    if (!add)",
            "        return 0;",
            f"    for (int number = 0; number < {plan.ways}; number++, entry++)",
            "        if (!entry->used) {",
            f"            {kept}",
            '            __asm__ volatile("" : : : "memory");',
            "            entry->used = 1;",
            "            return entry;",
            "        }",
            "    map->lost++;",
            "    return 0;",
            "}",
        ]
    )


def _aligned(plan: MapPlan) -> str:
    """Return the attribute that makes the place of an element a shift: not for large ones."""
    return f"__attribute__((aligned({plan.alignment})))" if plan.alignment > 8 else ""
