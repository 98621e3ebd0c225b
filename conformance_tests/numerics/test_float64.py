"""The float64 oracle: widened, repeatable, equal over attention kernels, honest where it ends."""

from __future__ import annotations

import copy
import logging
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from slmconform.model.float64 import ForcedFloat64, NoFloat64Kernel, float64_twin

NARROW = {torch.float32, torch.float16, torch.bfloat16, torch.complex64}
CACHES = {"past_key_values", "cache_params", "state", "mems", "encoder_last_hidden_state"}

IDS = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
BASE = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    **IDS,
}
GROUPED = {**BASE, "num_key_value_heads": 2, "head_dim": 8}
GPT = {"vocab_size": 100, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, **IDS}
BART = {
    "vocab_size": 100,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 64,
    "decoder_start_token_id": 0,
    "forced_eos_token_id": None,
    **IDS,
}
T5 = {
    "vocab_size": 100,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
    **IDS,
}
EXPERTS = {
    **BASE,
    "num_key_value_heads": 2,
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
}
LATENT = {
    **BASE,
    "num_key_value_heads": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "head_dim": 8,
    "n_shared_experts": 1,
}
XL = {"vocab_size": 100, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64, "pad_token_id": 1}
XLM = {"vocab_size": 100, "emb_dim": 32, "n_layers": 2, "n_heads": 4, "pad_token_id": 1}
FUNNEL = {**XL, "block_sizes": [1, 1], "num_decoder_layers": 1, "d_head": 8}
DISENTANGLED = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}

ARCHITECTURES: list[tuple[str, str, dict[str, Any]]] = [
    *(
        (name, "CausalLM", GROUPED)
        for name in ("llama", "mistral", "qwen2", "qwen3", "phi3", "gemma")
    ),
    *(
        (name, "CausalLM", GROUPED)
        for name in ("gemma2", "gemma3_text", "olmo2", "cohere", "granite")
    ),
    *(
        (name, "CausalLM", GROUPED)
        for name in ("phi", "stablelm", "starcoder2", "smollm3", "nemotron")
    ),
    ("gpt_neox", "CausalLM", BASE),
    ("gpt2", "CausalLM", GPT),
    ("gptj", "CausalLM", {**GPT, "rotary_dim": 8}),
    ("gpt_bigcode", "CausalLM", GPT),
    (
        "gpt_neo",
        "CausalLM",
        {**BASE, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]},
    ),
    ("bloom", "CausalLM", {**GPT, "hidden_size": 32}),
    ("mpt", "CausalLM", {"vocab_size": 100, "d_model": 32, "n_heads": 4, "n_layers": 2}),
    ("falcon", "CausalLM", BASE),
    ("falcon", "CausalLM", {**BASE, "alibi": True}),
    ("opt", "CausalLM", {**BASE, "ffn_dim": 64, "word_embed_proj_dim": 32}),
    ("xglm", "CausalLM", {**BART, "ffn_dim": 64, "num_layers": 2, "attention_heads": 4}),
    ("mamba", "CausalLM", {**BASE, "state_size": 8}),
    ("rwkv", "CausalLM", {**BASE, "attention_hidden_size": 32, "context_length": 64}),
    ("mixtral", "CausalLM", EXPERTS),
    ("qwen2_moe", "CausalLM", {**EXPERTS, "shared_expert_intermediate_size": 16}),
    ("qwen3_moe", "CausalLM", {**EXPERTS, "head_dim": 8}),
    ("olmoe", "CausalLM", EXPERTS),
    ("phimoe", "CausalLM", EXPERTS),
    ("granitemoe", "CausalLM", EXPERTS),
    ("gpt_oss", "CausalLM", {**EXPERTS, "head_dim": 8}),
    ("deepseek_v2", "CausalLM", LATENT),
    ("deepseek_v3", "CausalLM", LATENT),
    ("xlnet", "CausalLM", XL),
    *((name, "MaskedLM", BASE) for name in ("bert", "roberta", "mpnet", "camembert", "esm")),
    ("albert", "MaskedLM", {**BASE, "embedding_size": 16}),
    ("electra", "MaskedLM", {**BASE, "embedding_size": 16}),
    ("distilbert", "MaskedLM", {**BASE, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}),
    ("deberta", "MaskedLM", {**BASE, **DISENTANGLED}),
    ("deberta-v2", "MaskedLM", {**BASE, **DISENTANGLED, "position_buckets": 8}),
    ("modernbert", "MaskedLM", {**BASE, "cls_token_id": 3, "sep_token_id": 4}),
    ("fnet", "MaskedLM", BASE),
    ("longformer", "MaskedLM", {**BASE, "attention_window": 8}),
    ("mra", "MaskedLM", BASE),
    ("xlm", "MaskedLM", XLM),
    ("funnel", "MaskedLM", FUNNEL),
    ("bert", "SequenceClassification", BASE),
    ("gpt2", "SequenceClassification", GPT),
    ("llama", "SequenceClassification", GROUPED),
    ("canine", "SequenceClassification", {**BASE, "num_hash_buckets": 64}),
    ("bert", "TokenClassification", BASE),
    ("electra", "TokenClassification", {**BASE, "embedding_size": 16}),
    ("llama", "TokenClassification", GROUPED),
    ("bert", "QuestionAnswering", BASE),
    ("deberta-v2", "QuestionAnswering", {**BASE, **DISENTANGLED}),
    ("t5", "QuestionAnswering", T5),
    ("bert", "MultipleChoice", BASE),
    ("albert", "MultipleChoice", {**BASE, "embedding_size": 16}),
    *((name, "Seq2SeqLM", BART) for name in ("bart", "mbart", "pegasus", "marian", "m2m_100")),
    ("nllb-moe", "Seq2SeqLM", {**BART, "num_experts": 4, "expert_capacity": 64}),
    *((name, "Seq2SeqLM", T5) for name in ("t5", "mt5", "longt5")),
    ("switch_transformers", "Seq2SeqLM", {**T5, "num_experts": 4, "expert_capacity": 64}),
]


