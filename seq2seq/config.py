"""Every setting of the program, with its default and its meaning.

The text under a field is what `seq2seq config --schema` and `configs/reference.yaml` say of it. A
section that has several forms is a union told apart by `kind`, so that a setting without effect in
the chosen form is an unknown key. Rules over one field stand with the field, rules over several in
the validator of the smallest section that holds them all.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    model_validator,
)
from pydantic_core import core_schema


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
Files = tuple[Path, Path]
Tables = Path | Annotated[tuple[Path, ...], Field(min_length=1)]
LoggerName = Literal["tensorboard", "csv", "wandb", "mlflow"]
Name = TypeVar("Name", bound=str)


def _listed(value: Any) -> Any:
    """Read a single name as a list of it."""
    return (value,) if isinstance(value, str) else value


def _without_repeats(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError(f"must name each once, but is [{', '.join(names)}]")
    return names


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


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


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


class HubCorpus(Section):
    """A data set of the Hugging Face Hub, or a local folder in the Hub's layout."""

    kind: Literal["hub"]
    """A data set of the Hub."""
    name: str
    """Name on the Hub, such as `bentrevett/multi30k`, or a local folder."""
    configuration: str | None = None
    """Name of the set's configuration, where it has several."""
    revision: str | None = None
    """Branch, tag or commit of the set on the Hub."""
    train: str = "train"
    """Split to train on."""
    validation: str = "validation"
    """Split to validate on."""
    test: str | None = "test"
    """Split for the final score."""
    source_column: str | None = None
    """Column of source text; by default the source language's code, alone or in `translation`."""
    target_column: str | None = None
    """Column of target text; by default the target language's code, alone or in `translation`."""


class TextCorpus(Section):
    """Parallel text files, one sentence a line, plain or packed (`.gz`, `.xz`, `.bz2`, `.zst`).

    A pattern (`*`, `?`, `[…]`, `**`) stands for all the files it matches, in the order of their
    names: as many on both sides.
    """

    kind: Literal["text"]
    """Parallel text files."""
    train: Files
    """Source file and target file to train on, or a pattern of such files each."""
    validation: Files
    """Source file and target file to validate on."""
    test: Files | None = None
    """Source file and target file for the final score."""


class TableCorpus(Section):
    """Files that hold both sides: `.parquet`, `.arrow`, `.jsonl`, `.csv`, `.tsv`.

    The last three also packed, as in `.tsv.gz`; `.ndjson` and `.json` are read as `.jsonl`, one
    object a line. A file can be a pattern, as for text files.
    """

    kind: Literal["table"]
    """Tables in files."""
    train: Tables
    """File to train on, or a list of files."""
    validation: Tables
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


class DataConfig(Section):
    """Where the text comes from and where the prepared data goes."""

    source: str = "en"
    """Language to translate from: a code such as `en`; for the sample corpus a CLDR locale."""
    target: str = "de"
    """Language to translate into."""
    folder: Path = Path("data/sample-en-de")
    """Folder of the prepared data: vocabulary, ids, manifest."""
    corpus: Annotated[
        SampleCorpus | HubCorpus | TextCorpus | TableCorpus, Field(discriminator="kind")
    ] = SampleCorpus()
    """The parallel text: `kind` is `sample`, `hub`, `text` or `table`."""
    max_length: Positive = 200
    """Training pairs with more pieces than this on either side are left out."""


class VocabularyConfig(Section):
    """SentencePiece vocabularies, trained by `seq2seq prepare` on the training text."""

    algorithm: Literal["unigram", "bpe"] = "unigram"
    """How SentencePiece chooses the pieces."""
    joint: bool = True
    """One vocabulary for both languages, or one each."""
    size: Positive = 8000
    """Number of pieces (of each vocabulary), the four special ones included."""
    character_coverage: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of the text's characters that get a piece; 0.9995 for Japanese or Chinese."""
    split_digits: bool = False
    """Make every digit a piece of its own, for text full of numbers."""
    normalization: Literal["identity", "nfkc", "nmt_nfkc", "nfkc_cf", "nmt_nfkc_cf"] = "identity"
    """SentencePiece's rule; all but `identity` change quotes, dots, full-width forms (`_cf`: case).

    The text is brought to Unicode's NFC before it in any case.
    """


