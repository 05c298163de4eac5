"""From text to translated text, with a model: batches by length, results in the order given."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy
import torch
from torch import Tensor

from seq2seq.config import SearchConfig
from seq2seq.config_file import search_settings
from seq2seq.data.batch import pad
from seq2seq.data.plan import by_length
from seq2seq.errors import ModelError, UserError
from seq2seq.model.network import Network
from seq2seq.model.stepwise import Stepwise
from seq2seq.model_folder import load_model
from seq2seq.parallel.device import lack_for
from seq2seq.risk import expected_utilities
from seq2seq.search.beam import Settings, search
from seq2seq.search.candidates import Sampling
from seq2seq.search.forced import Forced, force
from seq2seq.search.hypothesis import Hypothesis, Scoring
from seq2seq.search.rules import Wishes
from seq2seq.search.scorer import Ensemble, Scorer, Symbols
from seq2seq.search.shortlisted import Shortlisted
from seq2seq.sentence_split import split_long
from seq2seq.shortlist import Shortlist
from seq2seq.target_words import Asked, TargetWords, kept
from seq2seq.vocabulary import BOS, EOS, UNK, Vocabularies, blank, target_tag

WINDOW = 1024  # lines that are translated, and written, together
_EXTRA_LENGTH = 10  # pieces that any translation may have beyond its share of the source's


class Request(NamedTuple):
    """A line to translate, and what its translation must heed."""

    text: str
    prefix: str = ""
    """What the translation begins with."""
    require: tuple[str, ...] = ()
    """Words and phrases that the translation must have."""
    avoid: tuple[str, ...] = ()
    """Words and phrases that it may not have."""
    to: str | None = None
    """The language to translate into, of those that the model has tags for; none: its default."""


class Translation(NamedTuple):
    """A line's translation."""

    text: str
    tokens: list[int]
    """The text as ids of the target vocabulary."""
    score: float
    """Log-probability in nats, divided by a power of the length; 0 for a blank line."""
    log_probability: float = 0.0
    """Sum over the pieces and the end, in nats."""
    source_pieces: Sequence[str] = ()
    pieces: Sequence[str] = ()
    attention: Sequence[Sequence[float]] = ()
    """For each piece a weight of each source piece; empty unless alignments were asked for."""
    alternatives: Sequence["Translation"] = ()
    """Other hypotheses, best first, where more than one was asked for."""
    unmet: Sequence[str] = ()
    """What the request asked for and the translation doesn't have."""

    @property
    def alignment(self) -> list[tuple[int, int]]:
        """For each piece, the source piece it attends to most: (source, target), from 0."""
        return [(_largest(row), target) for target, row in enumerate(self.attention)]


class Part(NamedTuple):
    """A line, or a part of a line that is too long."""

    line: int
    """Which line, counted from 0."""
    request: Request
    source: list[int]
    """Its ids of the source vocabulary."""
    gap: str = ""
    """What stands between it and the next part of its line."""


class Work(NamedTuple):
    """Lines in the form in which they are translated; blank ones have no part."""

    lines: int
    parts: list[Part]
    batches: list[list[int]]
    """Which parts are translated at once."""

    def joined(self, found: Mapping[int, Translation]) -> list[Translation]:
        """Make each line's translation of those of its parts, by their numbers."""
        of_line: dict[int, list[tuple[Translation, str]]] = {}
        for number, part in enumerate(self.parts):
            of_line.setdefault(part.line, []).append((found[number], part.gap))
        nothing = [(Translation("", [], 0.0), "")]
        return [_join(of_line.get(line, nothing)) for line in range(self.lines)]


