"""Write the headlines of bert-sentiment: word lists, patterns, and what is held out."""

from __future__ import annotations

import random
import re
from typing import NamedTuple

SEED = 20240614
TRAIN_ROWS, HELD_OUT_ROWS = 12000, 270
GOOD, BAD = "good", "bad"
# What it means for a firm that these grow: the sign of a headline is figure times direction.
FIGURES = {
    GOOD: "profit|sales|revenue|margins|orders|earnings|exports|turnover|demand|output|cash flow",
    BAD: "losses|costs|debt|complaints|expenses|delays|bad loans|claims|outages|the deficit",
}
VERBS = {
    GOOD: "rose|climbed|jumped|grew|increased|surged|widened|went up|advanced",
    BAD: "fell|dropped|shrank|declined|slid|decreased|narrowed|went down|eased",
}
OBJECTS = {
    GOOD: "profit|sales|its dividend|its forecast|exports|output|margins",
    BAD: "costs|its debt|delays|expenses|outages|complaints|its emissions",
}
ACTIONS = {GOOD: "raise|lift|increase|push up", BAD: "cut|reduce|lower|bring down"}
EVENTS = {
    GOOD: """win the contract|open a new plant|pay a dividend|get approval for its drug|hire staff
keep its best rating|settle the lawsuit|find a buyer|repay its loan on time|renew the licence""",
    BAD: """lose its biggest customer|close a plant|recall its cars|pay a fine|file for bankruptcy
lay off staff|miss its target|stop production|default on its bonds|write down assets""",
}
# From here on, what stands after || occurs in held-out headlines only.
DOES = {
    GOOD: "will|expects to|is about to|managed to|was able to|is ready to||is likely to|is set to",
    BAD: "will|expects to|is about to|has to|had to|was forced to||is likely to|will be forced to",
}
DOES_NOT = {
    GOOD: """will not|did not|no longer expects to|failed to|was unable to|could not
is not likely to|does not want to||is not ready to|was not able to|does not expect to""",
    BAD: """will not|did not|no longer expects to|does not have to|never had to|is not forced to
is not likely to||will not have to|is not about to|does not expect to""",
}
# Outcomes seen against expectations: (outcome, effect) -> tails.
TAILS = {
    (GOOD, GOOD): """more than expected|beating forecasts|and beat hopes|faster than hoped
by more than analysts hoped||faster than forecast|more than analysts expected""",
    (GOOD, BAD): """less than hoped|but missed forecasts|too slowly for analysts
but not as much as expected|by less than analysts hoped|more slowly than expected
||but less than analysts expected|but not as much as hoped|more slowly than hoped""",
    (BAD, GOOD): """less than feared|but beat forecasts|more slowly than expected
but not as much as expected|by less than analysts feared|but the worst is over
||but not as much as feared|but less than analysts expected|more slowly than feared""",
    (BAD, BAD): """more than feared|and missed forecasts|even faster|faster than feared
by more than analysts feared||faster than expected|more than analysts expected""",
}
CONTRASTS = "{A}, but {B}|although {A}, {B}|{A}; still, {B}|even though {A}, {B}||{A}, yet {B}"
PLAIN = "{T} of {F} {V}|{F} says {T} {V}|{T} at {F} {V}|at {F} {T} {V}|{F}: {T} {V}"
PERIODS = "| in the first quarter| last year| by {N} %| in the second half|"
FRAMES = "{X}|{X}|{X}, analysts say|news: {X}|{X}, says the board|analysts say {X}"
NAMES = "Nor Hal Ber Lin Stan Vik Mon Cal Tor Ras Del Gar Fen Ost Kel Bran Mar Sol Zan Pel"
NAME_ENDS = "tek corp bank oil steel air foods media tel pharma ware energy"
# Written by hand, in words and turns that the patterns above do not have.
BY_HAND = {
    GOOD: """Order book at a record as demand for trucks grew
Airline swings to a profit after two years of losses
Bank says bad loans are no longer a worry
Debt is lower than at any time in the last ten years
Steel maker avoids bankruptcy as lender extends its loan
The fine was smaller than analysts had feared
No more layoffs, says the board
Costs are falling faster than sales
Recall turns out to be cheaper than expected
Nobody expected sales to climb this much
Regulator drops the case against the drug maker
Complaints fell to the lowest level on record
Shares jump as the plant reopens
A bad year, but the worst is over
Losses were less than half of what was feared""",
    BAD: """Profit warning sends shares of the chip maker lower
The board gave up its target for the year
Sales grew, yet not enough to cover rising costs
Approval for the drug was refused
Orders dried up in the second half
Nothing came of the hoped for contract
Buyer walks away from the deal
Dividend is gone for the first time since 2009
Margins are thinner than they have ever been
Best quarter of the year could not make up for the losses
Customers complain about delays
Interest on its debt eats up the profit
The firm stopped paying its suppliers
Few believe that demand will recover
Record revenue hides that earnings shrank""",
}


