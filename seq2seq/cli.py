"""The commands. Each imports what it needs itself: `seq2seq config` never waits for torch."""

import os
import signal
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from seq2seq import __version__
from seq2seq.errors import CommonError, LostProcessError, UserError
from seq2seq.terminal import complain, say, speak_as, use_plain, visible

if TYPE_CHECKING:
    import torch

    from seq2seq.benchmark.comparison import Measured
    from seq2seq.parallel.place import Place
    from seq2seq.scoring import Scores

_HELP = """Train LSTM translation models, and translate with them.

Example: seq2seq train configs/quickstart.yaml
"""

app = typer.Typer(
    help=_HELP, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None
)

benchmarks = typer.Typer(
    help="Measure what this machine reaches.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(benchmarks, name="benchmark")

ConfigFile = Annotated[Path, typer.Argument(help="YAML file with the settings.", metavar="CONFIG")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Settings that replace the file's.", metavar="[SECTION.KEY=VALUE]..."),
]
SearchOverrides = Annotated[
    list[str] | None,
    typer.Argument(help="Settings that replace the model's.", metavar="[SEARCH.KEY=VALUE]..."),
]
ModelFolder = Annotated[Path, typer.Argument(help="Model folder.", metavar="MODEL")]
Beam = Annotated[int | None, typer.Option(help="The same as search.beam=N.", min=1, metavar="N")]
To = Annotated[
    str | None,
    typer.Option(
        help="Language to translate into, of a model with tags; its data.target if not given.",
        metavar="LANGUAGE",
    ),
]
Samples = Annotated[int, typer.Option(help="How often each is measured.", min=1)]
Seconds = Annotated[int, typer.Option(help="Seconds that a sample takes.", min=0, max=3600)]
Measurements = Annotated[Path | None, typer.Option(help="JSON file for all that was measured.")]


def _with_beam(overrides: list[str] | None, beam: int | None) -> list[str]:
    return [*(overrides or ()), *([] if beam is None else [f"search.beam={beam}"])]


def _find_place(devices: int | None) -> "Place":
    """Find out which process this is; those after the first are silent, but for complaints."""
    from seq2seq.parallel.place import find_place

    place = find_place(devices)
    speak_as("" if place.is_first else str(place))
    # A process that has lost another one says so in a sentence; torch would print a stack to it.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    return place


def _device(place: "Place") -> "torch.device":
    """Choose what a process translates on, and how many threads of the CPU are its own."""
    import torch

    from seq2seq.parallel.device import choose_device
    from seq2seq.parallel.place import usable_threads

    if place.world_size > 1:  # one alone takes torch's number, which heeds OMP_NUM_THREADS
        torch.set_num_threads(usable_threads(place))
    return choose_device("auto", place)


def _version(wanted: bool | None) -> None:
    if wanted:
        print(f"seq2seq {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    plain: Annotated[bool, typer.Option("--plain", help="No colours, boxes or bars.")] = False,
    version: Annotated[
        bool | None,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = None,
) -> None:
    use_plain(plain)


@app.command()
def prepare(
    config: ConfigFile,
    overrides: Overrides = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a data folder that is there.")
    ] = False,
    explain: Annotated[
        str | None,
        typer.Option(
            help="Show the pairs that a rule, such as ratio, has left out of the data folder.",
            metavar="RULE",
        ),
    ] = None,
) -> None:
    """Make the data folder: vocabulary, ids, manifest.

    Example: seq2seq prepare configs/quickstart.yaml data.target=fr data.folder=data/en-fr
    """
    from seq2seq.config_file import load_config
    from seq2seq.data.prepare import prepare as run
    from seq2seq.data.removed import explain as show
    from seq2seq.data.removed import show_removed

    if explain is not None and overwrite:
        raise UserError("--overwrite has no effect with --explain, which makes nothing")
    settings = load_config(config, overrides or ())
    if explain is not None:
        show(settings.data.folder, explain)
    else:
        show_removed(settings.data.folder, run(settings, overwrite=overwrite))


@app.command()
def train(
    config: ConfigFile,
    overrides: Overrides = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint, if there is one.")
    ] = False,
    time_limit: Annotated[
        str | None,
        typer.Option(
            help="Save and stop before this time is over, such as 90m or 1h30m; by default before"
            " the end of the SLURM job, if it is one."
        ),
    ] = None,
) -> None:
    """Train a model; the data is prepared first if need be.

    Ctrl-C saves and stops, twice stops at once. Status 0: done; 2: to be mended by you; 75: stopped
    on request, --resume goes on.

    Example: seq2seq train configs/quickstart.yaml training.steps=500 training.folder=runs/short
    """
    from seq2seq.training.stopping import StopNow, StopRequest

    place, stop = None, StopRequest()
    stop.install()  # before anything that takes long to import
    try:
        from seq2seq.config_file import load_config
        from seq2seq.parallel.slurm import seconds_to_end
        from seq2seq.training.time_limit import seconds_allowed

        settings = load_config(config, overrides or ())
        limit = None if time_limit is None else seconds_allowed(time_limit)
        place = _find_place(settings.trainer.devices)
        if limit is None and place.is_first:  # who asks to stop, stops all
            limit = seconds_to_end()
        stop.limit(limit)
        from seq2seq.training.boundary import is_stopped
        from seq2seq.training.run import train as run

        state = run(settings, place, resume=resume, stop=stop)
    except StopNow:
        say(
            f"stopped at once ({stop.reason}); --resume goes on from the last checkpoint, if there"
            " is one"
        )
        if stop.by_hand:
            raise typer.Exit(130) from None
        raise typer.Exit(_stopped(place)) from None
    except LostProcessError as error:
        raise LostProcessError(f"{error}; --resume goes on from the last checkpoint") from error
    if is_stopped(state, settings, stop):
        raise typer.Exit(_stopped(place))


