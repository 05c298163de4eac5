"""What a SentencePiece model is as a file: a message of Protocol Buffers.

SentencePiece brings generated code for it, which can't be imported beside a protobuf that is older
than what it was made with. So the fields that are needed are described here; all others are kept.
"""

from typing import Any

from google.protobuf import descriptor_pool, message_factory, text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError

NORMAL, UNKNOWN, CONTROL = 1, 2, 3
"""Types of pieces; there are also pieces of the user (4), unused ones (5) and bytes (6)."""
ALGORITHMS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}
"""What `trainer_spec.model_type` means."""

# https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
_DESCRIPTION = """
name: "sentencepiece_model.proto"
message_type {
  name: "Piece"
  field { name: "piece" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "score" number: 2 label: LABEL_OPTIONAL type: TYPE_FLOAT }
  field { name: "type" number: 3 label: LABEL_OPTIONAL type: TYPE_INT32 default_value: "1" }
}
message_type {
  name: "Trainer"
  field { name: "model_type" number: 3 label: LABEL_OPTIONAL type: TYPE_INT32 default_value: "1" }
  field { name: "vocab_size" number: 4 label: LABEL_OPTIONAL type: TYPE_INT32 }
  field { name: "unk_id" number: 40 label: LABEL_OPTIONAL type: TYPE_INT32 }
  field { name: "bos_id" number: 41 label: LABEL_OPTIONAL type: TYPE_INT32 }
  field { name: "eos_id" number: 42 label: LABEL_OPTIONAL type: TYPE_INT32 }
  field { name: "pad_id" number: 43 label: LABEL_OPTIONAL type: TYPE_INT32 }
  field { name: "unk_piece" number: 45 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "bos_piece" number: 46 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "eos_piece" number: 47 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "pad_piece" number: 48 label: LABEL_OPTIONAL type: TYPE_STRING }
}
message_type {
  name: "Model"
  field { name: "pieces" number: 1 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: "Piece" }
  field {
    name: "trainer_spec" number: 2 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: "Trainer"
  }
}
"""


def _model_type() -> Any:
    pool = descriptor_pool.DescriptorPool()  # an own one, beside SentencePiece's
    pool.Add(text_format.Parse(_DESCRIPTION, FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Model"))


_Model = _model_type()


def read_model(model: bytes) -> Any:
    """Read a model: `pieces` of `piece`, `score` and `type`, and `trainer_spec`.

    Raises:
        ValueError: it is none.
    """
    try:
        return _Model.FromString(model)
    except DecodeError as error:
        raise ValueError("no SentencePiece model") from error