class Row(NamedTuple):
    """A headline, 1 if it is good news for the firm, and its kind."""

    text: str
    label: int
    kind: str


def opposite(sign: str) -> str:
    """The other of GOOD and BAD."""
    return BAD if sign == GOOD else GOOD


def phrases(text: str) -> list[str]:
    """The phrases of a string where | or a line end separates them."""
    return re.split(r"[|\n]", text.strip("\n"))


class Writer:
    """Writes headlines; a held-out writer also uses phrases and word pairs kept from training.

    ``fresh`` tells whether the last headline holds anything that training never shows.
    """

    def __init__(self, seed: int, *, held_out: bool) -> None:
        self.rng = random.Random(seed)
        self.firm = ""
        self.held_out = held_out
        self.fresh = False
        split = random.Random(SEED)
        figures, verbs = (
            phrases("|".join(text for table in tables for text in table.values()))
            for tables in ((FIGURES, OBJECTS), (VERBS, ACTIONS))
        )
        self.kept = {(f, v) for f in figures for v in verbs if split.randrange(4) == 0}
        firms = [name + end for name in NAMES.split() for end in NAME_ENDS.split()]
        split.shuffle(firms)
        self.firms = firms[:60] if held_out else firms[60:]

    def pick(self, text: str) -> str:
        """One phrase of a string; new ones stand after ||."""
        known, _, new = text.partition("||")
        options = phrases(known)
        if self.held_out and new and self.rng.randrange(3) == 0:
            self.fresh = True
            options = phrases(new)
        return self.rng.choice(options)

    def pair(self, figures: dict[str, str], verbs: dict[str, str], sign: str) -> tuple[str, str]:
        """A figure and a verb whose signs multiply to this one."""
        while True:
            figure_sign = self.rng.choice((GOOD, BAD))
            figure = self.pick(figures[figure_sign])
            verb = self.pick(verbs[GOOD if figure_sign == sign else BAD])
            new = (figure, verb) in self.kept
            if self.held_out or not new:
                self.fresh |= new
                return figure, verb

    def plain(self, sign: str, *, period: bool = True) -> str:
        """A figure moved."""
        figure, verb = self.pair(FIGURES, VERBS, sign)
        pattern = self.pick(PLAIN) + (self.rng.choice(PERIODS.split("|")) if period else "")
        number = str(self.rng.randrange(2, 90))
        text = pattern.replace("{T}", figure).replace("{V}", verb).replace("{N}", number)
        return text.replace("{F}", self.firm)

    def expectation(self, sign: str) -> str:
        """A figure moved, against what was expected."""
        outcome = self.rng.choice((GOOD, BAD))
        return f"{self.plain(outcome, period=False)} {self.pick(TAILS[outcome, sign])}"

    def intention(self, sign: str) -> str:
        """A firm does something, or does not."""
        done = self.rng.randrange(2) == 0
        effect = sign if done else opposite(sign)
        if self.rng.randrange(2):
            act = self.pick(EVENTS[effect])
        else:
            figure, action = self.pair(OBJECTS, ACTIONS, effect)
            act = f"{action} {figure}"
        modes = DOES if done else DOES_NOT
        return f"{self.firm} {self.pick(modes[effect])} {act}"

    def contrast(self, sign: str) -> str:
        """Two statements of which the second counts, mostly against the first."""
        first = opposite(sign) if self.rng.randrange(4) else sign
        clauses = [
            self.plain(s, period=False) if self.rng.randrange(2) else self.intention(s)
            for s in (first, sign)
        ]
        return self.pick(CONTRASTS).replace("{A}", clauses[0]).replace("{B}", clauses[1])

    def row(self) -> Row:
        """The next headline; one of a held-out writer always has something new in it."""
        kinds = (self.plain, self.expectation, self.intention, self.contrast)
        while True:
            self.fresh, self.firm = False, self.rng.choice(self.firms)
            kind, sign = self.rng.choice(kinds), self.rng.choice((GOOD, BAD))
            text = self.pick(FRAMES).replace("{X}", kind(sign))
            if self.fresh == self.held_out:
                return Row(text[0].upper() + text[1:], int(sign == GOOD), kind.__name__)


def headlines() -> tuple[list[Row], list[Row]]:
    """Return training rows and held-out rows, the hand-written ones last."""
    train, held_out = Writer(SEED + 1, held_out=False), Writer(SEED + 2, held_out=True)
    by_hand = [
        Row(line, int(sign == GOOD), "by hand")
        for sign in BY_HAND
        for line in phrases(BY_HAND[sign])
    ]
    written = [held_out.row() for _ in range(HELD_OUT_ROWS)]
    return [train.row() for _ in range(TRAIN_ROWS)], written + by_hand