def _stopped(place: "Place | None") -> int:
    """The status after a stop on request; torchrun would start all anew after any but 0."""
    restarts = os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")
    in_job = "SLURM_JOB_ID" in os.environ and restarts == "0"  # which mustn't count as completed
    return 0 if place is not None and place.is_restarted and not in_job else 75


@app.command()
def doctor(
    config: Annotated[
        str | None,
        typer.Argument(
            help="YAML file with the settings of a run; without it: machine, network and SLURM.",
            metavar="CONFIG",
        ),
    ] = None,
    overrides: Overrides = None,
    timeout: Annotated[
        float,
        typer.Option(help="Seconds that a process waits for the others.", min=0.1, max=3600.0),
    ] = 120.0,
) -> None:
    """Say what would go wrong with a training job here, and what to do about it.

    Started as training is: alone, with trainer.devices, by torchrun or srun. It leaves nothing
    behind. Status 0: the job would run; 1: it would fail; 2: CONFIG or SLURM's variables contradict
    themselves.

    Example: seq2seq doctor configs/quickstart.yaml trainer.devices=2
    """
    began = time.monotonic()
    with _orderly_end():
        from seq2seq.config_file import load_config, parse_config

        words = list(overrides or ())
        if config is not None and "=" in config and not Path(config).exists():
            config, words = None, [config, *words]
        if config is None:
            settings = parse_config("{}", name="the command line", overrides=words)
        else:
            settings = load_config(Path(config), words)
        place, mistakes = None, list[str]()
        try:
            place = _find_place(settings.trainer.devices)
        except UserError as error:
            mistakes.append(str(error))
        from seq2seq.doctor.examination import examine
        from seq2seq.parallel.place import usable_cpus
        from seq2seq.parallel.slurm import contradictions

        for sentences in contradictions(settings.trainer.devices, len(usable_cpus())):
            mistakes += sentences
        if place is None:
            raise UserError("\n".join(mistakes))
        complete = config is not None
        if not examine(settings, place, mistakes, complete=complete, patience=timeout, began=began):
            raise typer.Exit(1)


