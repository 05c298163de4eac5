"""The kinds of sentences of the sample corpus, and how each is drawn at random."""

import datetime
import random
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Generic, TypeVar

from seq2seq.data.cldr_forms import Forms
from seq2seq.data.cldr_phrases import MISSING, Phrase

Item = TypeVar("Item")
Draw = Callable[[], Phrase]

_FIRST_DAY = datetime.datetime(2000, 1, 1)
_LARGER_UNITS = {
    "duration-second": "duration-minute",
    "duration-minute": "duration-hour",
    "duration-hour": "duration-day",
    "duration-day": "duration-week",
    "duration-month": "duration-year",
}


class _Deck(Generic[Item]):
    """Items dealt in random order, each as often as any other."""

    def __init__(self, items: Sequence[Item], generator: random.Random, least: int = 1) -> None:
        if len(items) < least:
            raise LookupError("the languages lack this kind of phrase")
        self._items = list(items)
        self._generator = generator
        self._rest: list[Item] = []

    def deal(self, count: int) -> list[Item]:
        """Deal different items."""
        if len(self._rest) < count:
            self._rest = self._generator.sample(self._items, len(self._items))
        dealt, self._rest = self._rest[:count], self._rest[count:]
        return dealt

    def draw(self) -> Item:
        """Deal one item."""
        return self.deal(1)[0]