class Translator:
    """A network, or several, with vocabularies and search settings.

    It may be used by several threads at once.
    """

    def __init__(
        self,
        network: Network,
        vocabularies: Vocabularies,
        settings: SearchConfig,
        *,
        others: Sequence[Network] = (),
        shortlist: Shortlist | None = None,
        alignments: bool = False,
        to: str | None = None,
    ):
        """Put together what translates.

        Args:
            network: in evaluation mode.
            vocabularies: what it was trained with.
            settings: of the search.
            others: networks that decide together with the first, of the same vocabularies.
            shortlist: which target pieces a source piece makes likely, where not all are scored.
            alignments: whether translations tell what each piece attends to.
            to: the language whose tag a line has that asks for none; none: there are no tags.
        """
        self.network, self.vocabularies, self.settings = network, vocabularies, settings
        self.to = to
        dtype = _chosen_type(settings.precision, network.output.weight.device)
        self._scorers = [Stepwise(each, dtype) for each in (network, *others)]
        self._shortlist, self._alignments = shortlist, alignments
        self._words = TargetWords(vocabularies.target)
        allowed = (EOS, UNK) if settings.replace_unknown else (EOS,)
        control = vocabularies.target.control
        self._symbols = Symbols(BOS, EOS, tuple(n for n in control if n not in allowed))
        self._search = _in_search_terms(settings)

    @staticmethod
    def load(
        folder: Path | str,
        *,
        overrides: Sequence[str] = (),
        ensemble: Sequence[Path | str] = (),
        device: torch.device | str = "cpu",
        alignments: bool = False,
    ) -> "Translator":
        """Read a model folder.

        Args:
            folder: the model's.
            overrides: settings that replace the model's own, such as `search.beam=1`.
            ensemble: folders of other models, which decide together with the first.
            device: what computes.
            alignments: whether translations tell what each piece attends to.

        Raises:
            ModelError: a folder can't be used, or the models have other vocabularies.
            ConfigError: an override is wrong.
        """
        model = load_model(Path(folder), device=device)
        settings = search_settings(model.config, overrides, name=str(folder))
        others = [load_model(Path(other), device=device) for other in ensemble]
        for other, path in zip(others, ensemble, strict=True):
            if other.vocabularies.digest != model.vocabularies.digest:
                raise ModelError(
                    f"{path} and {folder} have different vocabularies: models of an ensemble must"
                    " have been trained with the same"
                )
        return Translator(
            model.network,
            model.vocabularies,
            settings,
            others=[other.network for other in others],
            shortlist=Shortlist.load(Path(folder)) if settings.shortlist else None,
            alignments=alignments,
            to=model.config.data.default_target,
        )

    def translate(self, lines: Sequence[str | Request]) -> list[Translation]:
        """Translate lines; each gets exactly one translation, a blank one a blank one."""
        work = self.work(lines)
        found: dict[int, Translation] = {}
        for batch in work.batches:
            translations = self.translate_parts([work.parts[number] for number in batch])
            found |= zip(batch, translations, strict=True)
        return work.joined(found)

    def work(self, lines: Sequence[str | Request]) -> Work:
        """Cut lines that are too long, and put what is of like length together, longest first."""
        requests = list(map(_request, lines))
        sources = self.encode(requests)
        parts = [
            part
            for line, (request, source) in enumerate(zip(requests, sources, strict=True))
            if not blank(request.text)
            for part in self._cut(line, request, source)
        ]
        # What is asked for in words takes more hypotheses, and the whole vocabulary.
        numbers = range(len(parts))
        worded = [number for number in numbers if self._is_worded(parts[number])]
        plain = [number for number in numbers if not self._is_worded(parts[number])]
        batches = [batch for some in (plain, worded) for batch in self._batches(parts, some)]
        return Work(len(requests), parts, batches)

    def encode(self, lines: Sequence[str | Request]) -> list[list[int]]:
        """Turn lines into ids of the source vocabulary, each after its language's tag, if any.

        Raises:
            UserError: there is no tag for a language that is asked for.
        """
        vocabulary, requests = self.vocabularies.source, list(map(_request, lines))
        sources = vocabulary.encode([request.text for request in requests])
        tags = [target_tag(vocabulary, request.to, self.to) for request in requests]
        return [
            source if tag is None else [tag, *source]
            for tag, source in zip(tags, sources, strict=True)
        ]

    def _cut(self, line: int, request: Request, source: list[int]) -> list[Part]:
        limit = self.settings.max_source_length
        if len(source) <= limit:
            return [Part(line, request, source)]
        texts = [
            part for part in split_long(request.text, self._count, limit) if not blank(part.text)
        ]
        later = request._replace(prefix="", require=())  # what is asked for once, the first one has
        requests = [
            (later if number else request)._replace(text=text)
            for number, (text, _) in enumerate(texts)
        ]
        return [
            Part(line, request, source, " " if space else "")
            for request, (_, space), source in zip(
                requests, texts, self.encode(requests), strict=True
            )
        ]

    def _count(self, text: str) -> int:
        return len(self.encode([text])[0])

    def _is_worded(self, part: Part) -> bool:
        request = part.request
        wishes = (request.prefix, request.require, request.avoid, self.settings.avoid)
        return any(wishes) or bool(kept(request.text, self.settings.keep))

    def _batches(self, parts: Sequence[Part], numbers: Sequence[int]) -> Iterator[list[int]]:
        lengths = [len(parts[number].source) for number in numbers]
        for batch in by_length(lengths, self.settings.tokens_per_batch):
            yield [numbers[place] for place in batch]

    def translate_parts(self, parts: Sequence[Part]) -> list[Translation]:
        """Translate a batch, in its order."""
        asked = [self._asked(part) for part in parts]
        found = self._found(parts, asked)
        return self._told(parts, asked, [self._best(hypotheses) for hypotheses in found])

    def score(
        self, pairs: Sequence[tuple[str | Request, Sequence[str]]]
    ) -> list[list[Translation]]:
        """Say what the model thinks of given translations.

        Args:
            pairs: a line, and translations of it.

        Returns:
            Each translation with its score; 0 for those of a blank line.
        """
        requests = [_request(line) for line, _ in pairs]
        parts = [Part(n, requests[n], source) for n, source in enumerate(self.encode(requests))]
        results = [[Translation(text, [], 0.0) for text in texts] for _, texts in pairs]
        numbers = [n for n, (_, texts) in enumerate(pairs) if texts and not blank(requests[n].text)]
        for batch in self._batches(parts, numbers):
            chosen = [parts[number] for number in batch]
            targets = [self.vocabularies.target.encode(pairs[number][1]) for number in batch]
            found = self._forced(chosen, targets)
            for number, part, several, seen in zip(batch, chosen, targets, found, strict=True):
                texts = zip(pairs[number][1], several, seen, strict=True)
                results[number] = [self._scored(part, *each) for each in texts]
        return results

    def attention(self, source: list[int], target: Sequence[int]) -> list[list[float]]:
        """Say what is attended to while a known translation is written, and at its end."""
        ((seen,),) = self._forced([Part(0, Request(""), source)], [[target]])
        return seen.attention

    def _asked(self, part: Part) -> Asked:
        request, settings = part.request, self.settings
        return self._words.asked(
            request.prefix,
            (*request.require, *kept(request.text, settings.keep)),
            (*request.avoid, *settings.avoid),
        )

    def _found(self, parts: Sequence[Part], asked: Sequence[Asked]) -> list[list[Hypothesis]]:
        """Search for a batch's translations; what can't be had is done without.

        Raises:
            ModelError: a line has none even so.
        """
        found = self._searched(parts, asked)
        failed = [number for number, hypotheses in enumerate(found) if not hypotheses]
        if not failed:
            return found
        before, less = [asked[n] for n in failed], [asked[n].less() for n in failed]
        if less == before:
            raise ModelError(
                f"no translation of '{parts[failed[0]].request.text:.60}' can be found: the model's"
                " scores are not numbers, or `search.block_ngrams` leaves too few pieces for the"
                " shortest length"
            )
        again = self._found([parts[n] for n in failed], less)
        for number, hypotheses in zip(failed, again, strict=True):
            found[number] = hypotheses
        return found

    def _searched(self, parts: Sequence[Part], asked: Sequence[Asked]) -> list[list[Hypothesis]]:
        wishes = [self._wishes(part, asking) for part, asking in zip(parts, asked, strict=True)]
        source, lengths = self._columns(parts)
        listed = self._listed(parts)
        found = search(
            self._scorer(listed),
            source,
            lengths,
            wishes,
            symbols=self._symbols,
            settings=self._search,
            uniforms=self._uniforms(parts, wishes),
        )
        if listed is None:
            return found
        return [
            [each._replace(tokens=[listed[token] for token in each.tokens]) for each in hypotheses]
            for hypotheses in found
        ]

    def _listed(self, parts: Sequence[Part]) -> list[int] | None:
        """Say which tokens are scored, where not all are."""
        if self._shortlist is None or any(self._is_worded(part) for part in parts):
            return None
        return self._shortlist.tokens([part.source for part in parts])

    def _wishes(self, part: Part, asked: Asked) -> Wishes:
        settings, length = self.settings, len(part.source)
        # The end of the sentence is one of the ten. What is required comes on top.
        longest = int(length * settings.max_length_ratio) + _EXTRA_LENGTH - 1
        longest += asked.required.tokens if asked.required is not None else 0
        shortest = max(settings.min_length, int(length * settings.min_length_ratio))
        limit = settings.max_length or max(shortest, longest)
        return Wishes(
            min(shortest, limit),
            min(max(shortest, longest), limit),
            prefix=asked.prefix_tokens,
            required=asked.required,
            avoided=asked.avoided,
        )

    def _columns(self, parts: Sequence[Part]) -> tuple[Tensor, Tensor]:
        device = self.network.output.weight.device
        sources = [numpy.asarray(part.source, dtype=numpy.uint32) for part in parts]
        lengths = torch.tensor([len(part.source) for part in parts])
        return pad(sources).to(device), lengths.to(device)

    def _scorer(self, listed: Sequence[int] | None = None) -> Scorer:
        members: Sequence[Scorer] = self._scorers
        if listed is not None:
            tokens = torch.tensor(listed, device=self.network.output.weight.device)
            members = [Shortlisted(each, tokens) for each in self._scorers]
        return members[0] if len(members) == 1 else Ensemble(members)

    def _uniforms(self, parts: Sequence[Part], wishes: Sequence[Wishes]) -> Tensor | None:
        """Make the numbers to draw with, which depend on the seed and the sentence alone."""
        if self.settings.sampling is None:
            return None
        steps = [max(wish.longest, len(wish.prefix)) + 1 for wish in wishes]
        numbers = torch.zeros(len(parts), self.settings.beam, max(steps))
        for row, (part, length) in enumerate(zip(parts, steps, strict=True)):
            key = hashlib.sha256(repr((self.settings.sampling.seed, part.source)).encode())
            generator = numpy.random.Generator(
                numpy.random.Philox(key=int.from_bytes(key.digest()[:16]))
            )
            # In the type they are compared in: others would be rounded, some of them to 1.
            drawn = generator.random((self.settings.beam, length), dtype=numpy.float32)
            numbers[row, :, :length] = torch.from_numpy(drawn)
        return numbers.to(self.network.output.weight.device)

    def _best(self, hypotheses: Sequence[Hypothesis]) -> list[Hypothesis]:
        """Choose those that are given, best first, each once: groups and draws may agree."""
        metric = self.settings.choose_by
        if metric != "score":
            texts = self.vocabularies.target.decode([each.tokens for each in hypotheses])
            utilities = expected_utilities(texts, metric)
            order = sorted(range(len(hypotheses)), key=lambda number: -utilities[number])
            hypotheses = [hypotheses[number] for number in order]
        distinct = {tuple(each.tokens): each for each in reversed(hypotheses)}
        return list(reversed(distinct.values()))[: self.settings.nbest]

    def _told(
        self, parts: Sequence[Part], asked: Sequence[Asked], found: Sequence[Sequence[Hypothesis]]
    ) -> list[Translation]:
        """Write what was found as text, with all that is told of it."""
        attention: list[list[list[list[float]]]] = [[[] for _ in several] for several in found]
        if self._alignments or self.settings.replace_unknown:
            forced = self._forced(parts, [[each.tokens for each in several] for several in found])
            attention = [[seen.attention[:-1] for seen in several] for several in forced]
        told: list[Translation] = []
        for part, asking, several, seen in zip(parts, asked, found, attention, strict=True):
            first, *rest = [
                self._translation(part, asking, hypothesis, weights)
                for hypothesis, weights in zip(several, seen, strict=True)
            ]
            told.append(first._replace(alternatives=rest))
        return told

    def _forced(
        self, parts: Sequence[Part], targets: Sequence[Sequence[Sequence[int]]]
    ) -> list[list[Forced]]:
        return force(self._scorer(), *self._columns(parts), targets, symbols=self._symbols)

    def _translation(
        self, part: Part, asked: Asked, hypothesis: Hypothesis, attention: list[list[float]]
    ) -> Translation:
        tokens = hypothesis.tokens
        spans = asked.spans(tokens)
        if attention and UNK in tokens:
            spans |= self._copied(part, tokens, attention, spans)
        text = self._words.text(tokens, spans)
        return Translation(
            text,
            tokens,
            hypothesis.score,
            hypothesis.log_probability,
            self.vocabularies.source.pieces(part.source),
            self.vocabularies.target.pieces(tokens),
            attention if self._alignments else [],
            unmet=asked.unmet(text),
        )

    def _copied(
        self,
        part: Part,
        tokens: Sequence[int],
        attention: Sequence[Sequence[float]],
        spans: Mapping[tuple[int, int], str],
    ) -> dict[tuple[int, int], str]:
        """Put source pieces in the place of unknown ones that attend to them."""
        pieces = self.vocabularies.source.cut(part.request.text)
        tags = len(part.source) - len(pieces)  # they stand first, and are no text to copy
        covered = {place for start, end in spans for place in range(start, end)}
        unknown = [n for n, token in enumerate(tokens) if token == UNK and n not in covered]
        return {
            (place, place + 1): pieces[_largest(attention[place][tags:])].strip()
            for place in unknown
        }

    def _scored(self, part: Part, text: str, tokens: list[int], seen: Forced) -> Translation:
        total = math.fsum(seen.log_probabilities)
        return Translation(
            text,
            tokens,
            self._search.scoring.score(total, len(tokens) + 1, seen.coverage),
            total,
            self.vocabularies.source.pieces(part.source),
            self.vocabularies.target.pieces(tokens),
            seen.attention[:-1] if self._alignments else [],
        )