@contextmanager
def _interruptible(message: str = "stopped") -> Generator[None]:
    """End with 130 after Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        say(message)
        raise typer.Exit(130) from None


@contextmanager
def _orderly_end() -> Generator[None]:
    """End with 130 after Ctrl-C, and tidy up after SIGTERM; a launcher may hold both back."""
    with _interruptible():
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
        yield


def _check_test_set(
    split: str | None,
    data: Path | None,
    source: Path | None,
    reference: Path | None,
    to: str | None,
    *,
    lookup: bool,
) -> None:
    """Refuse options that say two things about what is to be scored."""
    if bool(source) != bool(reference):
        raise UserError("--source and --reference must be given together")
    if source and (split or (data and not lookup)):
        raise UserError("--split and --data have no effect beside --source and --reference")
    if to and not source:
        raise UserError(
            "--to has no effect on the sets of a data folder, which know their language"
        )


@app.command()
def evaluate(
    model: ModelFolder,
    overrides: SearchOverrides = None,
    split: Annotated[
        Literal["test", "validation"] | None,
        typer.Option(help="Set of the data folder; test if not given."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Data folder, if not the one trained on.")
    ] = None,
    source: Annotated[Path | None, typer.Option(help="Text file to translate instead.")] = None,
    reference: Annotated[Path | None, typer.Option(help="Its reference translations.")] = None,
    to: To = None,
    beam: Beam = None,
    lookup: Annotated[
        bool, typer.Option("--lookup", help="Score the nearest training sentence as well.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="File for the scores; MODEL/score.json if not given.")
    ] = None,
    devices: Annotated[
        int | None, typer.Option(help="Processes that translate, on a GPU each.", min=1)
    ] = None,
) -> None:
    """Score a model on a test set: BLEU and chrF on detokenized text, with signatures.

    Example: seq2seq evaluate runs/quickstart/model
    """
    _check_test_set(split, data, source, reference, to, lookup=lookup)
    place = _find_place(devices)
    from seq2seq import evaluation
    from seq2seq.config_file import search_settings
    from seq2seq.model_card import add_test_scores
    from seq2seq.model_folder import load_model
    from seq2seq.parallel.group import meet
    from seq2seq.parallel.launcher import launched
    from seq2seq.shortlist import Shortlist

    device = _device(place)
    loaded = load_model(model, device=device)
    settings = search_settings(loaded.config, _with_beam(overrides, beam), name=str(model))
    folder = data or loaded.config.data.folder
    if source and reference:
        test = evaluation.text_test_set(source, reference, loaded, to)
    else:
        test = evaluation.prepared_test_set(folder, split or "test")
    listed = Shortlist.load(model) if settings.shortlist else None
    baseline: dict[str, Scores] = {}
    if lookup and place.is_first:
        baseline["nearest training source"] = evaluation.lookup_scores(folder, test)
    with launched(place) as place, meet(place) as meeting, meeting.group(device) as group:
        found = evaluation.evaluate(loaded, test, settings, group, shortlist=listed)
    if not place.is_first:
        return
    title = f"{test.name}: {len(test.source)} pairs, beam {settings.beam}"
    evaluation.show_scores(title, {"model": found.whole, **found.directions, **baseline})
    evaluation.write_scores(output or model / "score.json", found, loaded, test, settings)
    if output is None:
        add_test_scores(model, title, found.whole)


@app.command()
def average(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(
            help="Run folder, or checkpoint files of one run.", metavar="RUN|CHECKPOINT..."
        ),
    ],
    output: Annotated[Path, typer.Option(help="Model folder to make.", show_default=False)],
    last: Annotated[
        int | None, typer.Option(help="How many of RUN's newest; all if not given.", min=2)
    ] = None,
) -> None:
    """Average the weights of several checkpoints of a run.

    Of a run with training.ema, the averages that it keeps are averaged.

    Example: seq2seq average runs/quickstart --output runs/quickstart/averaged
    """
    from seq2seq.training.average import average_checkpoints, choose_checkpoints

    average_checkpoints(choose_checkpoints(checkpoints, last), output)


@benchmarks.command("train")
def benchmark_train(
    config: ConfigFile,
    overrides: Overrides = None,
    versus: Annotated[
        list[str] | None,
        typer.Option(
            "--vs",
            help="Measure this in turn, too, and the ratio: another YAML file, or a setting that"
            " replaces CONFIG's. May be given several times.",
            metavar="CONFIG|SECTION.KEY=VALUE",
        ),
    ] = None,
    samples: Samples = 10,
    seconds: Seconds = 5,
    target: Annotated[
        float | None,
        typer.Option(
            help="End with status 1 if the median is lower: of CONFIG / --vs where that is given,"
            " else of the real tokens/s.",
            min=0.0,
        ),
    ] = None,
    output: Measurements = None,
) -> None:
    """Measure training: tokens/s, where a step's time goes, memory, arithmetic.

    It trains as `train` does, on the real batches and as many processes, but validates and saves
    nothing. Arithmetic is the share of what square matrix products reach, which are measured
    before and after each sample.

    Example: seq2seq benchmark train configs/quickstart.yaml --vs model.layout=input_feeding
    """
    with _orderly_end():
        from seq2seq.config_file import load_config

        chosen = _in_turn("CONFIG", config, overrides or (), versus or (), "YAML file")
        configs = {name: load_config(path, words) for name, (path, words) in chosen.items()}
        place = _find_place(configs["CONFIG"].trainer.devices)
        _check_writable(output)
        from seq2seq.benchmark.training import measure_training

        measured = measure_training(configs, place, samples=samples, seconds=seconds)
        if place.is_first:
            _conclude(measured, output, target)


@benchmarks.command("translate")
def benchmark_translate(
    model: ModelFolder,
    overrides: SearchOverrides = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--input",
            help="Text file to translate, packed or not; the test set of the model's data folder if"
            " not given.",
            show_default=False,
        ),
    ] = None,
    versus: Annotated[
        list[str] | None,
        typer.Option(
            "--vs",
            help="Measure this in turn, too, and the ratio: another model folder, or a setting that"
            " replaces MODEL's. May be given several times.",
            metavar="MODEL|SEARCH.KEY=VALUE",
        ),
    ] = None,
    samples: Samples = 10,
    seconds: Seconds = 5,
    target: Annotated[
        float | None,
        typer.Option(
            help="End with status 1 if the median is lower: of MODEL / --vs where that is given,"
            " else of the sentences/s.",
            min=0.0,
        ),
    ] = None,
    output: Measurements = None,
) -> None:
    """Measure translation: sentences/s, tokens/s, memory, and how long a single sentence takes.

    It translates as `translate` does, in one process, on as many CPU threads (OMP_NUM_THREADS).
    Tokens are real pieces. After each sample sentences are translated one at a time, 1000 at most
    in all.

    Compare with models and programs whose translations have other lengths where all have the same,
    as with search.min_length=20 search.max_length=20.

    Example: seq2seq benchmark translate runs/quickstart/model --vs search.beam=1
    """
    with _orderly_end():
        from seq2seq.parallel.place import Place

        chosen = _in_turn("MODEL", model, overrides or (), versus or (), "model folder")
        _check_writable(output)
        from seq2seq.benchmark.translation import measure_translation, prepared_text, read_text

        text = prepared_text(model) if source is None else read_text(source)
        measured = measure_translation(
            chosen, text, _device(Place()), samples=samples, seconds=seconds
        )
        _conclude(measured, output, target)


@benchmarks.command("data")
def benchmark_data(
    config: ConfigFile,
    overrides: Overrides = None,
    text: Annotated[
        int, typer.Option(help="Pairs of noisy text that are prepared; 0: none.", min=0)
    ] = 100_000,
    pairs: Annotated[
        int, typer.Option(help="Simulated pairs, of which an epoch is planned.", min=1)
    ] = 1_000_000,
    workers: Annotated[int, typer.Option(help="Processes of the loader.", min=0)] = 2,
    samples: Samples = 10,
    seconds: Seconds = 5,
    target: Annotated[
        float | None,
        typer.Option(
            help="End with status 1 if the median of the loader's rate by that of a bare collate is"
            " lower.",
            min=0.0,
        ),
    ] = None,
    output: Measurements = None,
) -> None:
    """Measure what feeds training: preparation, plan, padding, who meets again, the loader.

    The data is prepared first if need be. Noisy text, made of the config's, is prepared with and
    without rules, and encoded in a plain loop. The loader is compared with one process that puts
    the ids of the same batches side by side with numpy; the batches with those that OpenNMT-py
    and JoeyNMT would make of the same lengths.

    Example: seq2seq benchmark data configs/quickstart.yaml --pairs 100000000
    """
    with _orderly_end():
        from seq2seq.config_file import load_config

        chosen = load_config(config, overrides or ())
        _check_writable(output)
        from seq2seq.benchmark.data import measure_data

        measured = measure_data(
            chosen,
            text=text,
            pairs=pairs,
            workers=workers,
            samples=samples,
            seconds=seconds,
        )
        _conclude(measured, output, target)


def _in_turn(
    name: str, path: Path, words: Sequence[str], versus: Sequence[str], kind: str
) -> dict[str, tuple[Path, list[str]]]:
    """Say what is measured in turn, by name: what is read, and the settings that replace its own.

    Args:
        name: of the first.
        path: of the first.
        words: its settings, which the other one has too where `versus` doesn't replace them.
        versus: settings of the other one, and where it isn't read from the same, its path.
        kind: of what is read.

    Raises:
        UserError: there are several paths.
    """
    others = [Path(word) for word in versus if "=" not in word]
    changes = [word for word in versus if "=" in word]
    if len(others) > 1:
        raise UserError(f"--vs takes one {kind} at most")
    chosen = {name: (path, list(words))}
    if versus:
        changed = {change.partition("=")[0] for change in changes}
        kept = [word for word in words if word.partition("=")[0] not in changed]
        chosen["--vs"] = (others[0] if others else path, [*kept, *changes])
    return chosen


def _check_writable(output: Path | None) -> None:
    """Refuse a place for results that can't be, before they are measured."""
    if output is not None and not output.absolute().parent.is_dir():
        raise UserError(f"{output} can't be written: there is no folder {output.parent}")