class Sentences:
    """Sentences in two languages.

    `kinds` has a function for each kind, which draws a sentence at random. A kind that needs
    patterns which one of the languages lacks isn't there; so it is with spelled-out numbers, which
    come from num2words, where that doesn't know both languages.
    """

    def __init__(self, forms: Forms, generator: random.Random) -> None:
        self._forms = forms
        self._generator = generator
        builders: dict[str, Callable[[], Draw]] = {
            "date": lambda: self._dates(self._forms.date_styles),
            "time": lambda: self._times(self._forms.time_styles),
            "date and time": lambda: self._glued(
                self._days(), self._times(self._forms.hour_styles)
            ),
            "interval": self._intervals,
            "appointment": lambda: self._glued(self._days(), self._hours()),
            "distance": self._distances,
            "duration": self._durations,
            "quantity": self._quantities,
            "quantities": lambda: self._lists(self._quantities()),
            "rate": self._rates,
            "price": self._prices,
            "money": self._moneys,
            "percentages": lambda: self._lists(self._percentages()),
            "countries": lambda: self._lists(self._names("country")),
            "languages": lambda: self._lists(self._names("language")),
            "currencies": lambda: self._lists(self._names("currency")),
            "calendar": self._calendars,
            "variety": self._varieties,
            "number": self._numbers,
            "record": self._records,
        }
        self.kinds: dict[str, Draw] = {}
        for kind, build in builders.items():
            try:
                self.kinds[kind] = build()
            except MISSING:
                continue

    def _deck(self, items: Sequence[Item], least: int = 1) -> _Deck[Item]:
        return _Deck(items, self._generator, least)

    def _whole(self) -> int:
        """Draw a whole number, a small one more often, so that all are seen often."""
        largest = self._generator.choice((9, 20, 50, 99, 99, 200, 500, 999, 9999))
        number = self._generator.randint(1, largest)
        return number if number < 1000 else number - number % 50

    def _amount(self) -> int | Decimal:
        if self._generator.random() < 0.15:
            return Decimal(self._generator.randint(1, 499)) / 10
        return self._whole()

    def _moment(self) -> datetime.datetime:
        minutes = 5 * self._generator.randrange(24 * 12)
        days = self._generator.randrange(40 * 365)
        return _FIRST_DAY + datetime.timedelta(days=days, minutes=minutes)

    def _dates(self, styles: Sequence[str]) -> Draw:
        deck = self._deck(styles)
        return lambda: self._forms.date(deck.draw(), self._moment())

    def _days(self) -> Draw:
        return self._dates(self._forms.day_styles)

    def _times(self, styles: Sequence[str]) -> Draw:
        deck = self._deck(styles)
        return lambda: self._forms.time(deck.draw(), self._moment())

    def _glued(self, first: Draw, second: Draw) -> Draw:
        return lambda: self._forms.locales.glue(first(), second())

    def _intervals(self) -> Draw:
        skeletons = self._deck(self._forms.day_intervals)

        def draw() -> Phrase:
            start = self._moment()
            end = start + datetime.timedelta(days=self._generator.randint(1, 20))
            return self._forms.interval(skeletons.draw(), (start, end))

        return draw

    def _hours(self) -> Draw:
        skeletons = self._deck(self._forms.hour_intervals)

        def draw() -> Phrase:
            start = self._moment().replace(hour=self._generator.randint(6, 19))
            end = start + datetime.timedelta(minutes=15 * self._generator.randint(4, 16))
            return self._forms.interval(skeletons.draw(), (start, end))

        return draw

    def _distances(self) -> Draw:
        units = self._deck(self._forms.distances)

        def draw() -> Phrase:
            amount = self._generator.randint(1, 60)
            return self._forms.distance(self._generator.choice((amount, -amount)), *units.draw())

        return draw

    def _durations(self) -> Draw:
        units = self._deck([form for form in self._forms.units if form[0] in _LARGER_UNITS])

        def draw() -> Phrase:
            unit, length = units.draw()
            parts = [
                self._forms.quantity(self._generator.randint(1, 30), part, length)
                for part in (_LARGER_UNITS[unit], unit)
            ]
            return self._forms.locales.join(parts, self._forms.list_styles[0])

        return draw

    def _quantities(self) -> Draw:
        units = self._deck(self._forms.units, least=3)
        return lambda: self._forms.quantity(self._amount(), *units.draw())

    def _rates(self) -> Draw:
        rates = self._deck(self._forms.rates)
        return lambda: self._forms.rate(self._amount(), *rates.draw())

    def _prices(self) -> Draw:
        currencies = self._deck(self._forms.prices)

        def draw() -> Phrase:
            cents = self._generator.choice((0, 0, 0, 25, 50, 75, 90, 95, 99))
            return self._forms.money(self._whole() + Decimal(cents) / 100, *currencies.draw())

        return draw

    def _moneys(self) -> Draw:
        currencies = self._deck(self._forms.moneys, least=3)
        return lambda: self._forms.money(self._amount(), *currencies.draw())

    def _percentages(self) -> Draw:
        def draw() -> Phrase:
            tenths = self._generator.randint(1, 999)
            amount = self._generator.choice(
                (tenths // 10 + 1, tenths // 10 + 1, Decimal(tenths) / 10)
            )
            return self._forms.percentage(amount)

        return draw

    def _names(self, kind: str) -> Draw:
        return self._deck(self._forms.names[kind], least=3).draw

    def _lists(self, draw: Draw) -> Draw:
        styles = self._deck(self._forms.list_styles)

        def draw_list() -> Phrase:
            parts = [draw() for _ in range(self._generator.choice((2, 2, 3)))]
            if len(set(parts)) < len(parts):
                raise LookupError("a list of the same thing twice")
            return self._forms.locales.join(parts, styles.draw())

        return draw_list

    def _calendars(self) -> Draw:
        calendars = self._deck(self._forms.calendars)
        styles = self._deck(self._forms.list_styles)

        def draw() -> Phrase:
            count = self._generator.choice((2, 3))
            names = self._generator.sample(calendars.draw(), count)
            return self._forms.locales.join(names, styles.draw())

        return draw

    def _varieties(self) -> Draw:
        language, country = self._names("language"), self._names("country")
        return lambda: self._forms.locales.annotate(language(), country())

    def _numbers(self) -> Draw:
        def draw() -> Phrase:
            number = self._generator.randint(1, self._generator.choice((99, 999, 9999)))
            return self._forms.spelled(number)

        draw()  # raises where num2words lacks a language
        return draw

    def _records(self) -> Draw:
        place = self._names("country")
        date = self._days()
        figures = (self._quantities(), self._prices(), self._moneys(), self._percentages())

        def draw() -> Phrase:
            glue = self._forms.locales.glue
            figure = self._generator.choice(figures)()
            shape = self._generator.randrange(3)
            if shape == 0:
                return glue(place(), figure)
            if shape == 1:
                return glue(date(), figure)
            return glue(date(), glue(place(), figure))

        return draw
