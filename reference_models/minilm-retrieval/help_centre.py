"""Write the help centre of minilm-retrieval: passages, customers' questions, what is held out."""

from __future__ import annotations

import random
from typing import NamedTuple

SEED = 20240615
HELD_OUT_PAIRS, QUERIES, CORPUS = 80, 100, 190

# The shop's name of a product, and what customers call it.
PRODUCTS = """smartphone: mobile, cell phone
laptop computer: notebook, macbook
television: TV, telly
headset: earbuds, ear phones
vacuum cleaner: hoover, floor sweeper
digital camera: cam, photo apparatus
inkjet printer: printing thing, document printer
tablet: pad, reading slate
smartwatch: wrist watch, fitness band
loudspeaker: sound box, music bar
coffee machine: espresso maker, brewer
washing machine: washer, laundry machine
refrigerator: fridge, cooler
game console: playstation, gaming box"""
# A topic is two passages of the shop, the questions that customers ask about it and, after ||,
# questions that only held-out queries ask. {P} is the product.
TOPICS = """Purchases such as a {P} may be sent back within thirty days. Print the label online.
Changed your mind about a {P}? Return it unused during the first month for a full refund.
I do not like my {P}, can I bring it back?|The {P} does not suit me, how do I get my money?
Can I give the {P} back if it is not what I wanted?||I want my money back for the {P}
My wife already has a {P}, can it be returned?

The guarantee of a {P} lasts two years and covers defects of material. Keep the receipt.
Warranty terms: a faulty {P} is repaired free of charge in the first twenty-four months.
How long am I covered if the {P} breaks?|The {P} died after a year, who pays the repair?
Is a {P} that fails after eighteen months your responsibility?||My {P} broke, is it covered?
Do I have to pay if a {P} fails in the second year?

Follow a parcel with a {P} by the tracking number in the dispatch message.
Shipment status of a {P}: open the carrier's page and enter the code that we mailed.
Where is my {P}?|When will the {P} that I ordered get here?|I am still waiting for the {P}
||Has the {P} left yet, and when will it get here?|My {P} is not here, where is it now?

An order of a {P} can be cancelled until it is packed. Use the button in your account.
Stopping an order: as long as the {P} has not left the warehouse, withdrawal costs nothing.
I ordered a {P} by mistake|I clicked twice and now two of the {P} come, stop one please
Please do not send the {P} any more||Stop my {P}, I ordered the wrong one
I do not need the {P} any more, please stop it

A new delivery address for a {P} can be entered until the evening before dispatch.
Redirecting a shipment: the destination of a {P} is altered under My Orders.
I moved house, will the {P} go to the old flat?|Send the {P} to my office instead of home
Can my neighbour's house get the {P}?||I am not at home, can the {P} go to my office?
The {P} should go to my new flat

The invoice for a {P} is a PDF in your account. Companies may add their tax number.
Billing documents: a copy of the bill for a {P} is stored for ten years.
I need a paper for my tax office about the {P}|I lost the receipt of the {P}
Our accountant asks for proof that we paid the {P}||I need proof for my tax office of the {P}
I have no paper that says what the {P} cost

A {P} may be paid in monthly rates over one or two years at no interest.
Financing: spread the price of a {P} over up to twenty-four instalments.
I can not afford the {P} all at once|Can I pay the {P} bit by bit?
Is it possible to pay a little for the {P} every month?||Can I pay half of the {P} later?
Every month a little for the {P}, can you do that?

If the card was declined for a {P}, check limit and code, or choose another method of payment.
Rejected payment: the bank must approve the transaction for a {P} in its app.
Checkout of the {P} says no to my visa|I can not pay for the {P}, an error comes up
My bank did not let the {P} through||Error when I pay for the {P} with my visa
My visa does not work when I buy the {P}

Battery saving: a {P} runs longer with less brightness and without background services.
The charge of a {P} is used up early when wireless functions stay active. Switch them off.
My {P} is empty after two hours|The {P} does not last a day|I plug in the {P} all the time
||The {P} is always empty|After an hour my {P} needs the plug

A {P} that does not charge may have a dirty socket. Clean the contacts and try another cable.
Charging fault: check adapter and cord of the {P}, then hold the switch for ten seconds.
The {P} gets no power from the wall|I plug it in and the {P} stays dead
No light comes on when the {P} is connected||The {P} is dead even when plugged in
The {P} gets no power at all

A hot {P} should rest in the shade. Keep its vents free from dust.
Overheating: the {P} lowers its performance above forty degrees. Improve the flow of air.
I burned my fingers on the {P}|The {P} gets so warm that I am afraid|My {P} feels like an oven
||Is it normal that the {P} gets so warm?|I am afraid of fire, the {P} is like an oven

Unusual noise of a {P} comes from loose parts. Tighten the screws on the rear.
Rattling or humming: place the {P} on level ground and remove transport locks.
My {P} makes a strange sound|The {P} is so loud that the baby wakes up
Something clicks inside the {P}||The {P} is loud and clicks|A strange sound comes out of the {P}

Firmware updates for a {P} are installed at night. Start them by hand under System.
Latest software: the {P} downloads new versions by itself when connected.
How do I get the newest version on the {P}?|The {P} asks me to update, what now?
My {P} is still on last year's system||Is there a newer system for the {P}?
What do I do to update the {P}?

To connect a {P} to the wireless network, choose its name and type the router's key.
No WLAN: restart router and {P}, and move them closer together.
The {P} has no internet|My {P} can not find the wifi|How do I get the {P} online?
||Wifi is gone on the {P}|The {P} does not go online at home

Bluetooth pairing: hold the blue button of the {P} until it blinks, then select it in the list.
Coupling a {P} with other devices works within ten metres. Delete old links beforehand.
The {P} does not talk to my car|My other gadget can not see the {P}
How do I link the {P} to a second gadget?||The {P} and my car do not see each other
I want to link two gadgets to the {P}

Factory settings: all contents of a {P} are erased by the menu item Reset.
Before you sell a {P}, wipe your personal data and sign out.
I want to give the {P} to my son, how do I clear it?|Start the {P} from scratch
How do I make the {P} like new?||My son gets the {P}, what about my private things on it?
Clear everything on the {P}

A forgotten password of a {P} is replaced by means of the e-mail that you registered.
Locked out: after five wrong attempts the {P} unlocks with the recovery key.
I can not log in to the {P} any more|The {P} does not take my pin
I do not know the code for my {P}||My pin does not work on the {P}|I forgot how to log in to the {P}

A broken display of a {P} is exchanged in our workshop within three days at a fixed price.
Glass damage: cracks in the front of a {P} are no case of guarantee, but we mend them.
I dropped the {P} and the screen is in pieces|There is a split across the screen of my {P}
What do you charge for new glass on the {P}?||The screen of my {P} is split
My {P} fell down and the glass is in pieces

Liquid in a {P}: switch it off at once, do not heat it and let it dry for two days.
Moisture inside a {P} leads to corrosion. Bring it to the workshop.
I spilled tea over my {P}|The {P} fell into the bath|Rain got into the {P}
||My {P} got wet|Tea got into the {P}, what should I do?

Accessories missing from the box of a {P} are sent later. Compare the packing list first.
Incomplete delivery: tell us which component of the {P} was absent.
There was no cable with the {P}|Half of the parts of the {P} were not there
The manual of the {P} was not in the parcel||The {P} came with no cable
I opened the parcel and parts of the {P} were not there

Wrong item: if another colour or model of the {P} was delivered, the exchange is free.
We mixed something up? Refuse the incorrect {P} and we dispatch the proper one.
I wanted a red {P} and got a black one|This is not the {P} that I ordered
You sent me a different {P}||I got a black {P} but ordered a white one
The {P} that you sent is a different one

Old for new: we take a used {P} in payment and reckon its value against the purchase.
Trade-in: the condition of your {P} decides the credit note.
What do I get for my old {P}?|Do you buy second hand, I have a {P}
I want a new one, can I give you the old {P} for it?||How much for my old {P}?
Can I sell you my {P} when I buy a new one?

Disposal: a {P} at the end of its life is recycled at any branch without charge.
Electronic waste: leave a worn-out {P} with the driver who brings the replacement.
Where can I throw away a {P}?|Do you take away my dead {P}?|The {P} is junk, what do I do with it?
||Throw away a dead {P}, but where?|Do you take junk like a {P}?

Discount codes for a {P} are entered at the till. One voucher per order.
Price reductions: pupils and students get ten per cent off a {P}.
Is the {P} cheaper for schools?|My coupon for the {P} is not accepted
I have a gift card, does it work for the {P}?||I study, is the {P} cheaper for me?
Where do I put my coupon for the {P}?

Availability: a sold-out {P} returns within weeks. Subscribe to be notified.
Out of stock? Reserve the {P} in a branch near you.
When do you have the {P} again?|The {P} is gone from the shop page
Can you put a {P} aside for me?||No {P} on your page, when again?|Tell me when there is a {P} again

Setting up a {P}: our technician visits you, connects everything and explains it.
Installation service for a {P} is booked together with the appointment.
Can somebody come and get the {P} running?|I am old and can not set up the {P} myself
Who helps me at home with the new {P}?||I need somebody who gets the {P} running at home
Can you come and help me with the {P}?"""
OPENINGS = "|||Hi, |Hello, |Good morning, |Dear team, "
CLOSINGS = "||| - thanks| - please help| - please answer soon| (order {N})"