def _conclude(measured: "Measured", output: Path | None, target: float | None) -> None:
    """Show what was measured, write it down, and end with 1 where it is below the target."""
    from seq2seq.benchmark.comparison import show_results, write_results

    show_results(measured)
    if output is not None:
        write_results(output, measured)
    if target is not None and not measured.reached >= target:
        say(f"the median {measured.reached:,.3f} is below the target {target:,}")
        raise typer.Exit(1)


@app.command()
def compare(
    scores: Annotated[
        list[Path], typer.Argument(help="Files that `evaluate` wrote.", metavar="SCORE.json...")
    ],
) -> None:
    """Compare scores on one test set, best first, with the settings in which the models differ.

    Example: seq2seq compare runs/*/model/score.json
    """
    from seq2seq.comparison import read_entry, show_comparison

    show_comparison([read_entry(path) for path in scores])


@app.command()
def translate(
    model: ModelFolder,
    overrides: SearchOverrides = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="Text, packed or not, JSON lines, a table, or hub:NAME[[:CONFIGURATION]:SPLIT];"
            " standard input if not given.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="File that any number of processes make; standard output if not given.",
            metavar="FILE",
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Write JSON lines, as to FILE.jsonl anyway.")
    ] = False,
    json_input: Annotated[
        bool, typer.Option("--json-input", help="Standard input has JSON lines.")
    ] = False,
    column: Annotated[
        str | None,
        typer.Option(
            help="Column of the text; `text` or the language's code if not given.", metavar="NAME"
        ),
    ] = None,
    alignment: Annotated[
        bool, typer.Option("--alignment", help="Write which source piece each piece comes from.")
    ] = False,
    score: Annotated[
        bool, typer.Option("--score", help="Score translations that stand beside their sources.")
    ] = False,
    to: To = None,
    prefix: Annotated[
        str, typer.Option(help="What translations begin with.", metavar="TEXT", show_default=False)
    ] = "",
    require: Annotated[
        list[str] | None,
        typer.Option(
            help="What translations must have. May be given several times.", metavar="WORDS"
        ),
    ] = None,
    avoid: Annotated[
        list[str] | None,
        typer.Option(help="What they may not have. May be given several times.", metavar="WORDS"),
    ] = None,
    ensemble: Annotated[
        list[Path] | None,
        typer.Option(
            help="A model of the same vocabulary that translates as well. May be given several"
            " times.",
            metavar="MODEL",
        ),
    ] = None,
    beam: Beam = None,
    window: Annotated[
        int | None, typer.Option(help="Lines translated together; 1024 if not given.", min=1)
    ] = None,
    devices: Annotated[
        int | None, typer.Option(help="Processes that share the file, on a GPU each.", min=1)
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on after the last whole window; a file does so anyway."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an output that is there.")
    ] = False,
) -> None:
    """Translate standard input or a file to standard output or a file: a line for each line.

    Files are translated by as many processes as are started with the same command, at whatever
    time, on machines that share a disk; each takes parts that no other one has, and the last one
    puts them together. Started again after an interruption it goes on.

    Example: seq2seq translate runs/quickstart/model < in.txt > out.txt

    Example: seq2seq translate runs/quickstart/model --input in.txt.gz --output out.txt

    Example: seq2seq translate runs/quickstart/model search.beam=8 search.nbest=4 --json < in.txt
    """
    place = _find_place(devices)
    from seq2seq.translation import Request
    from seq2seq.translation_job import Job, run

    job = Job(
        model=model,
        source=source,
        output=output,
        overrides=_with_beam(overrides, beam),
        ensemble=ensemble or (),
        column=column,
        has_json=json_input,
        json=json,
        alignment=alignment,
        score=score,
        common=Request("", prefix, tuple(require or ()), tuple(avoid or ()), to),
        window=window,
        resume=resume,
        overwrite=overwrite,
    )
    further = "the same command goes on" if source else "--resume goes on"
    # SIGTERM is as it is: what a SLURM job ignores must go on to do so.
    with _interruptible(f"stopped; {further}" if output else "stopped"):
        run(job, place, _device(place))


