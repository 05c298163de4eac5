"""Pairs from tables in files: columns found, cells as they are written, and what is refused."""

import csv
import gzip
import io
import json
import lzma
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import ipc, parquet

from seq2seq.data.rows import Side
from seq2seq.data.tables import read_table
from seq2seq.errors import DataError

Pairs = list[tuple[str, str]]
PAIRS: Pairs = [("one", "eins"), ("two", "zwei"), ("three", "drei")]


def read(
    path: Path,
    source: str | None = None,
    target: str | None = None,
    *,
    languages: tuple[str, str] = ("en", "de"),
    header: bool = True,
) -> Pairs:
    sides = Side(languages[0], source), Side(languages[1], target)
    return list(read_table(path, sides, header=header))


def refusal(path: Path, *columns: str, **options: Any) -> str:
    """Read a file that is refused; returns what is said after the file's name."""
    with pytest.raises(DataError) as error:
        read(path, *columns, **options)
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    return message.replace(str(path), "FILE")


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def write_arrow(path: Path, columns: Any, *, stream: bool = True, rows: int = 2) -> Path:
    table = pyarrow.table(columns)
    new = ipc.new_stream if stream else ipc.new_file
    with path.open("wb") as file, new(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return path


def write_parquet(path: Path, columns: Any) -> Path:
    parquet.write_table(pyarrow.table(columns), path)
    return path


def columns_of(pairs: Pairs) -> dict[str, list[str]]:
    return {"en": [source for source, _ in pairs], "de": [target for _, target in pairs]}


# The kinds of files ------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".tsv", ".csv", ".jsonl", ".ndjson", ".json", ".TSV"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("last_line_end", [True, False])
def test_text_formats(tmp_path: Path, ending: str, mark: str, line_end: str, last_line_end: bool):
    if "json" in ending:
        lines = [json.dumps({"en": source, "de": target}) for source, target in PAIRS]
    else:
        lines = [
            ("," if ending == ".csv" else "\t").join(cells) for cells in (("en", "de"), *PAIRS)
        ]
    content = (mark + line_end.join(lines) + line_end * last_line_end).encode()
    assert read(write(tmp_path / f"pairs{ending}", content)) == PAIRS
    assert read(write(tmp_path / f"pairs{ending}.gz", gzip.compress(content))) == PAIRS
    assert read(write(tmp_path / f"pairs.old{ending}.XZ", lzma.compress(content))) == PAIRS


def test_arrow_formats(tmp_path: Path):
    columns = {"id": [1, 2, 3], **columns_of(PAIRS)}
    assert read(write_parquet(tmp_path / "a.parquet", columns)) == PAIRS
    assert read(write_arrow(tmp_path / "stream.arrow", columns)) == PAIRS
    assert read(write_arrow(tmp_path / "file.arrow", columns, stream=False)) == PAIRS
    columns = {name: [] for name in columns}
    assert read(write_arrow(tmp_path / "nothing.arrow", columns)) == []


def test_many_rows_come_in_order(tmp_path: Path):
    pairs = [(f"number {number}", f"Nummer {number}") for number in range(5000)]
    assert read(write_parquet(tmp_path / "a.parquet", columns_of(pairs))) == pairs
    assert read(write_arrow(tmp_path / "a.arrow", columns_of(pairs), rows=4500)) == pairs


@pytest.mark.parametrize(
    "kind",
    [
        pyarrow.string(),
        pyarrow.large_string(),
        pyarrow.string_view(),
        pyarrow.dictionary(pyarrow.int8(), pyarrow.string()),
    ],
    ids=str,
)
def test_all_of_arrows_kinds_of_text(tmp_path: Path, kind: Any):
    columns = {"en": pyarrow.array(["one", "", None], kind), "de": ["eins", "zwei", "drei"]}
    pairs = [("one", "eins"), ("", "zwei"), ("", "drei")]
    assert read(write_arrow(tmp_path / "a.arrow", columns)) == pairs
    if kind != pyarrow.string_view():
        assert read(write_parquet(tmp_path / "a.parquet", columns)) == pairs


@pytest.mark.parametrize(
    "name", ["pairs", "pairs.txt", "pairs.gz", "pairs.parquet.gz", "pairs.arrow.zst"]
)
def test_other_endings_are_refused(tmp_path: Path, name: str):
    message = refusal(write(tmp_path / name, "en\tde\n"))
    assert message.startswith("FILE must end in .parquet, .arrow, .jsonl")


def test_files_that_are_not_what_their_name_says(tmp_path: Path):
    text = "en\tde\none\teins\n"
    assert refusal(write(tmp_path / "a.parquet", text)).startswith(
        "FILE is no Parquet file, is damaged, or goes on after its end: "
    )
    for content in (text, "", "ARROW1"):
        assert refusal(write(tmp_path / "a.arrow", content)).startswith(
            "FILE is no Arrow file, is damaged, or goes on after its end: "
        )
    assert refusal(write(tmp_path / "a.tsv.zst", text)).startswith(
        "FILE is no zstd file, is damaged, or goes on after its end: "
    )
    for name in ("none.parquet", "none.arrow", "none.csv", "none.jsonl.gz"):
        assert refusal(tmp_path / name) == "FILE can't be read: No such file or directory"


def test_arrow_files_cut_short(tmp_path: Path):
    for stream in (True, False):
        path = write_arrow(tmp_path / "a.arrow", columns_of(PAIRS), stream=stream, rows=1)
        whole = path.read_bytes()
        for size in (len(whole) - 8, len(whole) - 9, len(whole) - 100, 40):
            message = refusal(write(path, whole[:size]))
            assert message.startswith(
                "FILE is no Arrow file, is damaged, or goes on after its end: "
            )
    path = write_parquet(tmp_path / "a.parquet", columns_of(PAIRS))
    message = refusal(write(path, path.read_bytes()[:-1]))
    assert message.startswith("FILE is no Parquet file, is damaged, or goes on after its end: ")


def test_arrow_text_that_is_not_utf8(tmp_path: Path):
    latin = pyarrow.array(["Gr\u00fc\u00dfe".encode("latin-1")], pyarrow.binary())
    columns = {"en": ["one"], "de": latin.view(pyarrow.string())}
    for path in (
        write_arrow(tmp_path / "a.arrow", columns),
        write_parquet(tmp_path / "a.parquet", columns),
    ):
        assert "codec can't decode byte" in refusal(path)


# Cells as written --------------------------------------------------------------------------------

WORDS = ["null", "NA", "None", "nan", "N/A", "#N/A", "007", "1e5", "3.10", "+49", "true", "-inf"]
CELL = st.text(st.characters(exclude_categories=["Cs"]))
TSV_CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r"))
NO_FIXTURE_IS_RESET = [HealthCheck.function_scoped_fixture]  # each example writes its own file


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl"])
def test_no_word_is_missing_and_no_code_is_a_number(tmp_path: Path, ending: str):
    pairs = [*zip(WORDS, reversed(WORDS), strict=True), ("", " "), (" x ", "")]
    if ending == ".jsonl":
        lines = [json.dumps({"en": source, "de": target}) for source, target in pairs]
    else:
        lines = [("," if ending == ".csv" else "\t").join(pair) for pair in (("en", "de"), *pairs)]
    assert read(write(tmp_path / f"a{ending}", "\n".join(lines))) == pairs


@given(st.lists(st.tuples(TSV_CELL, TSV_CELL)))
@settings(max_examples=50, deadline=None, suppress_health_check=NO_FIXTURE_IS_RESET)
def test_tsv_cells_are_what_stands_between_tabs(tmp_path: Path, pairs: Pairs):
    text = "".join(f"{source}\t{target}\n" for source, target in [("en", "de"), *pairs])
    assert read(write(tmp_path / "a.tsv", text)) == pairs


@given(st.lists(st.tuples(CELL, CELL)), st.sampled_from(["\n", "\r\n"]), st.booleans())
@settings(max_examples=50, deadline=None, suppress_health_check=NO_FIXTURE_IS_RESET)
def test_csv_cells_are_what_was_put_into_quotes(
    tmp_path: Path, pairs: Pairs, line_end: str, quoted: bool
):
    text = io.StringIO()
    returns = any("\r" in cell for pair in pairs for cell in pair)
    # Python's writer leaves a bare carriage return outside of quotes before 3.13.
    quoting = csv.QUOTE_ALL if quoted or returns else csv.QUOTE_MINIMAL
    csv.writer(text, lineterminator=line_end, quoting=quoting).writerows([("en", "de"), *pairs])
    assert read(write(tmp_path / "a.csv", text.getvalue())) == pairs


@given(st.lists(st.tuples(CELL, CELL)), st.booleans())
@settings(max_examples=50, deadline=None, suppress_health_check=NO_FIXTURE_IS_RESET)
def test_json_texts_are_what_was_escaped(tmp_path: Path, pairs: Pairs, escaped: bool):
    rows = [{"en": source, "de": target} for source, target in pairs]
    text = "".join(json.dumps(row, ensure_ascii=escaped) + "\n" for row in rows)
    assert read(write(tmp_path / "a.jsonl", text)) == pairs


def test_quotes_in_tsv_are_text(tmp_path: Path):
    lines = ['"one\t"eins', 'two"\t"zwei"', '4" pipe\t', '"\t""']
    path = write(tmp_path / "a.tsv", "\n".join(["en\tde", *lines]))
    assert read(path) == [tuple(line.split("\t")) for line in lines]


# Columns -----------------------------------------------------------------------------------------


def test_columns_by_name(tmp_path: Path):
    path = write(tmp_path / "a.csv", "de,id,english,en\neins,7,ONE,one\n")
    assert read(path) == [("one", "eins")]
    assert read(path, "english") == [("ONE", "eins")]
    assert read(path, "english", "id") == [("ONE", "7")]
    assert read(path, languages=("de", "en")) == [("eins", "one")]


def test_without_a_header_columns_are_numbers(tmp_path: Path):
    path = write(tmp_path / "a.tsv", "en\tde\tx\none\teins\ty\n")
    assert read(path, header=False) == [("en", "de"), ("one", "eins")]
    assert read(path, "3", header=False) == [("x", "de"), ("y", "eins")]
    assert refusal(path, "4", header=False).startswith("FILE has no column '4'; its first line is")
    path = write(tmp_path / "a.csv", "one\n")
    assert refusal(path, header=False).startswith("FILE has no column '2'; its first line is 'one'")
    assert read(write(tmp_path / "b.csv", "\ufeff1,2\n"), header=False) == [("1", "2")]
    assert read(write(tmp_path / "nothing.csv", ""), header=False) == []


def test_a_header_that_is_not_there(tmp_path: Path):
    path = write(tmp_path / "a.tsv", '"One\t"Eins\ntwo\tzwei\n')
    assert refusal(path) == (
        "FILE has no column 'en'; its first line is '\"One\\t\"Eins', which must name the columns"
        " unless data.corpus.header is false: set data.corpus.source_column and target_column"
    )


def test_columns_that_are_not_there(tmp_path: Path):
    columns = {"en": ["one"], "deu": ["eins"]}
    message = "FILE has no column 'de'; it has {}: set data.corpus.source_column and target_column"
    assert refusal(write_parquet(tmp_path / "a.parquet", columns)) == message.format("en, deu")
    assert refusal(write_arrow(tmp_path / "a.arrow", columns)) == message.format("en, deu")
    path = write(tmp_path / "a.jsonl", '{"en": "one", "deu": "eins"}\n{"en": "two", "id": 2}\n{}')
    assert refusal(path) == message.format("deu, en, id")
    assert refusal(path, "deu", "none").startswith("FILE has no column 'none'; it has deu, en, id")


def test_columns_of_the_same_name(tmp_path: Path):
    path = write(tmp_path / "a.csv", "en,de,id,id,en\none,eins,1,1,two\n")
    assert refusal(path).startswith("FILE has several columns 'en'")
    assert read(write(path, "en,de,id,id\none,eins,1,1\n")) == [("one", "eins")]


@pytest.mark.parametrize(
    ("values", "name"), [([7], "int"), ([0.5], "float"), ([True], "bool"), ([b"x"], "bytes")]
)
def test_columns_of_something_else_than_text(tmp_path: Path, values: list[Any], name: str):
    message = f"column 'de' of FILE must hold text, but holds {name} in row 2"
    columns = {"en": ["one", "two"], "de": [None, *values]}
    assert refusal(write_parquet(tmp_path / "a.parquet", columns)) == message
    assert refusal(write_arrow(tmp_path / "a.arrow", columns)) == message
    if name != "bytes":
        rows = [{"en": "one", "de": "eins"}, {"en": "two", "de": values[0]}]
        path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
        assert refusal(path) == message


# The column `translation` ------------------------------------------------------------------------

TRANSLATIONS: list[Any] = [
    {"de": None, "en": "one"},
    {"en": "two", "de": "zwei"},
    {"de": "drei"},
    {"fr": "quatre", "de": "vier", "en": "four"},
    None,
    {},
    {"en": "", "de": "sechs"},
]
TRANSLATED = [
    ("one", ""),
    ("two", "zwei"),
    ("", "drei"),
    ("four", "vier"),
    ("", ""),
    ("", ""),
    ("", "sechs"),
]


def translation_files(folder: Path) -> list[Path]:
    """Write the translations as JSON, and as structs and maps of Arrow's."""
    maps = pyarrow.array(
        [cell if cell is None else list(cell.items()) for cell in TRANSLATIONS],
        pyarrow.map_(pyarrow.string(), pyarrow.string()),
    )
    lines = [json.dumps({"id": 1, "translation": cell}) for cell in TRANSLATIONS]
    return [
        write(folder / "a.jsonl", "\n".join(lines)),
        write_parquet(folder / "a.parquet", {"translation": TRANSLATIONS}),
        write_arrow(folder / "a.arrow", {"translation": TRANSLATIONS}),
        write_arrow(folder / "maps.arrow", {"translation": maps}),
    ]


def test_texts_by_language(tmp_path: Path):
    for path in translation_files(tmp_path):
        assert read(path) == TRANSLATED
        french = read(path, languages=("en", "fr"))
        assert [target for _, target in french] == ["", "", "", "quatre", "", "", ""]


def test_a_language_that_no_row_has(tmp_path: Path):
    for path in translation_files(tmp_path):
        assert refusal(path, languages=("en", "xx")) == (
            "FILE has no 'xx' in `translation`; it has de, en, fr: set data.source and"
            " data.target, or data.corpus.source_column and target_column"
        )


def test_languages_and_texts_in_two_lists(tmp_path: Path):
    rows = [
        {"language": ["de", "en", "en"], "translation": ["eins", "one", "a one"]},
        {"language": ["en"], "translation": ["two"]},
        {"language": [], "translation": []},
    ]
    pairs = [("one", "eins"), ("two", ""), ("", "")]
    lines = [json.dumps({"translation": row}) for row in rows]
    path = write(tmp_path / "a.jsonl", "\n".join(lines))
    assert read(path) == pairs
    assert read(write_arrow(tmp_path / "a.arrow", {"translation": rows})) == pairs
    assert "it has de, en: set data.source" in refusal(path, languages=("en", "fr"))


@pytest.mark.parametrize(
    "cell",
    [
        '"one"',
        "7",
        '["one", "eins"]',
        '[["en", "one"]]',
        '{"language": ["en", "de"], "translation": ["one"]}',
    ],
)
def test_translations_of_other_forms(tmp_path: Path, cell: str):
    lines = [f'{{"translation": {text}}}' for text in ('{"en": "one", "de": "eins"}', cell)]
    message = refusal(write(tmp_path / "a.jsonl", "\n".join(lines)))
    assert message.startswith("column 'translation' of FILE must hold texts by language, but holds")
    assert message.endswith("in row 2")


def test_a_translation_that_is_no_text(tmp_path: Path):
    path = write(tmp_path / "a.jsonl", '{"translation": {"en": "one", "de": 1}}')
    assert refusal(path) == "column 'translation' of FILE must hold text, but holds int in row 1"


def test_a_column_counts_before_the_translation(tmp_path: Path):
    path = write(tmp_path / "a.jsonl", '{"en": "one", "translation": {"en": "1", "de": "eins"}}')
    assert read(path) == [("one", "eins")]


# What is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize(("line", "number"), [("two\tzwei\tdrei", 3), ("three", 1), ("", 1)])
def test_tsv_lines_with_other_numbers_of_fields(
    tmp_path: Path, line: str, number: int, header: bool
):
    path = write(tmp_path / "a.tsv", f"en\tde\none\teins\n{line}\nfour\tvier\n")
    assert refusal(path, header=header) == (
        f"FILE, line 3 must have 2 fields as the first line has, but has {number}:"
        " mend the line, or take it out"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"one\nline",eins\ntwo,zwei,drei\n', "FILE, line 4 must have 2 fields"),
        ("one,eins\n\n", "FILE, line 3 must have 2 fields as the first line has, but has 0"),
        ('one,eins\n"two,zwei\nthree,drei\n', "FILE, line 3 begins a row that isn't CSV: "),
        ('one,eins\n"two"2,zwei\n', "FILE, line 3 begins a row that isn't CSV: "),
        ("one,eins\ntw\ro,zwei\n", "FILE, line 3 begins a row that isn't CSV: "),
        ('one,eins\n"two,' + "2" * 200_000, "FILE, line 3 begins a row that isn't CSV: "),
    ],
)
def test_csv_rows_with_other_numbers_of_fields_and_quotes(tmp_path: Path, text: str, message: str):
    assert refusal(write(tmp_path / "a.csv", "en,de\n" + text)).startswith(message)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "must be a JSON object, whole in this line, but isn't JSON: Expecting value"),
        ('{"en": "two",', "must be a JSON object, whole in this line, but isn't JSON: "),
        ("{'en': 'two'}", "must be a JSON object, whole in this line, but isn't JSON: "),
        ('["two", "zwei"]', 'must be a JSON object, but is \'["two", "zwei"]\''),
        ("null", "must be a JSON object, but is 'null'"),
        ("[" * 100_000, "must be a JSON object, whole in this line, but isn't JSON: "),
        (r'{"en": "a\ud800b"}', r"holds \ud800, half of a surrogate pair"),
        (r'{"en": "\udc00\ud800"}', r"holds \udc00, half of a surrogate pair"),
    ],
)
def test_lines_that_are_not_the_json_of_a_pair(tmp_path: Path, line: str, message: str):
    good = r'{"en": "one \ud83d\ude00", "de": "eins"}'
    path = write(tmp_path / "a.jsonl", f"{good}\n{line}\n{good}\n")
    assert refusal(path).startswith(f"FILE, line 2 {message}")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.tsv", b"en\tde\n\xfc"),
        ("a.csv", b"en,de\n\xfc"),
        ("a.jsonl", b'{"en": "one", "de": "eins"}\n\xfc'),
    ],
)
def test_tables_that_are_not_utf8(tmp_path: Path, name: str, text: bytes):
    assert refusal(write(tmp_path / name, text)).startswith("FILE, line 2 is not UTF-8")
