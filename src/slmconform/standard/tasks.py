"""The tasks of the standard: what each takes, returns and is loaded as."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Task:
    """One task. Axes are names, or sizes where the manifest has to give a number.

    ``auto_class`` is the transformers class that loads the task from a configuration;
    ``outputs`` maps each output that the standard compares to its axes.
    """

    name: str
    auto_class: str
    outputs: dict[str, tuple[str, ...]]
    text: bool = True


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("causal-lm", "AutoModelForCausalLM", {"logits": ("batch", "sequence", "vocabulary")}),
        Task("masked-lm", "AutoModelForMaskedLM", {"logits": ("batch", "sequence", "vocabulary")}),
        Task(
            "seq2seq-lm",
            "AutoModelForSeq2SeqLM",
            {"logits": ("batch", "target", "vocabulary")},
        ),
        Task(
            "text-classification",
            "AutoModelForSequenceClassification",
            {"logits": ("batch", "labels")},
        ),
        Task(
            "token-classification",
            "AutoModelForTokenClassification",
            {"logits": ("batch", "sequence", "labels")},
        ),
        Task(
            "question-answering",
            "AutoModelForQuestionAnswering",
            {"start_logits": ("batch", "sequence"), "end_logits": ("batch", "sequence")},
        ),
        Task(
            "sentence-embedding",
            "AutoModel",
            {
                "last_hidden_state": ("batch", "sequence", "hidden"),
                "sentence_embedding": ("batch", "hidden"),
            },
        ),
        Task("multiple-choice", "AutoModelForMultipleChoice", {"logits": ("batch", "choices")}),
        Task("sequence-scoring", "", {"scores": ("batch", "items")}, text=False),
        Task("tensor", "", {}, text=False),
    )
}
