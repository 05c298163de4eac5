"""Phrases in two languages at once, rendered from the patterns of the Unicode CLDR.

One function renders both sides, so any pair of locales works alike. Where a locale lacks a pattern
or a name, rendering raises one of `MISSING`.
"""

import datetime
import re
import unicodedata
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Literal, NamedTuple, cast

import num2words as spelling  # pyright: ignore[reportMissingTypeStubs]
from babel import Locale, dates, lists, numbers, units

Length = Literal["long", "short"]
ListStyle = Literal["standard", "or", "standard-short"]

# What Babel raises where a locale lacks a pattern.
MISSING = (LookupError, ValueError, AttributeError, NotImplementedError)
# What stands for the name of a month, or for a unit, that a locale lacks.
_IDENTIFIER = re.compile(r"\bM\d\d\b|\w-per-\w")
_SPELLING_CODES = {"nb": "no", "kk": "kz"}  # num2words has these under codes of its own
_SECONDS = {
    "second": 1,
    "minute": 60,
    "hour": 3600,
    "day": 86400,
    "week": 604800,
    "month": 2592000,
    "year": 31536000,
}


class Phrase(NamedTuple):
    """The same thing said in both languages."""

    source: str
    target: str
    names: frozenset[str] = frozenset()
    """Keys of the names and units that occur in it."""


class Locales(NamedTuple):
    """The two languages."""

    source: Locale
    target: Locale

    def say(self, render: Callable[[Locale], str], *names: str) -> Phrase:
        """Render a phrase in both languages."""
        return Phrase(_tidy(render(self.source)), _tidy(render(self.target)), frozenset(names))

    def join(self, phrases: Sequence[Phrase], style: ListStyle) -> Phrase:
        """Make a list with the languages' words for 'and' or 'or'."""
        return Phrase(
            lists.format_list([phrase.source for phrase in phrases], style, self.source),
            lists.format_list([phrase.target for phrase in phrases], style, self.target),
            frozenset[str]().union(*(phrase.names for phrase in phrases)),
        )

    def annotate(self, phrase: Phrase, remark: Phrase) -> Phrase:
        """Add a remark in brackets, as in `Portuguese (Brazil)`."""
        return Phrase(
            f"{phrase.source} ({remark.source})",
            f"{phrase.target} ({remark.target})",
            phrase.names | remark.names,
        )

    def glue(self, first: Phrase, second: Phrase) -> Phrase:
        """Put two phrases together the way a date and a time are."""
        return Phrase(
            _glue(first.source, second.source, self.source),
            _glue(first.target, second.target, self.target),
            first.names | second.names,
        )


def date(day: datetime.date, style: str, locale: Locale) -> str:
    """Render a date in a style (`full`, `long`, `medium`, `short`) or a skeleton (`yMMMEd`)."""
    if style in ("full", "long", "medium", "short"):
        return dates.format_date(day, style, locale)
    return dates.format_skeleton(style, day, fuzzy=False, locale=locale)


def time(moment: datetime.datetime, skeleton: str, locale: Locale) -> str:
    """Render a time of the day; a `j` of the skeleton is the hour as the locale counts it."""
    if skeleton == "short":
        return dates.format_time(moment, "short", locale=locale)
    skeleton = skeleton.replace("j", _hour(locale))
    return dates.format_skeleton(skeleton, moment, fuzzy=False, locale=locale)


def interval(
    bounds: tuple[datetime.datetime, datetime.datetime], skeleton: str, locale: Locale
) -> str:
    """Render the time between two moments; a `j` is the hour as the locale counts it."""
    skeleton = skeleton.replace("j", _hour(locale))
    if skeleton not in locale.interval_formats:  # Babel writes two dates with the time of the day
        raise LookupError(skeleton)
    return dates.format_interval(*bounds, skeleton, fuzzy=False, locale=locale)


def distance(amount: int, unit: str, length: Length, locale: Locale) -> str:
    """Render how far ahead something is, or how long ago: `in 3 days`, `3 days ago`."""
    return dates.format_timedelta(
        datetime.timedelta(seconds=amount * _SECONDS[unit]),
        granularity=unit,  # pyright: ignore[reportArgumentType]
        threshold=1e9,  # or 14 days would become 2 weeks
        add_direction=True,
        format=length,
        locale=locale,
    )


def quantity(amount: int | Decimal, unit: str, length: Length, locale: Locale) -> str:
    """Render a number of units."""
    text = units.format_unit(amount, unit, length, locale=locale)
    return _without(unit, text)


def rate(amount: int | Decimal, unit: str, base: str, locale: Locale) -> str:
    """Render a number of units for each of another unit."""
    text = units.format_compound_unit(amount, unit, denominator_unit=base, locale=locale)
    return _without(unit, _without(base, text or base))


def price(amount: int | Decimal, currency: str, locale: Locale) -> str:
    """Render money with the currency's symbol."""
    return _without(currency, numbers.format_currency(amount, currency, locale=locale))


def sum_of_money(amount: int | Decimal, currency: str, locale: Locale) -> str:
    """Render money with the currency's name."""
    text = numbers.format_currency(
        amount, currency, locale=locale, currency_digits=False, format_type="name"
    )
    return _without(currency, text)


def percentage(amount: int | Decimal, locale: Locale) -> str:
    """Render a percentage."""
    share = Decimal(amount) / 100
    return numbers.format_percent(share, locale=locale, decimal_quantization=False)


def name(kind: str, code: str, locale: Locale) -> str:
    """Render the name of a country, a language or a currency."""
    names = {
        "country": locale.territories,
        "language": locale.languages,
        "currency": locale.currencies,
    }
    text = names[kind][code]
    if text == code:
        raise LookupError(code)
    return text


def calendar_name(kind: str, width: str, number: int, locale: Locale) -> str:
    """Render the name of a day of the week or of a month."""
    names = locale.days if kind == "day" else locale.months
    return names["stand-alone"][width][number]


def spelled(number: int, locale: Locale) -> str:
    """Render a number in words."""
    codes = (str(locale), _SPELLING_CODES.get(locale.language, locale.language))
    known = [code for code in codes if code in spelling.CONVERTER_CLASSES]
    if not known:
        raise LookupError(str(locale))
    try:
        return cast(str, cast(Any, spelling).num2words(number, lang=known[0]))
    except (TypeError, ArithmeticError) as error:  # how some languages of num2words fail
        raise LookupError(f"{number} in {locale}") from error


def _without(identifier: str, text: str) -> str:
    if identifier in text:  # Babel says the identifier where the locale has no pattern
        raise LookupError(identifier)
    return text


def _tidy(text: str) -> str:
    if not text or _IDENTIFIER.search(text):
        raise LookupError(text)
    return unicodedata.normalize("NFC", " ".join(text.splitlines())).strip()


def _hour(locale: Locale) -> str:
    pattern = re.sub("'[^']*'", "", locale.time_formats["short"].pattern)
    return "h" if "h" in pattern else "H"


def _glue(first: str, second: str, locale: Locale) -> str:
    pattern = str(locale.datetime_formats["medium"]).replace("'", "")
    return pattern.replace("{0}", second).replace("{1}", first)
