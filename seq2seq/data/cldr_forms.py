"""What both of two languages can say: the names, units and styles with one meaning.

The names and units are those that people meet, so that each occurs many times in a corpus of a few
ten thousand pairs; what is ambiguous is decided over all that the CLDR has.
"""

import datetime
from collections.abc import Callable, Hashable, Sequence
from decimal import Decimal
from functools import cached_property
from typing import Any, TypeVar, cast

from seq2seq.data import cldr_phrases
from seq2seq.data.cldr_phrases import MISSING, Length, ListStyle, Locales, Phrase

Form = TypeVar("Form", bound=Hashable)
Value = TypeVar("Value")


def _codes(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LANGUAGES = _codes("""
    af am ar as az be bg bn bo br bs ca cs cv cy da de dz el en eo es et eu fa fi fil fo fr fy ga gd
    gl gn gu ha haw he hi hr ht hu hy id ig is it ja jv ka kk km kn ko ku ky la lb lo lt lv mg mi mk
    ml mn mr ms mt my ne nl no oc or pa pl ps pt qu ro ru rw sa sd si sk sl sm sn so sq sr st su sv
    sw ta te tg th ti tk tl tn to tr tt ug uk ur uz vi wo xh yi yo zh zu
""")

_CURRENCIES = _codes("""
    AED ALL AMD ARS AUD AZN BAM BDT BGN BOB BRL CAD CHF CLP CNY COP CRC CZK DKK DOP EGP ETB EUR GBP
    GEL GHS HKD HUF IDR ILS INR ISK JOD JPY KES KRW KWD KZT LKR MAD MNT MXN MYR NGN NOK NZD PEN PHP
    PKR PLN RON RSD RUB SAR SEK SGD THB TND TRY TWD UAH USD UYU VND ZAR
""")

# Codes that are no countries: unions, outlying areas, and codes made for tests.
_NO_COUNTRIES = _codes("AC AQ BV CC CP CQ CX DG EA EU EZ GS HM IC IO QO TA TF UM UN XA XB ZZ")

_UNITS = _codes("""
    angle-degree area-acre area-hectare area-square-kilometer area-square-meter area-square-mile
    concentr-karat concentr-percent digital-bit digital-gigabyte digital-kilobyte digital-megabyte
    digital-terabyte duration-century duration-day duration-decade duration-hour
    duration-millisecond duration-minute duration-month duration-night duration-second
    duration-week duration-year electric-ampere electric-ohm electric-volt energy-foodcalorie
    energy-joule energy-kilocalorie energy-kilowatt-hour frequency-hertz frequency-megahertz
    graphics-megapixel graphics-pixel length-centimeter length-foot length-inch length-kilometer
    length-light-year length-meter length-mile length-millimeter length-nautical-mile length-yard
    mass-carat mass-gram mass-kilogram mass-milligram mass-ounce mass-pound mass-tonne
    power-horsepower power-kilowatt power-watt pressure-bar pressure-hectopascal
    speed-kilometer-per-hour speed-knot speed-meter-per-second speed-mile-per-hour
    temperature-celsius temperature-fahrenheit volume-cubic-meter volume-cup volume-gallon
    volume-liter volume-milliliter volume-tablespoon volume-teaspoon
""")

_RATED_UNITS = _codes("""
    digital-gigabyte digital-megabyte energy-kilocalorie energy-kilowatt-hour length-centimeter
    length-kilometer length-meter length-millimeter mass-gram mass-kilogram mass-milligram
    mass-tonne volume-cubic-meter volume-liter volume-milliliter
""")

_RATE_BASES = _codes("""
    duration-second duration-minute duration-hour duration-day duration-week duration-month
    duration-year length-kilometer length-meter mass-kilogram volume-liter
""")

# Between them they have most languages' plural forms; what lacks a rarer one fails when drawn.
_AMOUNTS: tuple[int | Decimal, ...] = (1, 2, 5, Decimal("1.5"))
_MOMENTS = tuple(datetime.datetime(2023, month, 3 * month, 2 * month, 5) for month in (1, 4, 8))
_LENGTHS: tuple[Length, ...] = ("long", "short")
_LIST_STYLES: tuple[ListStyle, ...] = ("standard", "or", "standard-short")
_DATE_STYLES = ("full", "long", "medium", "yMMMEd", "MMMEd", "MMMMd", "yMMMM", "yQQQQ", "yw")
_DATE_STYLES_WITHOUT_DAY = ("yMMMM", "yQQQQ", "yw")
_TIME_STYLES = ("short", "Ejm", "Bhm", "EBhm")
_DAY_INTERVALS = ("yMMMd", "MMMd", "yMMMEd", "MMMEd")
_DISTANCE_UNITS = ("second", "minute", "hour", "day", "week", "month", "year")


def _shared(first: Any, second: Any) -> list[str]:
    return sorted(cast(set[str], first.keys() & second.keys()))


def _is_common(kind: str, code: str) -> bool:
    if kind == "country":
        return len(code) == 2 and code.isalpha() and code not in _NO_COUNTRIES
    return code in (_LANGUAGES if kind == "language" else _CURRENCIES)


def select_forms(
    forms: Sequence[Form],
    values: Sequence[Value],
    say: Callable[[Form, Value], Phrase],
    meaning: Callable[[Form], Hashable] = lambda form: form,
) -> list[Form]:
    """Select the forms that both languages have and whose source text has one target.

    Of two forms with the same source text but different targets the first is kept where they mean
    the same (`3/5/24` of two date styles), and none where they don't (`5 pt`: points or pints).
    """
    owners: dict[str, tuple[Form, str]] = {}
    left_out: set[Form] = set()
    for form in forms:
        try:
            phrases = [say(form, value) for value in values]
        except MISSING:
            left_out.add(form)
            continue
        for phrase in phrases:
            owner, target = owners.setdefault(phrase.source, (form, phrase.target))
            if target != phrase.target:
                left_out.add(form)
                if meaning(owner) != meaning(form):
                    left_out.add(owner)
    return [form for form in forms if form not in left_out]


class Forms:
    """The forms that both languages have, found when they are asked for."""

    def __init__(self, locales: Locales) -> None:
        self.locales = locales

    @cached_property
    def names(self) -> dict[str, list[Phrase]]:
        """The names of countries, languages and currencies, by what they name."""
        source, target = self.locales
        codes = {
            "country": _shared(source.territories, target.territories),
            "language": _shared(source.languages, target.languages),
            "currency": _shared(source.currencies, target.currencies),
        }
        every = [(kind, code) for kind, group in codes.items() for code in group]
        named = select_forms(every, [None], lambda form, _: self._name(*form))
        phrases: dict[str, list[Phrase]] = {kind: [] for kind in codes}
        for kind, code in named:
            if _is_common(kind, code):
                phrases[kind].append(self._name(kind, code))
        return phrases

    def _name(self, kind: str, code: str) -> Phrase:
        return self.locales.say(
            lambda locale: cldr_phrases.name(kind, code, locale), f"{kind} {code}"
        )

    @cached_property
    def units(self) -> list[tuple[str, Length]]:
        """Units, each in one or several lengths."""
        source, target = self.locales
        every = _shared(source.unit_display_names, target.unit_display_names)
        lengths: list[tuple[str, Length]] = [(unit, size) for unit in every for size in _LENGTHS]
        forms = select_forms(
            lengths,
            _AMOUNTS,
            lambda form, amount: self.quantity(amount, *form),
            meaning=lambda form: form[0],
        )
        return [form for form in forms if form[0] in _UNITS]

    def quantity(self, amount: int | Decimal, unit: str, length: Length) -> Phrase:
        """Say a number of units."""
        return self.locales.say(
            lambda locale: cldr_phrases.quantity(amount, unit, length, locale), f"{unit} {length}"
        )

    @cached_property
    def rates(self) -> list[tuple[str, str]]:
        """Units with what they can be counted for."""
        forms = [
            (unit, base)
            for unit in sorted(_RATED_UNITS)
            for base in sorted(_RATE_BASES)
            if unit.split("-")[0] != base.split("-")[0]
        ]
        return select_forms(forms, _AMOUNTS, lambda form, amount: self.rate(amount, *form))

    def rate(self, amount: int | Decimal, unit: str, base: str) -> Phrase:
        """Say a number of units for each of another unit."""
        return self.locales.say(
            lambda locale: cldr_phrases.rate(amount, unit, base, locale), unit, f"per {base}"
        )

    @cached_property
    def _moneys(self) -> list[tuple[str, bool]]:
        source, target = self.locales
        every = _shared(source.currencies, target.currencies)
        forms = select_forms(
            [(code, by_name) for code in every for by_name in (True, False)],
            _AMOUNTS,
            lambda form, amount: self.money(amount, *form),
            meaning=lambda form: form[0],
        )
        return [form for form in forms if form[0] in _CURRENCIES]

    @property
    def moneys(self) -> list[tuple[str, bool]]:
        """Currencies to be said by name."""
        return [form for form in self._moneys if form[1]]

    @property
    def prices(self) -> list[tuple[str, bool]]:
        """Currencies for which both languages have a symbol."""
        return [form for form in self._moneys if not form[1]]

    def money(self, amount: int | Decimal, currency: str, by_name: bool) -> Phrase:
        """Say an amount of money."""
        render = cldr_phrases.sum_of_money if by_name else cldr_phrases.price
        key = f"money {currency} {'name' if by_name else 'symbol'}"
        return self.locales.say(lambda locale: render(amount, currency, locale), key)

    @cached_property
    def date_styles(self) -> list[str]:
        """Ways to write a date."""
        return select_forms(_DATE_STYLES, _MOMENTS, self.date, meaning=lambda _: "date")

    @property
    def day_styles(self) -> list[str]:
        """Ways to write a date that name the day and go together with a time or a place."""
        return [style for style in self.date_styles if style not in _DATE_STYLES_WITHOUT_DAY]

    def date(self, style: str, day: datetime.date) -> Phrase:
        """Say a date."""
        return self.locales.say(lambda locale: cldr_phrases.date(day, style, locale))

    @cached_property
    def time_styles(self) -> list[str]:
        """Ways to write a time of the day."""
        return select_forms(_TIME_STYLES, _MOMENTS, self.time, meaning=lambda _: "time")

    @property
    def hour_styles(self) -> list[str]:
        """Ways to write a time of the day without the day of the week."""
        return [style for style in self.time_styles if "E" not in style]

    def time(self, style: str, moment: datetime.datetime) -> Phrase:
        """Say a time of the day."""
        return self.locales.say(lambda locale: cldr_phrases.time(moment, style, locale))

    @cached_property
    def day_intervals(self) -> list[str]:
        """Ways to write the days from one to another."""
        bounds = [(moment, moment + datetime.timedelta(days=3)) for moment in _MOMENTS]
        return select_forms(_DAY_INTERVALS, bounds, self.interval, meaning=lambda _: "interval")

    @cached_property
    def hour_intervals(self) -> list[str]:
        """Ways to write the hours from one to another."""
        bounds = [(moment, moment + datetime.timedelta(hours=3)) for moment in _MOMENTS]
        return select_forms(("jm",), bounds, self.interval)

    def interval(
        self, skeleton: str, bounds: tuple[datetime.datetime, datetime.datetime]
    ) -> Phrase:
        """Say the days, or hours, from one to another."""
        return self.locales.say(lambda locale: cldr_phrases.interval(bounds, skeleton, locale))

    @cached_property
    def distances(self) -> list[tuple[str, Length]]:
        """Units of time to say how far ahead or how long ago something is."""
        return select_forms(
            [(unit, length) for unit in _DISTANCE_UNITS for length in _LENGTHS],
            [amount for amount in _AMOUNTS if isinstance(amount, int)],
            lambda form, amount: self.distance(amount, *form),
            meaning=lambda form: form[0],
        )

    def distance(self, amount: int, unit: str, length: Length) -> Phrase:
        """Say how far ahead something is or, where the amount is negative, how long ago."""
        return self.locales.say(
            lambda locale: cldr_phrases.distance(amount, unit, length, locale),
            f"distance {unit} {length}",
        )

    def spelled(self, number: int) -> Phrase:
        """Say a number in words."""
        return self.locales.say(lambda locale: cldr_phrases.spelled(number, locale))

    def percentage(self, amount: int | Decimal) -> Phrase:
        """Say a percentage."""
        return self.locales.say(lambda locale: cldr_phrases.percentage(amount, locale))

    @cached_property
    def list_styles(self) -> list[ListStyle]:
        """Ways to write a list."""
        letters = [self.locales.say(lambda _, letter=letter: letter) for letter in "ABC"]
        return select_forms(
            _LIST_STYLES,
            [letters[:2], letters],
            lambda style, phrases: self.locales.join(phrases, style),
            meaning=lambda _: "list",
        )

    @cached_property
    def calendars(self) -> list[list[Phrase]]:
        """The days of the week and the months, in full and abbreviated."""
        forms = select_forms(
            [(kind, width) for kind in ("day", "month") for width in ("wide", "abbreviated")],
            range(12),
            lambda form, place: self._calendar_name(*form, place),
            meaning=lambda form: form[0],
        )
        return [
            [self._calendar_name(kind, width, place) for place in range(7 if kind == "day" else 12)]
            for kind, width in forms
        ]

    def _calendar_name(self, kind: str, width: str, place: int) -> Phrase:
        number = place % 7 if kind == "day" else place + 1
        return self.locales.say(
            lambda locale: cldr_phrases.calendar_name(kind, width, number, locale)
        )