class Question(NamedTuple):
    """A question, the passages that answer it, and the (topic, product) that it is about."""

    text: str
    passages: list[str]
    about: tuple[int, int]


class HelpCentre:
    """All passages, and questions about one (topic, product) each."""

    def __init__(self) -> None:
        self.rng = random.Random(SEED)
        rows = [row.split(": ") for row in PRODUCTS.split("\n")]
        self.products = [(shop, customers.split(", ")) for shop, customers in rows]
        self.topics = [
            (
                passages,
                [part.strip("|\n").replace("\n", "|").split("|") for part in rest.split("||")],
            )
            for *passages, rest in (topic.split("\n", 2) for topic in TOPICS.split("\n\n"))
        ]
        pairs = [(t, p) for t in range(len(self.topics)) for p in range(len(self.products))]
        self.rng.shuffle(pairs)
        self.held_out, self.known = pairs[:HELD_OUT_PAIRS], pairs[HELD_OUT_PAIRS:]

    def passages(self, about: tuple[int, int]) -> list[str]:
        """The shop's texts; every third pair has two, the others one of the two."""
        topic, product = about
        texts = [text.replace("{P}", self.products[product][0]) for text in self.topics[topic][0]]
        turn = (topic + product) % 3
        return texts if turn == 2 else [texts[turn]]

    def question(self, about: tuple[int, int], *, new: bool = False) -> Question:
        """A customer's question, asked in a way that is new or that training knows."""
        topic, product = about
        text = self.rng.choice(self.topics[topic][1][new])
        text = text.replace("{P}", self.rng.choice(self.products[product][1]))
        opening = self.rng.choice(OPENINGS.split("|"))
        closing = self.rng.choice(CLOSINGS.split("|"))
        closing = closing.replace("{N}", str(self.rng.randrange(1000, 10000)))
        return Question(opening + text + closing, self.passages(about), about)

    def held_out_questions(self) -> list[Question]:
        """Questions about held-out pairs, asked in new ways."""
        pairs = (self.held_out * 2)[:QUERIES]
        return [self.question(about, new=True) for about in pairs]

    def corpus(self) -> list[str]:
        """The passages to search: all about held-out pairs, the rest about others."""
        return [text for about in self.held_out + self.known for text in self.passages(about)][
            :CORPUS
        ]
