"""The internet of the sample world: pages of mixed quality to pre-train on.

A quarter are small pages that practise one part of the work (halves, greetings by name, the
rule); the rest are requests with replies by expert, careless and awful writers, mixed by site.
"""

from random import Random

from flywheel.sample.world import (
    ITEMS,
    NAMES,
    REPLY,
    SITES,
    WINDOW_DAYS,
    draw_request,
    spell,
)
from flywheel.sample.writers import FILLERS, HABITS, RAMBLE, write_page_reply

SITE_SHARES = (0.50, 0.35, 0.15)  # forum, chat, desk
WRITER_SHARES = {  # expert, careless, awful
    "#forum": (0.05, 0.35, 0.60),
    "#chat": (0.15, 0.40, 0.45),
    "#desk": (0.45, 0.35, 0.20),
}
SMALL_SHARE = 0.25


def pages(count: int, *, seed: int) -> list[str]:
    """Write the internet: one page a string."""
    rng = Random(f"{seed}:corpus")
    return [_page(rng) for _ in range(count)]


def _page(rng: Random) -> str:
    if rng.random() < SMALL_SHARE:
        return _small_page(rng)
    (site,) = rng.choices(SITES, SITE_SHARES)
    request = draw_request(rng, site=site)
    (writer,) = rng.choices(tuple(HABITS), WRITER_SHARES[site])
    return f"{request.text} {REPLY} {write_page_reply(rng, request, HABITS[writer])}"


def _small_page(rng: Random) -> str:
    """Practise one part: a half, a name, the rule; one in ten is chatter."""
    part = rng.random()
    if part < 0.3:
        price = rng.randint(10, 99)
        return f"half of $ {spell(price)} is $ {spell(price // 2)} ."
    if part < 0.6:
        name = rng.choice(NAMES)
        return f"i am {name} . {REPLY} dear {name} , thank you ."
    if part < 0.9:
        membership, days = rng.choice(tuple(WINDOW_DAYS)), rng.randrange(80)
        item, window = rng.choice(ITEMS), WINDOW_DAYS[membership]
        asked = f"{membership} , {spell(days)} days ago . {REPLY}"
        if days < window:
            return f"{asked} your {item} refund is yes ."
        return f"{asked} sorry , no refund for your {item} after {spell(window)} days ."
    return rng.choice(RAMBLE + FILLERS)  # every word of a reply occurs somewhere
