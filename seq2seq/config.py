"""Every setting of the program, with its default and its meaning.

The text under a field is what `seq2seq config --schema` and `configs/reference.yaml` say of it. A
section that has several forms is a union told apart by `kind`, so that a setting without effect in
the chosen form is an unknown key. Rules over one field stand with the field, rules over several in
the validator of the smallest section that holds them all.
"""

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    model_validator,
)
from pydantic_core import PydanticCustomError, core_schema


def _whole_number(value: Any) -> Any:
    """Read the text `5e4` as 50000; what isn't a whole number is left for pydantic to refuse."""
    if not isinstance(value, str) or "e" not in value.lower():
        return value
    try:
        number = float(value)
    except ValueError:
        return value
    return int(number) if number.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole_number)]
Positive = Annotated[Whole, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Factor = Annotated[float, Field(gt=0.0, lt=1.0)]
Files = tuple[Path, Path]
RequiredSplit = Literal["train", "validation"]
Tables = Path | Annotated[tuple[Path, ...], Field(min_length=1)]
PrecisionName = Literal["auto", "bf16", "fp16", "tf32", "float32", "float64"]
Algorithm = Literal["unigram", "bpe", "char"]
LoggerName = Literal["tensorboard", "csv", "wandb", "mlflow"]
NAME = "[A-Za-z0-9_-]+"  # what a user may call a part of the config
Name = TypeVar("Name", bound=str)
Text = Annotated[str, Field(min_length=1, pattern=r"\S")]


def _listed(value: Any) -> Any:
    """Read a single name as a list of it."""
    return (value,) if isinstance(value, str) else value


def _without_repeats(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError(f"must name each once, but is [{', '.join(names)}]")
    return names


def _without_spaces(symbol: str) -> str:
    if not symbol or re.search(r"[\s▁]", symbol):
        raise ValueError(f"must be texts with no space and no ▁ in them, but has {symbol!r}")
    return symbol


class _EachOnce:
    """How names are read: a single one without a list, and none twice."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        names = handler(source)
        single = handler(get_args(source)[0])
        return core_schema.no_info_before_validator_function(
            _listed,
            core_schema.no_info_after_validator_function(_without_repeats, names),
            json_schema_input_schema=core_schema.union_schema([single, names]),
        )


Names = Annotated[tuple[Name, ...], _EachOnce()]
Symbol = Annotated[str, AfterValidator(_without_spaces)]


Unit = Literal["steps", "epochs", "tokens", "%"]
_UNITS: dict[str, Unit] = {
    "": "steps",
    "step": "steps",
    "epoch": "epochs",
    "token": "tokens",
    "%": "%",
}
_AMOUNT = r"(?:[0-9]+(?:_[0-9]+)*\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_LENGTH = rf"({_AMOUNT}) *(%|(?:step|epoch|token)s?|)"


class Length(NamedTuple):
    """How long a part of a run lasts: `500` or `500 steps`, `2 epochs`, `1e6 tokens`, `10%`.

    Tokens are real target tokens, ends of sentence counted; per cent are of the run's steps.
    """

    amount: float
    unit: Unit = "steps"

    @staticmethod
    def read(value: Any) -> "Length":
        """Read what is written in a config.

        Raises:
            PydanticCustomError: it is no length.
        """
        if isinstance(value, Length):
            return value
        if match := re.fullmatch(_LENGTH, str(value).strip()):
            number, unit = float(match[1]), _UNITS[match[2].rstrip("s")]
            whole = unit in ("steps", "tokens")
            if 0.0 < number < math.inf and (number.is_integer() or not whole):
                return Length(number, unit)
        raise PydanticCustomError("length", "must be a length")

    @property
    def steps(self) -> int:
        """The number of steps, where it is given in steps."""
        assert self.unit == "steps"
        return int(self.amount)

    def written(self) -> int | str:
        """Write it as a config does."""
        if self.unit == "steps":
            return self.steps
        whole = int(self.amount)
        amount = whole if whole == self.amount else self.amount
        if self.unit == "%":
            return f"{amount}%"
        return f"{amount} {self.unit if amount != 1 else self.unit.removesuffix('s')}"

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.read, serialization=core_schema.plain_serializer_function_ser_schema(cls.written)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, *_: Any) -> dict[str, Any]:
        return {"type": ["integer", "string"], "minimum": 1, "pattern": f"^{_LENGTH}$"}


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _kind_unless_told(kind: str) -> Callable[[Any], Any]:
    """Read the settings of runs that were begun when a section had this kind alone."""

    def told(value: Any) -> Any:
        return {"kind": kind, **value} if isinstance(value, dict) else value

    return told


class Section(BaseModel):
    """A part of the config: frozen, and every key known."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class SampleCorpus(Section):
    """A bilingual corpus of dates, quantities, money and names, made from the Unicode CLDR."""

    kind: Literal["sample"] = "sample"
    """The embedded corpus."""
    pairs: Positive = 30000
    """Number of training pairs."""
    held_out: Positive = 600
    """Number of pairs of the validation and of the test set each."""

    def lacks(self, split: RequiredSplit) -> bool:
        """Whether it has no such split."""
        return False


class _Sourced(Section):
    """A corpus whose splits are named one by one, each or none."""

    def lacks(self, split: RequiredSplit) -> bool:
        """Whether it has no such split."""
        return getattr(self, split) is None


class HubCorpus(_Sourced):
    """A data set of the Hugging Face Hub, or a local folder in the Hub's layout.

    Its library's own variables count: HF_TOKEN for private and gated sets, HF_HOME for where sets
    are kept, HF_HUB_OFFLINE=1 for those that are there already.
    """

    kind: Literal["hub"]
    """A data set of the Hub."""
    name: str
    """Name on the Hub, such as `bentrevett/multi30k`, or a local folder."""
    configuration: str | None = None
    """Name of the set's configuration, where it has several."""
    revision: str | None = None
    """Branch, tag or commit of the set on the Hub."""
    streaming: bool = False
    """Read the rows as they arrive, for sets that the disk doesn't hold; only whole splits."""
    train: str | None = "train"
    """Split to train on; a part of it as in `train[:1%]`, several as in `train+extra`."""
    validation: str | None = "validation"
    """Split to validate on."""
    test: str | None = "test"
    """Split for the final score."""
    source_column: str | None = None
    """Column of source text; by default the source language's code, alone or in `translation`."""
    target_column: str | None = None
    """Column of target text; by default the target language's code, alone or in `translation`."""

    @model_validator(mode="after")
    def _stream_whole_splits(self) -> "HubCorpus":
        for key in ("train", "validation", "test"):
            split = getattr(self, key)
            if self.streaming and split is not None and set("[+") & set(split):
                raise ValueError(
                    f"`{key}` must be the name of one split, the whole of it, where `streaming` is"
                    f" true, but is {split!r}"
                )
        return self


class TextCorpus(_Sourced):
    """Parallel text files, one sentence a line, plain or packed (`.gz`, `.xz`, `.bz2`, `.zst`).

    A pattern (`*`, `?`, `[…]`, `**`) stands for all the files it matches, in the order of their
    names: as many on both sides.
    """

    kind: Literal["text"]
    """Parallel text files."""
    train: Files | None = None
    """Source file and target file to train on, or a pattern of such files each."""
    validation: Files | None = None
    """Source file and target file to validate on."""
    test: Files | None = None
    """Source file and target file for the final score."""


class TableCorpus(_Sourced):
    """Files that hold both sides: `.parquet`, `.arrow`, `.jsonl`, `.csv`, `.tsv`.

    The last three also packed, as in `.tsv.gz`; `.ndjson` and `.json` are read as `.jsonl`, one
    object a line. A file can be a pattern, as for text files.
    """

    kind: Literal["table"]
    """Tables in files."""
    train: Tables | None = None
    """File to train on, or a list of files."""
    validation: Tables | None = None
    """File to validate on, or a list of files."""
    test: Tables | None = None
    """File for the final score, or a list of files."""
    source_column: str | None = None
    """Column of source text; by default the source language's code, alone or in `translation`."""
    target_column: str | None = None
    """Column of target text; by default the target language's code, alone or in `translation`."""
    header: bool = True
    """Whether the first line of `.csv` and `.tsv` names the columns; else they are 1, 2 and so on.

    Without one, source and target are columns 1 and 2 by default.
    """


class TmxCorpus(_Sourced):
    """Translation memories: TMX files, plain or packed, read unit by unit.

    A language is known by its code: `en` is `EN-GB`, too. Codes of formatting in a segment are left
    out. A file can be a pattern, as for text files.
    """

    kind: Literal["tmx"]
    """Translation memories."""
    train: Tables | None = None
    """File to train on, or a list of files."""
    validation: Tables | None = None
    """File to validate on, or a list of files."""
    test: Tables | None = None
    """File for the final score, or a list of files."""


OneCorpus = SampleCorpus | HubCorpus | TextCorpus | TableCorpus | TmxCorpus
PartName = Annotated[str, Field(pattern=rf"^{NAME}$")]


class MixPart(Section):
    """A corpus of a mix."""

    corpus: Annotated[OneCorpus, Field(discriminator="kind")]
    """The text, as an own corpus would be written; it may lack splits."""
    source: str | None = None
    """Language to translate from; none: `data.source`."""
    target: str | None = None
    """Language to translate into; none: `data.target`."""
    limit: Positive | None = None
    """Most training pairs that are taken, the first ones; none: all."""
    weight: Annotated[float, Field(gt=0.0)] = 1.0
    """How often each training pair comes in an epoch: 2.5 is two times or three, at random."""

    @model_validator(mode="after")
    def _train_where_it_counts(self) -> "MixPart":
        given = {"limit": self.limit is not None, "weight": self.weight != 1.0}
        clashes = [
            f"`{key}` has no effect, since there is no `corpus.train`"
            for key, is_given in given.items()
            if is_given and self.corpus.lacks("train")
        ]
        if clashes:
            raise ValueError("\n".join(clashes))
        return self


class MixCorpus(Section):
    """Several corpora in one run; some of them must have `train`, and some `validation`."""

    kind: Literal["mix"]
    """Several corpora."""
    parts: Annotated[dict[PartName, MixPart], Field(min_length=1)]
    """The corpora, each under a name of letters, digits, - and _."""
    temperature: Annotated[float, Field(gt=0.0)] | None = None
    """Sets the weights: 1 leaves all at 1, and the higher, the more often small corpora come.

    An epoch then has of a corpus of n pairs a share that grows with n^(1/temperature), the largest
    corpus each pair once. None: each part has its own weight.
    """

    def lacks(self, split: RequiredSplit) -> bool:
        """Whether it has no such split."""
        return all(part.corpus.lacks(split) for part in self.parts.values())

    @model_validator(mode="after")
    def _weigh_in_one_way(self) -> "MixCorpus":
        weighted = [name for name, part in self.parts.items() if part.weight != 1.0]
        if self.temperature is not None and weighted:
            raise ValueError(
                f"`temperature` must be null where parts have a weight ({', '.join(weighted)}),"
                f" but is {self.temperature}"
            )
        return self


class CleaningConfig(Section):
    """Rules that training pairs must pass; `seq2seq prepare` counts and shows what each removes.

    Pairs that are empty on a side, or longer than `data.max_length`, are left out in any case.
    """

    characters: Positive = 5000
    """Most characters of a side."""
    repair: bool = True
    """Drop control characters, and undo UTF-8 that was read as Windows-1252, before other rules."""
    ratio: Annotated[float, Field(ge=1.0)] | None = 6.0
    """Most characters of a side for one of the other; 20 more are allowed. None: any number."""
    identical: Positive | None = 4
    """Leave out pairs whose sides are the same text of so many words or more. None: keep them."""
    repeats: Positive | None = None
    """Most times that a character comes in a row, such as 20. None: any number."""
    broken: bool = True
    """Leave out pairs with signs that stand for lost ones (U+FFFD), or of private use."""
    markup: bool = True
    """Leave out pairs of which one side has other HTML or XML tags and entities than the other."""
    scripts: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Least share of a side's letters in its language's scripts, such as 0.5. None: any share."""
    duplicates: Literal["keep", "exact", "near"] = "exact"
    """Leave out pairs that come again: `exact`ly, or `near`ly, with the same letters and digits."""
    overlap: Literal["refuse", "remove", "tell", "ignore"] = "refuse"
    """What becomes of training pairs that are nearly in the validation or the test set, too.

    `refuse` makes no data folder, `tell` only says how many there are, `ignore` doesn't look.
    """


class DataConfig(Section):
    """Where the text comes from and where the prepared data goes."""

    source: str = "en"
    """Language to translate from: a code such as `en`; for the sample corpus a CLDR locale."""
    target: str = "de"
    """Language to translate into; with `data.tags`, where nothing else is asked for."""
    tags: bool = False
    """Begin each source sentence with a tag of its target language, so that one model has several.

    `seq2seq translate --to` chooses among them.
    """
    folder: Path = Path("data/sample-en-de")
    """Folder of the prepared data: vocabulary, ids, manifest."""
    corpus: Annotated[OneCorpus | MixCorpus, Field(discriminator="kind")] = SampleCorpus()
    """The parallel text: `kind` is `sample`, `hub`, `text`, `table`, `tmx` or `mix`."""
    max_length: Positive = 200
    """Training pairs with more pieces than this on either side are left out."""
    cleaning: CleaningConfig = CleaningConfig()
    """What else is left out of training."""

    @property
    def parts(self) -> "dict[str, DataConfig]":
        """The corpora of a mix by name, each with its languages; any other under no name."""
        if not isinstance(self.corpus, MixCorpus):
            return {"": self}
        return {
            name: self.model_copy(
                update={
                    "corpus": part.corpus,
                    "source": part.source or self.source,
                    "target": part.target or self.target,
                }
            )
            for name, part in self.corpus.parts.items()
        }

    @property
    def targets(self) -> list[str]:
        """The languages that are translated into, each once."""
        return list(dict.fromkeys(part.target for part in self.parts.values()))

    @property
    def default_target(self) -> str | None:
        """The language whose tag a sentence has that names none; none where there are no tags."""
        return self.target if self.tags else None

    @model_validator(mode="after")
    def _fit_together(self) -> "DataConfig":
        splits: tuple[RequiredSplit, ...] = ("train", "validation")
        clashes = [self._lack(split) for split in splits if self.corpus.lacks(split)]
        if len(self.targets) > 1 and not self.tags:
            clashes.append(
                "`data.tags` must be true where `data.corpus.parts` have several target languages"
                f" ({', '.join(self.targets)}), but is false"
            )
        if self.target not in self.targets:
            clashes.append(
                "`data.target` must be a target language of `data.corpus.parts`"
                f" ({', '.join(self.targets)}), but is {self.target!r}"
            )
        if clashes:
            raise ValueError("\n".join(clashes))
        return self

    def _lack(self, split: RequiredSplit) -> str:
        if isinstance(self.corpus, MixCorpus):
            return f"`data.corpus.parts` must have a part with `corpus.{split}`, but have none"
        return (
            f"`data.corpus.{split}` is missing, but data.corpus of kind {self.corpus.kind!r} needs"
            " it"
        )


class VocabularyConfig(Section):
    """SentencePiece vocabularies that `seq2seq prepare` learns from the training text."""

    kind: Literal["learnt"] = "learnt"
    """Learnt from the training text."""
    algorithm: Algorithm = "unigram"
    """How SentencePiece chooses the pieces; `char`: each character is one."""
    joint: bool = True
    """One vocabulary for both languages, or one each."""
    size: Positive = 8000
    """Number of pieces (of each vocabulary), the four special ones and tags included.

    It is rounded up to a multiple of 8, which GPUs like, where the text supports that. With `char`
    it is the most there may be: rare characters are left out.
    """
    character_coverage: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of the text's characters that get a piece; 0.9995 for Japanese or Chinese."""
    split_digits: bool = False
    """Make every digit a piece of its own, for text full of numbers."""
    normalization: Literal["identity", "nfkc", "nmt_nfkc", "nfkc_cf", "nmt_nfkc_cf"] = "identity"
    """SentencePiece's rule; all but `identity` change quotes, dots, full-width forms (`_cf`: case).

    The text is brought to Unicode's NFC before it in any case.
    """
    byte_fallback: bool = False
    """Write characters that have no piece in bytes, so that none is unknown; takes 256 pieces."""
    symbols: Names[Symbol] = ()
    """Texts that are always one piece, wherever they stand, such as `[<br>, ©]`."""
    sample: Positive = 1_000_000
    """Most lines of each side that the pieces are learnt from, drawn from all of them."""

    @model_validator(mode="after")
    def _digits_are_characters(self) -> "VocabularyConfig":
        if self.split_digits and self.algorithm == "char":
            raise ValueError(
                "`vocabulary.split_digits` must be false where `vocabulary.algorithm` is 'char',"
                " since each digit is a piece anyway, but is true"
            )
        return self


class VocabularyFiles(Section):
    """SentencePiece models that are there already, of this program or of another one."""

    kind: Literal["file"]
    """SentencePiece models in files."""
    source: Path
    """Model of the source, such as `spm.model`."""
    target: Path | None = None
    """Model of the target; none: that of the source, so that both languages share it."""

    @property
    def joint(self) -> bool:
        """Whether both languages share one vocabulary."""
        return self.target is None


AnyVocabulary = Annotated[
    VocabularyConfig | VocabularyFiles,
    Field(discriminator="kind"),
    BeforeValidator(_kind_unless_told("learnt")),
]


class DropoutConfig(Section):
    """Shares of what is left out at random in training."""

    embeddings: Share = 0.2
    """Of each embedding's components, the same at all positions of a sentence."""
    layers: Share = 0.2
    """Of each recurrent layer's input components, the same at all positions of a sentence."""
    output: Share = 0.2
    """Of the components of the layer before the vocabulary, the same at all positions."""
    words: Share = 0.0
    """Of whole input words (pieces) of both sides."""


class Lstm(Section):
    """Long short-term memory: four gates, and a cell that they guard."""

    kind: Literal["lstm"] = "lstm"
    """Long short-term memory."""
    forget_bias: float = 1.0
    """What the forget gates' bias begins with: 1 lets the cell remember from the start."""


class Gru(Section):
    """Gated recurrent units: three gates, no cell; slower than `lstm` on most machines."""

    kind: Literal["gru"]
    """Gated recurrent units."""


class Rnn(Section):
    """Plain recurrent units (tanh), to see what gates buy."""

    kind: Literal["rnn"]
    """Plain recurrent units."""


class General(Section):
    """Products of states and keys, which a learnt matrix makes of the encoder's states."""

    kind: Literal["general"] = "general"
    """Products through a learnt matrix."""
    scaled: bool = True
    """Divide the products by the root of the state's width; wide states do badly without."""


class Dot(Section):
    """Products of the decoder's and the encoder's states, which must be equally wide."""

    kind: Literal["dot"]
    """Products of the states themselves."""
    scaled: bool = True
    """Divide the products by the root of the state's width; wide states do badly without."""


class Additive(Section):
    """A small network scores each pair of positions; takes `size` times the products' memory."""

    kind: Literal["additive"]
    """A small network with one hidden layer."""
    size: Positive = 256
    """Width of the hidden layer."""
    normalised: bool = False
    """Normalise the vector of scores, with a learnt length, and give the hidden layer a bias."""


class MultiHead(Section):
    """Several scaled products, each of a part of states, keys and values."""

    kind: Literal["multi_head"]
    """Several products side by side."""
    heads: Positive = 4
    """Number of parts; a divisor of the widths of the decoder's and the encoder's states."""


class Xavier(Section):
    """Matrices uniform, as wide as their sizes ask for (Glorot and Bengio 2010)."""

    kind: Literal["xavier"] = "xavier"
    """Uniform, the wider the smaller the matrix."""
    orthogonal: bool = True
    """Make the recurrent matrix of each gate orthogonal."""


class Uniform(Section):
    """Matrices uniform between two numbers; embeddings are normal in any case."""

    kind: Literal["uniform"]
    """Uniform, the same for all matrices."""
    spread: Annotated[float, Field(gt=0.0)] = 0.1
    """Largest weight; its negative is the smallest."""
    orthogonal: bool = False
    """Make the recurrent matrix of each gate orthogonal."""


AttentionSettings = General | Dot | Additive | MultiHead


class ModelConfig(Section):
    """The network: a recurrent encoder and a recurrent decoder with attention."""

    embedding_size: Positive = 256
    """Width of the embeddings, and of the layer before the vocabulary."""
    encoder_layers: Positive = 1
    """Number of encoder layers."""
    encoder_size: Positive = 256
    """Width of the encoder's state in each direction."""
    bidirectional_layers: Annotated[Whole, Field(ge=0)] | None = None
    """Number of encoder layers, the lowest ones, that read in both directions; none: all."""
    encoder_residual_from: Annotated[Whole, Field(ge=2)] | None = None
    """First encoder layer, counted from 1, that adds what it is given; none: no layer does."""
    decoder_layers: Positive = 2
    """Number of decoder layers."""
    decoder_size: Positive = 256
    """Width of the decoder's state."""
    decoder_residual_from: Annotated[Whole, Field(ge=2)] | None = None
    """First decoder layer, counted from 1, that adds what it is given; none: no layer does."""
    layout: Literal["gnmt", "luong", "input_feeding"] = "gnmt"
    """Where the decoder attends.

    `gnmt`: its lowest layer, and all above see the context; `luong`: its highest layer;
    `input_feeding`: its highest layer, and the lowest is fed the last readout. Only the last needs
    a loop over time: it takes several times as long.
    """
    attention: Annotated[AttentionSettings, Field(discriminator="kind")] = General()
    """The attention: `kind` is `general`, `dot`, `additive` or `multi_head`."""
    bridge: Literal["projection", "copy", "zero"] = "projection"
    """What the decoder begins with.

    `projection`: the projected mean of the encoder's states; `copy`: the last state of the
    encoder's layer of the same number, which must be as wide; `zero`: nothing.
    """
    cell: Annotated[Lstm | Gru | Rnn, Field(discriminator="kind")] = Lstm()
    """The recurrent cell of encoder and decoder: `kind` is `lstm`, `gru` or `rnn`."""
    initialisation: Annotated[Xavier | Uniform, Field(discriminator="kind")] = Xavier()
    """What the weights are before training: `kind` is `xavier` or `uniform`."""
    tied: Literal["all", "target", "none"] = "all"
    """Share one table between source, target and output; target and output; or nothing."""
    dropout: DropoutConfig = DropoutConfig()
    """Dropout."""

    @model_validator(mode="after")
    def _fit_together(self) -> "ModelConfig":
        clashes = [*self._clashes_of_layers(), *self._clashes_of_widths()]
        if clashes:
            raise ValueError("\n".join(clashes))
        return self

    @property
    def num_bidirectional(self) -> int:
        """Number of encoder layers that read in both directions."""
        both = self.bidirectional_layers
        return self.encoder_layers if both is None else both

    @property
    def encoder_widths(self) -> list[int]:
        """Width of what each encoder layer gives, the lowest first."""
        directions = [2] * self.num_bidirectional + [1] * self.encoder_layers
        return [number * self.encoder_size for number in directions[: self.encoder_layers]]

    def _clashes_of_layers(self) -> Iterator[str]:
        if self.num_bidirectional > self.encoder_layers:
            yield (
                "`model.bidirectional_layers` must be at most `model.encoder_layers` ="
                f" {self.encoder_layers}, but is {self.bidirectional_layers}"
            )
        widths = {
            "encoder": [self.embedding_size, *self.encoder_widths],
            "decoder": [self.embedding_size, *[self.decoder_size] * self.decoder_layers],
        }
        for part, inner in widths.items():
            first = getattr(self, f"{part}_residual_from")
            if first is None:
                continue
            if first >= len(inner):
                yield (
                    f"`model.{part}_residual_from` must be at most `model.{part}_layers` ="
                    f" {len(inner) - 1}, but is {first}"
                )
            elif len(set(inner[first - 1 :])) > 1:
                unlike = max(n for n in range(first, len(inner)) if inner[n] != inner[n - 1])
                least = "" if unlike + 1 == len(inner) else f" or at least {unlike + 1}"
                yield (
                    f"`model.{part}_residual_from` must be none{least}, since layer {unlike} is"
                    f" not as wide as what it is given, but is {first}"
                )

    def _clashes_of_widths(self) -> Iterator[str]:
        memory, size = self.encoder_widths[-1], self.decoder_size
        of_memory = f"the width of the encoder's highest layer, {memory}"
        match self.attention:
            case Dot() if memory != size:
                yield (
                    f"`model.decoder_size` must be {of_memory}, where `model.attention.kind` is"
                    f" 'dot', but is {size}"
                )
            case MultiHead(heads=heads) if size % heads or memory % heads:
                yield (
                    f"`model.attention.heads` must divide `model.decoder_size` = {size} and"
                    f" {of_memory}, but is {heads}"
                )
            case _:
                pass
        if self.bridge == "copy" and self.encoder_widths != [size] * self.decoder_layers:
            yield (
                "`model.bridge` must be 'projection' or 'zero' where the encoder's layers, which"
                f" are {_listing(self.encoder_widths)} wide, are not as many and as wide as the"
                f" decoder's ({_listing([size] * self.decoder_layers)}), but is 'copy'"
            )


def _listing(widths: list[int]) -> str:
    return ", ".join(map(str, widths))


class BaseConfig(Section):
    """A trained model to start from (fine-tuning).

    Its settings are the defaults of `model`, of which only the dropout may differ, and of
    `vocabulary`, which may differ only if `base.vocabulary` is `own`.
    """

    model: Path
    """Model folder, such as `runs/sample-en-de/model`; it is never written to."""
    vocabulary: Literal["base", "own"] = "base"
    """Use the base's vocabulary, or learn an own one from the new text.

    Pieces that an own one shares with the base's keep what the base learnt of them.
    """
    keep: Names[Literal["optimizer", "schedule", "position"]] = ()
    """What goes on where the base's run was: any of `optimizer`, `schedule` and `position`.

    They are the optimizer's averages, the learning rate's schedule (no new warm-up), and the place
    in the training data, if the data is the same. The rest starts afresh. The base's checkpoint
    must still be in its run folder.
    """
    freeze: Names[Literal["embeddings", "encoder", "decoder"]] = ()
    """Parts that stay as they are: any of `embeddings`, `encoder` and `decoder`.

    A table that the output layer shares belongs to the embeddings; the rest of the output layer,
    the attention and the readout to the decoder.
    """

    @model_validator(mode="after")
    def _leave_something_to_do(self) -> "BaseConfig":
        if len(self.freeze) == 3:
            raise ValueError(
                "`base.freeze` must leave a part to train, but is embeddings, encoder and decoder"
            )
        if self.vocabulary == "own" and "optimizer" in self.keep:
            raise ValueError(
                "`base.keep` must not have optimizer where `base.vocabulary` is own, since its"
                " averages are of the base's pieces"
            )
        return self


class InverseSquareRoot(Section):
    """Linear warm-up, then a rate that falls with the inverse square root of the step."""

    kind: Literal["inverse_sqrt"] = "inverse_sqrt"
    """Warm-up, then inverse square root."""
    warmup: Length = Length(500)
    """Linear warm-up: `500` (steps), `2 epochs`, `1e6 tokens`, or `10%` of the run's steps."""


class Linear(Section):
    """Linear warm-up, then a straight line that reaches zero after the last step."""

    kind: Literal["linear"]
    """Warm-up, then linearly to zero at the end of the run."""
    warmup: Length = Length(500)
    """Linear warm-up."""


class Cosine(Section):
    """Linear warm-up, then half a cosine that reaches its end after the last step."""

    kind: Literal["cosine"]
    """Warm-up, then half a cosine to the end of the run."""
    warmup: Length = Length(500)
    """Linear warm-up."""
    end: Share = 0.0
    """Share of the highest rate that is left at the end of the run."""


class Constant(Section):
    """Linear warm-up, then the highest rate to the end."""

    kind: Literal["constant"]
    """Warm-up, then constant."""
    warmup: Length = Length(500)
    """Linear warm-up."""


class Plateau(Section):
    """Linear warm-up, then a rate that is cut whenever validations stop getting better."""

    kind: Literal["plateau"]
    """Warm-up, then constant until validations stop getting better."""
    warmup: Length = Length(500)
    """Linear warm-up."""
    factor: Factor = 0.5
    """What the rate is multiplied with."""
    patience: Annotated[Whole, Field(ge=0)] = 1
    """Validations in a row without a better score that are let pass before a cut."""


class Gnmt(Section):
    """Warm-up, then the highest rate for most of the run, then a few cuts: MLPerf's GNMT."""

    kind: Literal["gnmt"]
    """Warm-up, constant, then cut at even distances."""
    warmup: Length = Length(200)
    """Warm-up."""
    growth: Literal["exponential", "linear"] = "exponential"
    """How the rate grows in the warm-up; `exponential` begins with a hundredth."""
    start: Length = Length(66.6, "%")
    """How far the run has come, the warm-up counted, before the first cut."""
    interval: Length | None = None
    """What lies between two cuts; none: as much as spreads them over the rest of the run."""
    cuts: Positive = 4
    """How often the rate is cut."""
    factor: Factor = 0.5
    """What the rate is multiplied with."""


Schedule = InverseSquareRoot | Linear | Cosine | Constant | Plateau | Gnmt
AnySchedule = Annotated[Schedule, Field(discriminator="kind")]


class AdamW(Section):
    """Adam with decoupled weight decay, its rate and its clipping."""

    kind: Literal["adamw"] = "adamw"
    """Adam with decoupled weight decay."""
    learning_rate: Annotated[float, Field(gt=0.0)] = 2e-3
    """The highest rate, reached at the end of the warm-up."""
    betas: tuple[Share, Share] = (0.9, 0.98)
    """Decay of the averages of the gradient and of its square."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 1e-4
    """Decoupled weight decay."""
    clip: Annotated[float, Field(gt=0.0)] = 1.0
    """Largest norm of the gradient over all parameters."""
    schedule: AnySchedule = InverseSquareRoot()
    """How the rate changes: `inverse_sqrt`, `linear`, `cosine`, `constant`, `plateau` or `gnmt`."""


class Adam(Section):
    """Adam, whose weight decay is a part of the gradient."""

    kind: Literal["adam"]
    """Adam."""
    learning_rate: Annotated[float, Field(gt=0.0)] = 2e-3
    """The highest rate, reached at the end of the warm-up."""
    betas: tuple[Share, Share] = (0.9, 0.98)
    """Decay of the averages of the gradient and of its square."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    """Share of each weight that is added to its gradient."""
    clip: Annotated[float, Field(gt=0.0)] = 1.0
    """Largest norm of the gradient over all parameters."""
    schedule: AnySchedule = InverseSquareRoot()
    """How the rate changes: `inverse_sqrt`, `linear`, `cosine`, `constant`, `plateau` or `gnmt`."""


class Sgd(Section):
    """Stochastic gradient descent."""

    kind: Literal["sgd"]
    """Stochastic gradient descent."""
    learning_rate: Annotated[float, Field(gt=0.0)] = 1.0
    """The highest rate, reached at the end of the warm-up."""
    momentum: Share = 0.0
    """Share of the last change that is made again; 0: none.

    A momentum of 0.9 makes changes ten times as large, and calls for a rate that is lower.
    """
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    """Share of each weight that is added to its gradient."""
    clip: Annotated[float, Field(gt=0.0)] = 1.0
    """Largest norm of the gradient over all parameters."""
    schedule: AnySchedule = InverseSquareRoot()
    """How the rate changes: `inverse_sqrt`, `linear`, `cosine`, `constant`, `plateau` or `gnmt`."""


Optimizer = AdamW | Adam | Sgd


class CheckpointConfig(Section):
    """What a run can go on from."""

    every: Positive = 500
    """Steps between two checkpoints; there is one at each stop and at the end in any case."""
    minutes: Annotated[float, Field(gt=0.0)] | None = 15.0
    """Most minutes between two checkpoints; none: steps alone count."""
    keep_last: Positive = 2
    """Number of newest checkpoints that are kept."""
    keep_best: Positive = 1
    """Number of checkpoints with the best validation scores that are kept."""


class PlainSegmentation(Section):
    """The same text is always cut into the same pieces."""

    kind: Literal["none"] = "none"
    """No sampling."""


class UnigramSampling(Section):
    """Draws among all ways to cut a text, by the probabilities of their pieces (Kudo 2018).

    For vocabularies of `algorithm` unigram.
    """

    kind: Literal["unigram"]
    """By the probabilities of pieces."""
    alpha: Annotated[float, Field(ge=0.0)] = 0.2
    """Exponent of the probabilities: the lower, the more and the shorter the pieces."""


class BpeDropout(Section):
    """Leaves merges of pieces out at random (Provilkov et al. 2020).

    For vocabularies of `algorithm` bpe.
    """

    kind: Literal["bpe_dropout"]
    """By merges that are left out."""
    share: Share = 0.1
    """Share of the merges that are left out, each time that one could be made."""


Segmentation = PlainSegmentation | UnigramSampling | BpeDropout
SAMPLED: dict[str, Algorithm] = {"unigram": "unigram", "bpe_dropout": "bpe"}
"""The algorithm of the vocabularies that each kind of sampling is for."""


class TrainingConfig(Section):
    """How long to train, in what portions, and where to."""

    folder: Path = Path("runs/sample-en-de")
    """Run folder: checkpoints, metrics, and the best model so far."""
    steps: Positive = 2000
    """Number of optimizer steps."""
    tokens_per_step: Positive = 4096
    """Most real target tokens (ends of sentence counted) in one optimizer step."""
    tokens_per_device: Positive | Literal["auto"] = 25000
    """Most padded source and target positions that are computed at once; a step is cut to fit.

    `auto` finds the most that a GPU's memory holds, when the run begins, and keeps to it.
    """
    sampling: Annotated[Segmentation, Field(discriminator="kind")] = PlainSegmentation()
    """New pieces for each sentence in each epoch: `kind` is `none`, `unigram` or `bpe_dropout`."""
    label_smoothing: Share = 0.1
    """Share of the probability that the loss spreads over the whole vocabulary."""
    optimizer: Annotated[
        Optimizer, Field(discriminator="kind"), BeforeValidator(_kind_unless_told("adamw"))
    ] = AdamW()
    """The optimizer: `kind` is `adamw`, `adam` or `sgd`."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """Checkpoints."""
    ema: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Decay of an average of the weights over the steps, such as 0.999; none: no average.

    The average is what is validated and saved as the model; training goes on with the weights.
    """
    log_every: Positive = 50
    """Steps between two lines of `metrics.jsonl`."""


class SamplingConfig(Section):
    """Hypotheses are drawn, each by itself, in place of the likeliest being kept."""

    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    """What logits are divided by: below 1, likely pieces become likelier."""
    top_k: Annotated[Whole, Field(ge=0)] = 0
    """Number of likeliest pieces that are drawn from; 0: all."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of the probability that the likeliest pieces, drawn from, have together; 1: all."""
    seed: Annotated[Whole, Field(ge=0, le=2**32 - 1)] = 1
    """Where the randomness comes from; a sentence has the same samples wherever it stands."""


class SearchConfig(Section):
    """How translations are searched for."""

    beam: Positive = 5
    """Number of hypotheses kept (or drawn) for each sentence; 1 is greedy search."""
    groups: Positive = 1
    """Number of groups that the beam is divided into, so that hypotheses differ more."""
    diversity: Annotated[float, Field(ge=0.0)] = 0.5
    """What a piece loses, in nats, for each hypothesis of the groups before that chose it."""
    sampling: SamplingConfig | None = None
    """Draws hypotheses; none: beam search."""
    length_penalty: Annotated[float, Field(ge=0.0, le=10.0)] = 1.0
    """Exponent of the length that a log-probability is divided by: 0 favours short, 1 averages."""
    normalisation: Literal["average", "gnmt"] = "average"
    """What has that exponent: the length, end counted, or, `gnmt`, (5 + length) / 6."""
    coverage_penalty: Annotated[float, Field(ge=0.0)] = 0.0
    """How much it counts that source pieces were hardly attended to, when the best is chosen."""
    min_length: Annotated[Whole, Field(ge=0)] = 1
    """Fewest pieces of a translation."""
    max_length: Positive | None = None
    """Most pieces of a translation; none: the ratio alone counts."""
    min_length_ratio: Annotated[float, Field(ge=0.0)] = 0.0
    """Shortest translation, as a multiple of the source's number of pieces."""
    max_length_ratio: Annotated[float, Field(gt=0.0)] = 2.0
    """Longest translation, as a multiple of the source's number of pieces, plus 10."""
    block_ngrams: Annotated[Whole, Field(ge=0)] = 0
    """Length of sequences of pieces that come once in a translation at most; 0: any may repeat."""
    repetition_penalty: Annotated[float, Field(ge=1.0)] = 1.0
    """What the log-probability of a piece that came before is multiplied with; 1: nothing."""
    avoid: Names[Text] = ()
    """Words and phrases that no translation may have, in these very letters."""
    keep: Names[Literal["url", "tag", "number"]] = ()
    """What a translation takes over from its source: any of `url`, `tag` and `number`."""
    replace_unknown: bool = False
    """Whether pieces may be unknown, and become the source pieces that they attend to."""
    choose_by: Literal["score", "chrf", "bleu"] = "score"
    """What is best: the highest score, or, by a metric, what is most like all hypotheses."""
    nbest: Positive = 1
    """Number of hypotheses that are given, best first."""
    shortlist: bool = False
    """Whether only likely pieces are scored, as `seq2seq shortlist` finds; training scores all."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """What is computed in; `auto` is bf16 on a GPU that is made for it, else float32."""
    max_source_length: Positive = 200
    """A line of more pieces is cut at ends of sentences, and its parts are translated."""
    tokens_per_batch: Positive = 4000
    """Most padded source positions that are translated at once."""

    @model_validator(mode="after")
    def _fit_together(self) -> "SearchConfig":
        clashes: list[str] = []
        if self.beam % self.groups:
            clashes.append(
                f"`beam` must be a multiple of `groups` = {self.groups}, but is {self.beam}"
            )
        if self.sampling and self.groups > 1:
            clashes.append(f"`groups` must be 1 where `sampling` is given, but is {self.groups}")
        limits = [
            ("nbest", "beam", self.beam),
            ("min_length", "max_length", self.max_length),
            ("min_length_ratio", "max_length_ratio", self.max_length_ratio),
        ]
        clashes += [
            f"`{name}` must be at most `{limit}` = {most}, but is {getattr(self, name)}"
            for name, limit, most in limits
            if most is not None and getattr(self, name) > most
        ]
        if clashes:
            raise ValueError("\n".join(clashes))
        return self


class ValidationConfig(Section):
    """Scores on the validation set during training."""

    every: Positive = 500
    """Steps between two validations; there is one at the end in any case."""
    patience: Positive | None = None
    """Validations in a row without a better BLEU before training stops; none: never."""
    samples: Annotated[Whole, Field(ge=0)] = 3
    """Number of translations shown at each validation."""
    search: SearchConfig | None = None
    """Search settings for validation; none: those of `search`."""


class MonitoringConfig(Section):
    """Where a run can be watched, beside the terminal and `metrics.jsonl`."""

    loggers: Names[LoggerName] = ("tensorboard",)
    """Any of `tensorboard`, `csv`, `wandb` and `mlflow`, in a list; `[]` is none.

    `tensorboard` and `csv` write to folders of these names in the run folder. `wandb` and `mlflow`
    are extras to install; their own environment variables name servers and keys.
    """
    project: str = "seq2seq"
    """Project of the run at Weights & Biases, and its experiment at MLflow."""
    attention: Annotated[Whole, Field(ge=0)] = 2
    """Number of attention pictures drawn at each validation, of the first sentences."""


class TrainerConfig(Section):
    """The machine."""

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """What computes; `auto` takes a GPU where there is one."""
    devices: Annotated[Whole, Field(ge=1, le=1024)] | None = None
    """Processes on each machine, on a GPU each; none: as many as torchrun or srun started, else 1.

    More processes compute the same steps in less time; they aren't more work.
    """
    precision: PrecisionName = "auto"
    """What training computes in; `auto` is `bf16` on a GPU that is made for it, else `float32`.

    Weights, optimizer and sums are float32 in any case but `float64`, which is there to compare
    runs. `bf16` needs a GPU of 2020 or later, or a CPU with AVX-512; `fp16` is for older GPUs and
    for few sentences at a time, and scales the loss; `tf32` rounds products on a GPU.
    """
    deterministic: bool = False
    """Bit-equal repeats on a GPU too, at some cost in speed; a CPU repeats without it."""
    threads: Annotated[Whole, Field(ge=1, le=1024)] | None = None
    """CPU threads of each process; none: its share of those that may be used."""
    workers: Annotated[Whole, Field(ge=0, le=64)] | None = None
    """Processes that make batches for each that computes; none: up to 4 for a GPU, else 0."""
    timeout: Annotated[float, Field(gt=0.0, le=10080.0)] = 30.0
    """Minutes a process waits for the others before the run ends and the late one is named."""


class Config(Section):
    """Everything that decides a run."""

    seed: Annotated[Whole, Field(ge=0, le=2**32 - 1)] = 1
    """Where all randomness comes from."""
    data: DataConfig = DataConfig()
    """The corpus and its prepared form."""
    vocabulary: AnyVocabulary = VocabularyConfig()
    """The SentencePiece vocabularies: `kind` is `learnt` or `file`."""
    model: ModelConfig = ModelConfig()
    """The network."""
    base: BaseConfig | None = None
    """The model to start from, in place of random weights; none: start from random weights."""
    training: TrainingConfig = TrainingConfig()
    """The run."""
    validation: ValidationConfig = ValidationConfig()
    """Validation during the run."""
    search: SearchConfig = SearchConfig()
    """Search, when evaluating and translating."""
    monitoring: MonitoringConfig = MonitoringConfig()
    """Loggers of the run."""
    trainer: TrainerConfig = TrainerConfig()
    """The machine."""

    @model_validator(mode="after")
    def _fit_together(self, info: Any) -> "Config":
        longest = self.data.max_length + 1
        # Whoever has the base's config hands it over as pydantic's context.
        clashes = list(self._clashes_with_base(info.context))
        if self.model.tied == "all" and not self.vocabulary.joint:
            is_file = isinstance(self.vocabulary, VocabularyFiles)
            why = "`vocabulary.target` is given" if is_file else "`vocabulary.joint` is false"
            clashes.append(f"`model.tied` must be 'target' or 'none' where {why}, but is 'all'")
        clashes += self._clashes_with_sampling()
        if self.training.tokens_per_step < longest:
            clashes.append(
                f"`training.tokens_per_step` must be at least `data.max_length` + 1 = {longest},"
                f" but is {self.training.tokens_per_step}"
            )
        at_once = self.training.tokens_per_device
        if at_once != "auto" and at_once < self.longest_pair:
            clashes.append(
                "`training.tokens_per_device` must be at least 2 × (`data.max_length` + 1)"
                f" = {self.longest_pair}, but is {at_once}"
            )
        if clashes:
            raise ValueError("\n".join(clashes))
        return self

    def _clashes_with_base(self, theirs: "Config | None") -> Iterator[str]:
        """Name the settings that the base has decided, where they have another value here."""
        if self.base is None or theirs is None:
            return
        ways_out = {"model": "leave it out"}
        if self.base.vocabulary == "base":
            ways_out["vocabulary"] = "leave it out, or learn a new one with base.vocabulary=own"
        for section, way_out in ways_out.items():
            own, decided = (getattr(config, section).model_dump() for config in (self, theirs))
            if own.get("kind") != decided.get("kind"):  # other settings altogether
                decided = {"kind": decided["kind"]}
            for key, value in decided.items():
                if key != "dropout" and own[key] != value:
                    yield (
                        f"`{section}.{key}` must be {_written(value)} as in the base"
                        f" {self.base.model}, but is {_written(own[key])}: {way_out}"
                    )

    def _clashes_with_sampling(self) -> Iterator[str]:
        """Name a way of sampling that a vocabulary to be learnt isn't made for."""
        if not isinstance(self.vocabulary, VocabularyConfig):
            return  # what a file holds is known when it is read
        algorithm, kind = self.vocabulary.algorithm, self.training.sampling.kind
        fitting = ["none", *(way for way, needed in SAMPLED.items() if needed == algorithm)]
        if kind not in fitting:
            yield (
                f"`training.sampling.kind` must be {' or '.join(map(repr, fitting))} where"
                f" `vocabulary.algorithm` is {algorithm!r}, but is {kind!r}"
            )

    @property
    def longest_pair(self) -> int:
        """Most source and target positions that a training pair has."""
        return 2 * (self.data.max_length + 1)

    @property
    def validation_search(self) -> SearchConfig:
        """The settings that validation decodes with."""
        return self.validation.search or self.search