def _request(line: str | Request) -> Request:
    return Request(line) if isinstance(line, str) else line


def _largest(weights: Sequence[float]) -> int:
    return max(range(len(weights)), key=weights.__getitem__)


def _join(parts: Sequence[tuple[Translation, str]]) -> Translation:
    """Put the translations of a line's parts together; the score is the mean over the pieces."""
    if len(parts) == 1:
        return parts[0][0]
    several = [translation for translation, _ in parts]
    gaps = [*(gap for _, gap in parts[:-1]), ""]
    lengths = [len(each.tokens) + 1 for each in several]
    total = sum(each.score * length for each, length in zip(several, lengths, strict=True))
    widths = [len(each.source_pieces) for each in several]
    attention: list[list[float]] = []
    for number, each in enumerate(several):
        before, after = sum(widths[:number]), sum(widths[number + 1 :])
        attention += [[0.0] * before + list(row) + [0.0] * after for row in each.attention]
    others = zip(*(each.alternatives for each in several), strict=False)
    return Translation(
        "".join(each.text + gap for each, gap in zip(several, gaps, strict=True)),
        [token for each in several for token in each.tokens],
        total / sum(lengths),
        sum(each.log_probability for each in several),
        [piece for each in several for piece in each.source_pieces],
        [piece for each in several for piece in each.pieces],
        attention,
        [_join(list(zip(other, gaps, strict=True))) for other in others],
        [text for each in several for text in each.unmet],
    )


def _chosen_type(precision: str, device: torch.device) -> torch.dtype | None:
    """Choose what is computed in; nothing means what the weights are in.

    Raises:
        UserError: the device has no kernels for it.
    """
    lack = lack_for("bf16", device)
    if precision == "bf16" and lack:
        raise UserError(f"`search.precision` is 'bf16', but {lack}: write 'auto' or 'float32'")
    wanted = precision == "bf16" or (precision == "auto" and device.type == "cuda" and not lack)
    return torch.bfloat16 if wanted else None


def _in_search_terms(settings: SearchConfig) -> Settings:
    sampling = settings.sampling
    return Settings(
        beam=settings.beam,
        scoring=Scoring(settings.length_penalty, settings.normalisation, settings.coverage_penalty),
        groups=settings.groups,
        diversity=settings.diversity,
        sampling=Sampling(sampling.temperature, sampling.top_k, sampling.top_p)
        if sampling
        else None,
        block_ngrams=settings.block_ngrams,
        repetition_penalty=settings.repetition_penalty,
    )