@app.command()
def shortlist(
    model: ModelFolder,
    data: Annotated[
        Path | None, typer.Option(help="Data folder, if not the one trained on.")
    ] = None,
) -> None:
    """Learn which target pieces a source piece makes likely, so that search scores no others.

    The list gets into the model folder, and is used with search.shortlist=true. What it leaves out
    of the validation set is printed.

    Example: seq2seq shortlist runs/quickstart/model
    """
    from seq2seq.shortlist import make_shortlist

    make_shortlist(model, data)


@app.command()
def inspect(
    model: ModelFolder,
    sentence: Annotated[str, typer.Argument(help="Sentence to translate.")],
    output: Annotated[Path, typer.Option(help="PNG file to write.")] = Path("attention.png"),
    to: To = None,
) -> None:
    """Draw what the model looks at while it translates a sentence.

    Example: seq2seq inspect runs/quickstart/model "3 May 2021" --output attention.png
    """
    from seq2seq.inspection import inspect_attention
    from seq2seq.model_folder import load_model

    print(visible(inspect_attention(load_model(model), sentence, output, to=to)))
    say(f"the attention is drawn in {output}")


@app.command()
def config(
    config: Annotated[Path | None, typer.Argument(help="YAML file.", metavar="CONFIG")] = None,
    overrides: Overrides = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of all settings.")
    ] = False,
    get: Annotated[
        str | None, typer.Option(help="Print this setting alone, such as training.folder.")
    ] = None,
) -> None:
    """Check a config and print it with all defaults, or list every mistake in it.

    Example: seq2seq config configs/quickstart.yaml training.steps=500
    """
    from seq2seq.config_file import config_schema, dump_config, load_config, setting

    if schema and config is not None:
        raise UserError("--schema is about all settings: give it without CONFIG")
    if schema:
        print(config_schema(), end="")
    elif config is None:
        raise UserError("`seq2seq config` needs a CONFIG, or --schema")
    elif get is not None:
        print(setting(load_config(config, overrides or ()), get))
    else:
        print(dump_config(load_config(config, overrides or ())), end="")


def main() -> NoReturn:
    """Run the command line; what a user can mend is said in a sentence, with status 2."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # whatever the locale
    try:
        app()  # ends the process itself, with 2 for words it can't read and 130 after Ctrl-C
    except LostProcessError as error:
        complain(str(error))
        sys.stdout.flush()
        os._exit(1)  # a GPU that waits for the lost process's numbers would hold up an orderly end
    except CommonError as error:
        say(f"seq2seq: {error}")
    except UserError as error:
        complain(str(error))
    sys.exit(2)
