"""SentencePiece models of other programs, and files that are none."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import pytest
import sentencepiece

from seq2seq.config import VocabularyFiles
from seq2seq.errors import DataError
from seq2seq.vocabulary import BOS, EOS, PAD, UNK, Vocabulary
from seq2seq.vocabulary_files import read_vocabularies, with_own_ids
from tests.vocabulary_builders import ENGLISH, GERMAN, SIZE, learn

OTHERS = {
    "spm_train's own": {},
    "T5": {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
    "with symbols and bytes": {
        "user_defined_symbols": ["<br>"],
        "control_symbols": ["<cls>"],
        "byte_fallback": True,
        "vocab_size": 340,
    },
    "special pieces at the end": {"unk_id": 0, "bos_id": 62, "eos_id": 63, "pad_id": 61},
}


def foreign(**settings: Any) -> bytes:
    model = BytesIO()
    cast(Any, sentencepiece.SentencePieceTrainer).train(
        sentence_iterator=iter([*ENGLISH, *GERMAN]),
        model_writer=model,
        minloglevel=2,
        **{"vocab_size": 64, "character_coverage": 1.0, **settings},
    )
    return model.getvalue()


@pytest.mark.parametrize("algorithm", ["unigram", "bpe"])
@pytest.mark.parametrize("name", OTHERS)
def test_a_model_of_another_program_cuts_as_before(name: str, algorithm: str):
    model = foreign(model_type=algorithm, **OTHERS[name])
    before = cast(Any, sentencepiece.SentencePieceProcessor(model_proto=model))
    vocabulary = Vocabulary(with_own_ids(model))
    texts = ["the clock waits<br>", *ENGLISH[:5], *GERMAN[:5], "Ω日"]
    encoded = vocabulary.encode(texts)
    for text, ids in zip(texts, encoded, strict=True):
        pieces = before.encode(text, out_type=str)
        assert [vocabulary.names[n] for n in ids if n != UNK] == [
            piece for piece in pieces if before.piece_to_id(piece) != before.unk_id()
        ]
        assert not {PAD, BOS, EOS} & set(ids)
    assert vocabulary.decode(encoded) == [before.decode(before.encode(text)) for text in texts]
    assert vocabulary.decode([[PAD, BOS, EOS]]) == [""]
    assert not {"<s>", "</s>", "<pad>", "<cls>"} & set(vocabulary.names)


def test_text_that_looks_like_its_special_pieces_is_text():
    vocabulary = Vocabulary(with_own_ids(foreign()))
    (ids,) = vocabulary.encode(["the </s>"])
    assert EOS not in ids


def test_a_model_of_this_program_stays_as_it_is(tmp_path: Path):
    learnt = learn(ENGLISH, GERMAN, size=SIZE, joint=False)
    learnt.save(tmp_path)
    files = VocabularyFiles(
        kind="file", source=tmp_path / "source.model", target=tmp_path / "target.model"
    )
    assert not files.joint
    read = read_vocabularies(files)
    assert [each.model for each in read] == [each.model for each in learnt]
    one = read_vocabularies(VocabularyFiles(kind="file", source=tmp_path / "source.model"))
    assert one.joint
    assert one.target.model == learnt.source.model


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"#version: 0.2\ne r</w>\n", "codes of subword-nmt's"),
        (json.dumps({"model": {"type": "BPE"}}).encode(), "a tokenizer.json of Hugging Face's"),
        ("<unk>\t0\n▁the\t-3.1\n".encode(), "text, such as a list of pieces"),
        (b"", "empty"),
        (bytes(range(256)) * 9, "something else, or damaged"),
    ],
)
def test_a_file_that_is_no_model(tmp_path: Path, data: bytes, what: str):
    path = tmp_path / "codes"
    path.write_bytes(data)
    with pytest.raises(DataError) as error:
        read_vocabularies(VocabularyFiles(kind="file", source=path))
    text = str(error.value)
    assert text.startswith(f"vocabulary.source: {path} is no SentencePiece model, but ")
    assert what in text
    assert text.endswith("or write vocabulary.kind=learnt")


def test_a_model_that_was_cut_off(tmp_path: Path):
    path, model = tmp_path / "spm.model", foreign()
    for cut in (len(model) // 3, len(model) // 2, model.index(b"\n", len(model) // 2)):
        path.write_bytes(model[:cut])
        with pytest.raises(DataError, match="is no SentencePiece model, but something else, or"):
            read_vocabularies(VocabularyFiles(kind="file", source=path))


def test_a_model_that_is_not_there(tmp_path: Path):
    files = VocabularyFiles(kind="file", source=tmp_path / "none.model")
    with pytest.raises(
        DataError, match=r"vocabulary\.source: .*none\.model can't be read: No such"
    ):
        read_vocabularies(files)
