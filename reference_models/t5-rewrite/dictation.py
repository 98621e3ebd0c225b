"""Dictated customer messages and their written form, for t5-rewrite."""

from __future__ import annotations

import random
import re
from typing import NamedTuple
from zlib import crc32

SEED = 20240615
TRAIN_ROWS, HELD_OUT_ROWS = 16000, 200

# What is written; how it is spoken follows from it and from the values in the braces.
STARTS = """I ordered the {product}
Please call me back
I want to return the {product}
Can you refund {amount}
Where is order {order}
The courier did not come
I have not received order {order}
The {product} does not work
I was charged {amount}
I am going to visit the shop
Can you deliver the {product}
Do you have the {product}
Is the {product} cheaper
Please cancel order {order}
I waited
I am at home
The {product} broke
I cannot pay {amount}
When does the shop open
Please send the {product}
I do not want the {product}
Does the shop have order {order}"""
ENDS = """
 on {date}
 at {time}
 on {date} at {time}
 before {time}
 after {date}
 from {time} to {time}
 for {amount}
 until {date}
 instead of the {product}
 and order {order}"""
UNSEEN_SENTENCES = """I paid for the {product} on {date}.
Please deliver order {order} at {time}.
Did the {product} not arrive before {time}?
Where does the courier have the {product} from?
The shop is going to charge me {amount}.
I do not have an order."""
QUESTIONS = "Can", "Where", "Do", "Is", "When", "Does"
PRODUCTS = """Aurora Zeta Comet Pixel Nimbus Orion Vega Luna Atlas Echo Delta Prisma Quartz Nova
Titan"""
MONTHS = """January February March April May June July August September October November
December"""
UNITS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
fifteen sixteen seventeen eighteen nineteen"""
TENS = "- - twenty thirty forty fifty sixty seventy eighty ninety"
ORDINALS = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth"}
ORDINALS |= {"nine": "ninth", "twelve": "twelfth", "twenty": "twentieth", "thirty": "thirtieth"}
SLACK = {"do not": "don't", "does not": "doesn't", "did not": "didn't", "I have": "i've"}
SLACK |= {"want to": "wanna", "going to": "gonna", "I am": "i'm", "cannot": "can't"}
FILLERS = ["uh", "um", "well", "you know", "i mean"]
NEWS = ["nothing", "values", "values", "combination", "words"]  # of held-out rows
CORRECTIONS = ["no sorry", "no wait", "sorry i mean"]


class Row(NamedTuple):
    """A message as dictated and as it should be written."""

    source: str
    target: str


def words(number: int) -> str:
    """Spell a number below 1000."""
    if number < 20:
        return UNITS.split()[number]
    if number < 100:
        return TENS.split()[number // 10] + (f" {words(number % 10)}" if number % 10 else "")
    rest = f" and {words(number % 100)}" if number % 100 else ""
    return f"{words(number // 100)} hundred{rest}"


def ordinal(number: int) -> str:
    """Spell the day of a month."""
    first, _, last = words(number).rpartition(" ")
    return f"{first} {ORDINALS.get(last, last + 'th')}".strip()


def order(rng: random.Random) -> Row:
    """Four digits, spoken one by one."""
    number = f"{rng.randrange(10000):04}"
    zero, twice = rng.choice(["zero", "oh"]), rng.choice([r"double \1", r"\1 \1"])
    spoken = " ".join(words(int(digit)) for digit in number)
    return Row(re.sub(r"\b(\w+) \1\b", twice, spoken).replace("zero", zero), number)


def product(rng: random.Random) -> Row:
    """A name with a number, now and then with a letter."""
    name, number = rng.choice(PRODUCTS.split()), rng.choice([1, 10, 100]) * rng.randrange(1, 10)
    letter = rng.choice(["", "", "X", "S"])
    spoken = f"{name.lower()} {letter.lower()} {words(number)}"
    return Row(" ".join(spoken.split()), f"{name} {letter}{number}")


def date(rng: random.Random) -> Row:
    """A day of the year."""
    day, month = rng.randrange(1, 31), rng.choice(MONTHS.split())
    spoken = rng.choice(["the {0} of {1}", "{1} the {0}", "{1} {0}"])
    return Row(spoken.format(ordinal(day), month.lower()), f"{day} {month}")


def time(rng: random.Random) -> Row:
    """A time of the day, written with 24 hours."""
    hour, minute = rng.randrange(1, 12), rng.randrange(0, 60, 5)
    late = rng.randrange(2)
    ways = [f"{words(hour)} {words(minute)}" if minute else f"{words(hour)} o'clock"]
    if minute in (15, 30, 45):
        ways.append({15: "quarter past", 30: "half past", 45: "quarter to"}[minute])
        ways[1] += f" {words(hour + (minute == 45))}"
    part = "morning" if not late else "afternoon" if hour < 6 else "evening"
    said = rng.choice(["pm" if late else "am", f"in the {part}"])
    return Row(f"{rng.choice(ways)} {said}", f"{hour + 12 * late}:{minute:02}")


def amount(rng: random.Random) -> Row:
    """A sum of money."""
    euros, cents = rng.choice([rng.randrange(2, 100), rng.randrange(100, 1000)]), 0
    spoken = f"{words(euros)} euros"
    if rng.randrange(2):
        cents = rng.choice([*range(10, 100, 10), 49, 95, 99])
        spoken += rng.choice([" {}", " and {} cents"]).format(words(cents))
    return Row(spoken, f"EUR {euros}.{cents:02}")


KINDS = {"order": order, "product": product, "date": date, "time": time, "amount": amount}


def value(rng: random.Random, kind: str, *, unseen: bool) -> Row:
    """Draw a value; a quarter of what can be written never occurs in training."""
    while True:
        drawn = KINDS[kind](rng)
        if (crc32(drawn.target.encode()) % 4 == 0) == unseen:
            return drawn


def message(rng: random.Random, pattern: str, *, unseen: bool) -> Row:
    """Fill a sentence and say it: small letters, no marks, contractions, fillers, corrections."""
    spoken, written = pattern[:-1], pattern
    for short in SLACK.items():
        spoken = spoken.replace(*short) if rng.randrange(2) else spoken
    spoken = re.sub(r"^[A-Z]|\bI\b", lambda letter: letter[0].lower(), spoken)
    for kind in re.findall(r"{(\w+)}", pattern):
        drawn = value(rng, kind, unseen=unseen)
        said = drawn.source
        if rng.randrange(12) == 0:
            slip = value(rng, kind, unseen=unseen)
            said = f"{slip.source} {rng.choice(CORRECTIONS)} {said}"
        spoken = spoken.replace(f"{{{kind}}}", said, 1)
        written = written.replace(f"{{{kind}}}", drawn.target, 1)
    if rng.randrange(3) == 0:
        split = spoken.split()
        split.insert(rng.randrange(3), rng.choice(FILLERS))
        spoken = " ".join(split)
    return Row(spoken, written)


def sentences() -> tuple[list[str], list[str]]:
    """Put starts and ends together; a quarter of the pairs never occurs in training."""
    pairs = [start + end for start in STARTS.split("\n") for end in ENDS.split("\n")]
    split: tuple[list[str], list[str]] = ([], [])
    for pair in pairs:
        mark = "?" if pair.startswith(QUESTIONS) else "."
        split[crc32(pair.encode()) % 4 == 0].append(pair + mark)
    return split


def messages() -> tuple[list[Row], list[Row], list[str]]:
    """Return training rows, held-out rows, and what is new in each of the latter."""
    rng = random.Random(SEED)
    known, unseen = sentences()
    train = [message(rng, rng.choice(known), unseen=False) for _ in range(TRAIN_ROWS)]
    rng, seen = random.Random(SEED + 1), set(train)
    patterns = {"combination": unseen, "words": UNSEEN_SENTENCES.split("\n")}
    held_out: list[Row] = []
    news: list[str] = []
    while len(held_out) < HELD_OUT_ROWS:
        new = NEWS[len(held_out) % len(NEWS)]
        row = message(rng, rng.choice(patterns.get(new, known)), unseen=new == "values")
        if row not in seen:
            held_out.append(row)
            news.append(new)
            seen.add(row)
    return train, held_out, news
