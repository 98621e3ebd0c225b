"""Task and class of a transformers configuration, as the library's own mappings tell them."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from slmconform.engine.registry import Inconclusive
from slmconform.package.problem import shown

if TYPE_CHECKING:
    from torch import nn

# Looked through in this order: some classes stand in more than one mapping.
MAPPINGS = {
    "seq2seq-lm": "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "causal-lm": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "masked-lm": "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "text-classification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "token-classification": "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
    "question-answering": "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES",
    "multiple-choice": "MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES",
    "sentence-embedding": "MODEL_MAPPING_NAMES",
}

# Classes that stand in no mapping (a second class of an architecture) are known by their names.
ENDINGS = {
    "ForConditionalGeneration": "seq2seq-lm",
    "ForCausalLM": "causal-lm",
    "LMHeadModel": "causal-lm",
    "ForMaskedLM": "masked-lm",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMultipleChoice": "multiple-choice",
    "EncoderModel": "sentence-embedding",
}

# Language-model heads that look both ways unless `is_decoder` is set, or always.
BIDIRECTIONAL = frozenset(
    [
        "albert",
        "bert",
        "bert-generation",
        "big_bird",
        "camembert",
        "cpmant",  # within the prompt, which is all that a forward pass without cache sees
        "data2vec-text",
        "electra",
        "ernie",
        "flaubert",
        "megatron-bert",
        "mobilebert",
        "reformer",
        "rembert",
        "roberta",
        "roberta-prelayernorm",
        "roc_bert",
        "roformer",
        "xlm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xlnet",
        "xmod",
    ]
)

# Architectures in which tokens behind the last real one count by design, whatever the mask says,
# and why.
PADDING_COUNTS = {
    "canine": "characters are convolved and pooled in groups, the last of them with padding",
    "convbert": "its convolutions see the tokens beside each",
    "funnel": "neighbours are pooled, the last real token with padding",
    "mobilebert": "each embedding is put together with those of its neighbours",
    "nystromformer": "landmarks are means over parts of the row, padding included",
}


def task_and_class(config: Mapping[str, Any]) -> tuple[str, str]:
    """Task and class name of a configuration; `Inconclusive` where it is no known text model."""
    named = config.get("architectures")
    wanted, model_type = (
        named[0] if isinstance(named, list) and named else None,
        config["model_type"],
    )
    told = isinstance(model_type, str) and isinstance(wanted, str | None)
    task, cls = _mapped(wanted, model_type) if told else ("", None)
    if cls is None:
        raise Inconclusive(
            f"cannot tell the task of architecture {shown(wanted or model_type)}: "
            "declare model.task and loader.class in slm.toml"
        )
    return _as_text(task, cls), cls


def _mapped(wanted: str | None, model_type: str) -> tuple[str, str | None]:
    auto = importlib.import_module("transformers.models.auto.modeling_auto")
    if wanted is None:
        names = getattr(auto, MAPPINGS["sentence-embedding"])
        return "sentence-embedding", next(_classes(names.get(model_type)), None)
    for task, mapping in MAPPINGS.items():
        for value in getattr(auto, mapping).values():
            if wanted in _classes(value):
                return task, wanted
    ending = next((end for end in ENDINGS if wanted.endswith(end)), None)
    return (ENDINGS[ending], wanted) if ending else ("", None)


def _classes(value: object) -> Iterator[str]:
    for cls in value if isinstance(value, (tuple, list)) else (value,):
        if cls is not None:
            yield str(cls)


def _as_text(task: str, cls: str) -> str:
    """The task that the class has when it is given nothing but text."""
    import transformers

    try:
        made = getattr(transformers, cls)
        main = getattr(made, "main_input_name", "input_ids")
        forward = inspect.signature(made.forward).parameters
    except (AttributeError, ImportError) as error:
        here = f"transformers {transformers.__version__}"
        raise Inconclusive(f"{here} cannot give {cls}: {str(error).strip()}") from error
    if main != "input_ids":
        raise Inconclusive(
            f"{cls} takes {main} rather than text: declare task and interface in slm.toml"
        )
    # Models that listen or see stand among the encoder-decoders although they only decode.
    if task == "seq2seq-lm" and "decoder_input_ids" not in forward:
        return "causal-lm"
    return task


def bidirectional(config: Any) -> bool:
    """Whether a language model of this configuration looks both ways by design."""
    return getattr(config, "model_type", "") in BIDIRECTIONAL and not (
        getattr(config, "is_decoder", False) or getattr(config, "causal", False)
    )


def padding_counts(module: nn.Module) -> str:
    """Why masked tokens reach real ones in a model by design; empty where they must not."""
    if any(getattr(part, "summary_type", None) == "last" for part in module.modules()):
        return "the summary of a row is taken at its last token, padded or not"
    config = getattr(module, "config", None)
    return PADDING_COUNTS.get(getattr(config, "model_type", ""), "")