class Watch(TorchDispatchMode):
    """Counts operations and names those whose result is a narrow float."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        self.narrow: set[str] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.operations += 1
        results = out if isinstance(out, tuple | list) else (out,)
        if any(isinstance(result, Tensor) and result.dtype in NARROW for result in results):
            self.narrow.add(str(func))
        return out


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny(model_type: str, task: str = "CausalLM", config: dict[str, Any] = GROUPED) -> nn.Module:
    """A seeded float32 model of the installed transformers, or a skip where it has none."""
    if model_type not in transformers.CONFIG_MAPPING:
        pytest.skip(f"transformers {transformers.__version__} has no {model_type}")
    torch.manual_seed(0)
    made = transformers.AutoConfig.for_model(model_type, **config)
    return getattr(transformers, f"AutoModelFor{task}").from_config(made).eval()


def batch(model_type: str, task: str) -> dict[str, Tensor]:
    torch.manual_seed(1)
    ids = torch.randint(6, 99, (2, 3, 16) if task == "MultipleChoice" else (2, 16))
    inputs = {"input_ids": ids}
    if model_type != "fnet":  # no mask in transformers 4
        inputs["attention_mask"] = torch.ones_like(ids)
        inputs["attention_mask"][0, ..., 12:] = 0
    if task == "Seq2SeqLM":
        inputs["decoder_input_ids"] = ids[:, :8]
    return inputs


def floats(outputs: Any) -> list[Tensor]:
    return [
        value
        for name, value in outputs.items()
        if name not in CACHES and isinstance(value, Tensor) and value.is_floating_point()
    ]


def forced(module: nn.Module, inputs: dict[str, Tensor]) -> list[Tensor]:
    with torch.no_grad(), ForcedFloat64():
        return floats(module(**inputs))


def distance(left: list[Tensor], right: list[Tensor]) -> float:
    return max((a - b).abs().max().item() for a, b in zip(left, right, strict=True))


@pytest.mark.filterwarnings("ignore")  # the architectures' own: deprecated calls, TorchScript
@pytest.mark.parametrize(
    ("model_type", "task", "config"),
    [
        pytest.param(*row, id=f"{row[0]}-{row[1]}" + ("-alibi" if row[2].get("alibi") else ""))
        for row in ARCHITECTURES
    ],
)
def test_architecture_runs_in_float64(model_type, task, config):
    model, inputs = tiny(model_type, task, config), batch(model_type, task)
    with torch.no_grad():
        native = floats(model(**inputs))
    twin, watch = float64_twin(model), Watch()
    with watch:
        wide = forced(twin, inputs)
    assert {value.dtype for value in wide} == {torch.float64}
    # torch.tensor builds narrow before any mode can act; the mode widens what arrives.
    assert watch.narrow <= {"aten.lift_fresh.default"}
    assert watch.operations > 50
    for ours, theirs in zip(wide, native, strict=True):
        assert torch.isfinite(ours).all()
        assert (ours - theirs.double()).abs().max() <= 1e-5 * theirs.abs().max()
    again = forced(twin, inputs)
    assert all(torch.equal(a, b) for a, b in zip(wide, again, strict=True))
    if getattr(model, "_supports_sdpa", False) and twin.config._attn_implementation == "sdpa":
        twin.set_attn_implementation("eager")
        assert distance(wide, forced(twin, inputs)) <= 1e-10


@pytest.mark.filterwarnings("ignore")
def test_splinter_differs_only_where_it_writes_the_lowest_float_of_the_dtype():
    model = tiny("splinter", "QuestionAnswering", {**BASE, "question_token_id": 5})
    inputs = batch("splinter", "QuestionAnswering")
    inputs["input_ids"][:, 3] = 5
    real = inputs["attention_mask"].bool()
    with torch.no_grad():
        native = floats(model(**inputs))
    for ours, theirs in zip(forced(float64_twin(model), inputs), native, strict=True):
        assert (ours[real] - theirs[real]).abs().max() <= 1e-5 * theirs[real].abs().max()
        assert (ours[~real] == torch.finfo(torch.float64).min).all()


def test_plain_double_llama_is_not_float64():
    twin, inputs = float64_twin(tiny("llama")), batch("llama", "CausalLM")
    with Watch() as watch, torch.no_grad():
        plain = floats(twin(**inputs))
    assert "aten._to_copy.default" in watch.narrow
    assert distance(plain, forced(twin, inputs)) > 1e-9


def gradients_check(module: nn.Module, start: Tensor) -> bool:
    return torch.autograd.gradcheck(
        lambda x: module(inputs_embeds=x, use_cache=False).logits.sum((0, 1)),
        (start,),
        atol=1e-7,
        rtol=1e-5,
        fast_mode=True,
        raise_exception=False,
    )


def test_gradcheck_passes_on_llama_in_forced_float64_only():
    twin = float64_twin(tiny("llama"))
    torch.manual_seed(3)
    start = torch.randn(1, 4, 32, dtype=torch.float64).requires_grad_()
    assert not gradients_check(twin, start)
    with ForcedFloat64():
        assert gradients_check(twin, start)


def test_training_loss_gives_every_parameter_a_float64_gradient():
    twin, inputs = float64_twin(tiny("llama")), batch("llama", "CausalLM")
    with Watch() as watch, ForcedFloat64():
        loss = twin(**inputs, labels=inputs["input_ids"]).loss
        loss.backward()
    assert loss.dtype == torch.float64
    assert {p.grad.dtype for p in twin.parameters()} == {torch.float64}
    assert not watch.narrow


X = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64) / 3


@pytest.mark.parametrize(
    "make",
    [
        X.float,
        X.half,
        lambda: X.to(torch.bfloat16),
        lambda: X.to(torch.zeros(1, dtype=torch.float32)),
        lambda: X.type_as(torch.zeros(1, dtype=torch.float32)),
        lambda: X.type(torch.float32),
        lambda: torch.ops.prims.convert_element_type(X, torch.float32),
        lambda: X.new_tensor(X.tolist(), dtype=torch.float64).float(),
        lambda: torch.tensor(X.tolist()),
        lambda: torch.softmax(X.log(), 0, dtype=torch.float32) * X.sum(),
        lambda: torch.cumsum(torch.stack([X, X * 0]), 1, dtype=torch.float32)[0].diff(
            prepend=torch.zeros(1)
        ),
        lambda: torch.arange(1, 5) / 3,
        lambda: torch.arange(1.0, 5.0) / torch.tensor(3.0),
        lambda: torch.linspace(1, 4, 4, dtype=torch.float16) / torch.full((4,), 3.0),
        lambda: torch.empty(4, dtype=torch.bfloat16).copy_(X),
        lambda: torch.zeros(4).add_(X),
        lambda: X.to(torch.complex64).real,
        lambda: torch.where(X > 0, X.float(), torch.finfo(X.float().dtype).min),
        lambda: torch.ones(4, dtype=torch.float32).masked_scatter_(X > 0, X),
    ],
)
def test_no_cast_and_no_creation_loses_a_bit(make):
    with ForcedFloat64():
        made = make()
    assert made.dtype == torch.float64
    assert (made - X).abs().max() <= 2.3e-16 * 4


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.tensor([0.1], dtype=torch.float32),
        lambda: torch.from_numpy(np.array([0.1], dtype=np.float32)),
        lambda: torch.as_tensor(np.array([0.1], dtype=np.float32)),
        lambda: torch.FloatTensor([0.1]),
    ],
)
def test_constants_built_narrow_keep_their_value_and_compute_wide(make):
    with ForcedFloat64():
        made = make()
        made *= X[:1]
    assert made.dtype == torch.float64
    assert made.item() == float(np.float32(0.1)) * X[0].item()


def test_autocast_regions_do_not_narrow():
    layer = nn.Linear(4, 4).double()
    with ForcedFloat64(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert not (layer(X) - layer(X.float())).any()
        assert layer(X).dtype == torch.float64


def test_scaled_dot_product_attention_runs_in_double():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, 5, 8, dtype=torch.float64)
    with ForcedFloat64():
        fused = nn.functional.scaled_dot_product_attention(q.half(), k.half(), v.half())
    plain = torch.softmax(q @ k.transpose(-1, -2) / 8**0.5, -1) @ v
    assert (fused - plain).abs().max() <= 1e-14


@pytest.mark.parametrize("target", [torch.float32, torch.int64, torch.int32])
def test_reading_the_bits_of_a_float_is_refused(target):
    with ForcedFloat64(), pytest.raises(NoFloat64Kernel, match=r"aten\.view\.dtype.*bits"):
        X.view(target)


def test_reading_the_bits_of_an_integer_is_legal():
    with ForcedFloat64():
        assert torch.arange(2).view(torch.int32).tolist() == [0, 0, 1, 0]


def test_quantising_is_refused():
    with ForcedFloat64(), pytest.raises(NoFloat64Kernel, match="float8_e4m3fn"):
        X.to(torch.float8_e4m3fn)


@torch.library.custom_op("slmconform_test::single_only", mutates_args=())
def single_only(x: Tensor) -> Tensor:
    if x.dtype != torch.float32:
        raise RuntimeError("expected Float but got Double")
    return x * 2


@torch.library.custom_op("slmconform_test::always_single", mutates_args=())
def always_single(x: Tensor) -> Tensor:
    return x.detach().numpy().astype(np.float32).sum() * torch.ones(1, dtype=torch.float32)


def test_an_operation_without_a_float64_kernel_is_named():
    with (
        ForcedFloat64(),
        pytest.raises(NoFloat64Kernel, match="single_only") as stop,
    ):
        single_only(X.float())
    assert stop.value.op == "slmconform_test.single_only.default"
    assert "expected Float" in str(stop.value.__cause__)


def test_the_models_own_mistake_is_not_taken_for_a_missing_kernel():
    with ForcedFloat64(), pytest.raises(RuntimeError, match="shape"):
        torch.mm(torch.ones(2, 3), torch.ones(2, 3))


def test_a_float32_constant_from_outside_is_widened_where_it_is_used():
    constant = torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    with ForcedFloat64():
        assert torch.equal(torch.mm(X.view(2, 2), constant), X.view(2, 2) @ constant.double())
        assert torch.equal(constant.T @ X.view(2, 2), constant.double().T @ X.view(2, 2))
        assert torch.equal(constant * constant, constant.double() ** 2)
    assert constant.dtype == torch.float32


@pytest.mark.parametrize(
    "write", [lambda c: c.add_(X), lambda c: c[:2].mul_(X[:2]), lambda c: c.copy_(X)]
)
def test_writing_into_a_float32_tensor_from_outside_is_refused(write):
    constant = torch.ones(4)
    with ForcedFloat64(), pytest.raises(NoFloat64Kernel, match="made before"):
        write(constant)


def test_state_is_restored_also_after_an_exception_and_when_nested():
    context = ForcedFloat64()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with context:
            assert not torch.is_autocast_enabled("cpu")
            with context:
                pass
            assert torch.get_default_dtype() == torch.float64
        with pytest.raises(RuntimeError, match="shape"), context:
            torch.ones(2).view(3)
        assert torch.is_autocast_enabled("cpu")
    assert torch.get_default_dtype() == torch.float32
    assert torch.zeros(1).dtype == torch.float32


class Odd(nn.Module):
    """Everything that a careless copy loses: ties, views, buffers and unregistered tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4, bias=False)
        self.tied = nn.Linear(4, 4, bias=False)
        self.tied.weight = self.first.weight
        self.alias = nn.Parameter(self.first.weight.detach()[:2], requires_grad=False)
        self.register_buffer("frequencies", 1.0 / 10000 ** (torch.arange(4) / 4), persistent=False)
        self.register_buffer("positions", torch.arange(4))
        self.hidden = {"scale": [self.frequencies, torch.full((2,), 0.1)]}