class DropoutConfig(Section):
    """Shares of what is left out at random in training."""

    embeddings: Share = 0.2
    """Of each embedding's components, the same at all positions of a sentence."""
    layers: Share = 0.2
    """Of each LSTM layer's input components, the same at all positions of a sentence."""
    output: Share = 0.2
    """Of the components of the layer before the vocabulary, the same at all positions."""
    words: Share = 0.0
    """Of whole input words (pieces) of both sides."""


class ModelConfig(Section):
    """The network: a bidirectional LSTM encoder, an LSTM decoder with attention."""

    embedding_size: Positive = 256
    """Width of the embeddings, and of the layer before the vocabulary."""
    encoder_layers: Positive = 1
    """Number of bidirectional layers."""
    encoder_size: Positive = 256
    """Width of the encoder's state in each direction."""
    decoder_layers: Positive = 2
    """Number of decoder layers; the lowest attends, those above see the context."""
    decoder_size: Positive = 256
    """Width of the decoder's state."""
    tied: Literal["all", "target", "none"] = "all"
    """Share one table between source, target and output; target and output; or nothing."""
    dropout: DropoutConfig = DropoutConfig()
    """Dropout."""


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
    warmup: Positive = 500
    """Steps of linear warm-up."""


class Linear(Section):
    """Linear warm-up, then a straight line that reaches zero after the last step."""

    kind: Literal["linear"]
    """Warm-up, then linearly to zero at the end of the run."""
    warmup: Positive = 500
    """Steps of linear warm-up."""


class Plateau(Section):
    """Linear warm-up, then a rate that is cut whenever validations stop getting better."""

    kind: Literal["plateau"]
    """Warm-up, then constant until validations stop getting better."""
    warmup: Positive = 500
    """Steps of linear warm-up."""
    factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    """What the rate is multiplied with."""
    patience: Annotated[Whole, Field(ge=0)] = 1
    """Validations in a row without a better score that are let pass before a cut."""


class OptimizerConfig(Section):
    """AdamW, its rate and its clipping."""

    learning_rate: Annotated[float, Field(gt=0.0)] = 2e-3
    """The highest rate, reached at the end of the warm-up."""
    betas: tuple[Share, Share] = (0.9, 0.98)
    """Decay of the averages of the gradient and of its square."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 1e-4
    """Decoupled weight decay."""
    clip: Annotated[float, Field(gt=0.0)] = 1.0
    """Largest norm of the gradient over all parameters."""
    schedule: Annotated[InverseSquareRoot | Linear | Plateau, Field(discriminator="kind")] = (
        InverseSquareRoot()
    )
    """How the rate changes: `kind` is `inverse_sqrt`, `linear` or `plateau`."""


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
    label_smoothing: Share = 0.1
    """Share of the probability that the loss spreads over the whole vocabulary."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """The optimizer."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """Checkpoints."""
    ema: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Decay of an average of the weights over the steps, such as 0.999; none: no average.

    The average is what is validated and saved as the model; training goes on with the weights.
    """
    log_every: Positive = 50
    """Steps between two lines of `metrics.jsonl`."""


class SearchConfig(Section):
    """How translations are searched for."""

    beam: Positive = 5
    """Number of hypotheses kept for each sentence; 1 is greedy search."""
    length_penalty: Annotated[float, Field(ge=0.0, le=10.0)] = 1.0
    """Exponent of the length that a log-probability is divided by: 0 favours short, 1 averages."""
    max_length_ratio: Annotated[float, Field(gt=0.0)] = 2.0
    """Longest translation, as a multiple of the source's number of pieces, plus 10."""
    tokens_per_batch: Positive = 4000
    """Most padded source positions that are translated at once."""


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
    precision: Literal["float32", "float64"] = "float32"
    """What training computes in; `float64` to compare runs, many times slower on a GPU."""
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
    vocabulary: VocabularyConfig = VocabularyConfig()
    """The SentencePiece vocabularies."""
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
            clashes.append(
                "`model.tied` must be 'target' or 'none' where `vocabulary.joint` is false,"
                " but is 'all'"
            )
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
            for key, value in decided.items():
                if key != "dropout" and own[key] != value:
                    yield (
                        f"`{section}.{key}` must be {_written(value)} as in the base"
                        f" {self.base.model}, but is {_written(own[key])}: {way_out}"
                    )

    @property
    def longest_pair(self) -> int:
        """Most source and target positions that a training pair has."""
        return 2 * (self.data.max_length + 1)

    @property
    def validation_search(self) -> SearchConfig:
        """The settings that validation decodes with."""
        return self.validation.search or self.search