def test_twin_keeps_values_ties_and_flags_and_leaves_the_original_alone():
    odd = Odd().train()
    before = copy.deepcopy(odd.state_dict())
    twin = float64_twin(odd)
    assert twin.tied.weight is twin.first.weight
    assert not twin.alias.requires_grad
    assert twin.first.weight.requires_grad
    assert torch.equal(twin.first.weight, odd.first.weight.double())
    assert torch.equal(twin.frequencies, odd.frequencies.double())
    assert twin.hidden["scale"][0] is twin.frequencies
    assert twin.hidden["scale"][1].dtype == torch.float64
    assert not twin.training
    with torch.no_grad():
        twin.first.weight.zero_()
        twin.positions.zero_()
    assert not twin.alias.any()
    assert odd.training
    assert all(torch.equal(value, before[name]) for name, value in odd.state_dict().items())


def test_twin_keeps_the_rotary_frequencies_that_were_computed_in_float32():
    model = tiny("llama")
    frequencies = dict(model.named_buffers())["model.rotary_emb.inv_freq"]
    twins = dict(float64_twin(model).named_buffers())["model.rotary_emb.inv_freq"]
    assert torch.equal(twins, frequencies.double())
    assert twins.dtype == torch.float64


def test_twin_allocates_one_float64_copy_and_no_float32_one():
    class Allocations(Watch):
        made = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = super().__torch_dispatch__(func, types, args, kwargs)
            made_new = not any(r.alias_info for r in func._schema.returns)
            if made_new and out.is_floating_point():
                Allocations.made += out.numel() * out.element_size()
                assert out.dtype == torch.float64
            return out

    model = tiny("gpt2", config=GPT)
    tensors = [*model.parameters(), *model.buffers()]
    floating = {t.data_ptr(): t.numel() for t in tensors if t.is_floating_point()}
    with Allocations():
        float64_twin(model)
    assert Allocations.made == 8 * sum(floating.values())


def test_twin_refuses_quantised_weights():
    module = nn.Module()
    module.weight = nn.Parameter(torch.ones(2).to(torch.float8_e4m3fn), requires_grad=False)
    with pytest.raises(NoFloat64Kernel, match="float8_e4m3fn"):
        float64_twin(module)


def test_twin_of_experts_uses_the_eager_implementation():
    model = tiny("mixtral", config=EXPERTS)
    if not hasattr(model, "set_experts_implementation"):
        pytest.skip(f"transformers {transformers.__version__} has one implementation only")
    before = model.config._experts_implementation
    assert float64_twin(model).config._experts_implementation == "eager"
    assert model.config._experts_implementation == before != "eager"


logging.getLogger("transformers").setLevel(logging.ERROR)
