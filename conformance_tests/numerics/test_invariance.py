"""What must not matter, on models of one line: the right one does not move, a wrong one does."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from slmconform.engine.registry import NotApplicable
from slmconform.measure import invariance
from slmconform.model.probes import TokenRules
from slmconform.standard.manifest import InterfaceSection

ROWS, WIDTH = 4, 8
TABLE = torch.randn(16, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
IDS = torch.tensor(
    [
        [3, 1, 4, 1, 5, 9, 2, 6],
        [5, 3, 5, 8, 9, 7, 9, 3],
        [2, 3, 8, 4, 6, 2, 6, 4],
        [3, 3, 8, 3, 2, 7, 9, 3],  # the first and the last token are the same
    ]
)


def spec(name, role, *axes, **more):
    return {"name": name, "dtype": "int64", "axes": ["batch", *axes], "role": role} | more


def interface(*, sequence=(1, 32), positions=False, causal=True, inputs=None):
    inputs = inputs or [
        spec("input_ids", "tokens", "sequence", range=[0, 15]),
        spec("attention_mask", "mask", "sequence", required=False),
    ]
    if positions:
        inputs.append(spec("places", "positions", "sequence"))
    outputs = [
        {"name": "logits", "dtype": "float32", "axes": ["batch", "sequence", 4]},
        {"name": "pooled", "dtype": "float32", "axes": ["batch", 4]},
    ]
    return InterfaceSection(
        inputs=inputs,
        outputs=outputs,
        axes={"sequence": {"min": sequence[0], "max": sequence[1]}},
        capabilities={"causal": causal, "kv_cache": True, "padding": ["right", "left"]},
    )


class Toy:
    """As much of a bench as an invariance needs; the model is a function of its inputs."""

    def __init__(self, model, ids=IDS, **kept):
        self.run, self.interface, self.rules = model, interface(**kept), TokenRules()
        self.task, self.passes, self.seen = "causal-lm", 0, []
        self.loader = SimpleNamespace(kind="torch")
        self.options = SimpleNamespace(device=torch.device("cpu"))
        self.typical = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if kept.get("positions"):
            self.typical["places"] = torch.arange(ids.shape[1]).expand(ids.shape).clone()

    def remember(self, _key, make):
        return make()

    def inputs(self, which):
        return {"typical": self.typical}[which]

    def count(self, passes=1):
        self.passes += passes

    def float64(self, inputs):
        self.seen.append(inputs)
        return self.run(inputs)

    def in_float64(self, use):
        oracle = SimpleNamespace(call=lambda step: self.step(**step), cache_name="past_key_values")
        return use(oracle)

    def step(self, input_ids, attention_mask, past_key_values=(), use_cache=False):
        """A full pass over what the cache holds and the new tokens; outputs of the new ones."""
        assert use_cache
        whole = torch.cat([*past_key_values, input_ids], dim=1)
        assert attention_mask.shape == whole.shape
        got = self.run({"input_ids": whole, "attention_mask": attention_mask})["logits"]
        return SimpleNamespace(logits=got[:, -input_ids.shape[1] :], past_key_values=(whole,))


def means(inputs):
    """Each output the mean of the tokens so far; the pooled one the mean of all."""
    ids = inputs["input_ids"]
    mask = inputs.get("attention_mask", torch.ones_like(ids))[..., None].double()
    sums, many = (TABLE[ids] * mask).cumsum(1), mask.cumsum(1).clamp(min=1)
    return {"logits": sums / many, "pooled": sums[:, -1] / many[:, -1]}


def wrong(change):
    """The same with something added that depends on what it must not depend on."""

    def model(inputs):
        right = means(inputs)
        return right | {"logits": right["logits"] + 1e-3 * change(inputs, right["logits"])}

    return model


def by_place(inputs, value):
    return torch.arange(len(value))[:, None, None].double().expand(value.shape)


WRONG = {
    "rows mixed": wrong(lambda i, v: v.mean(0, keepdim=True)),
    "place in the batch": wrong(by_place),
    "mask counted": wrong(lambda i, v: float("attention_mask" in i)),
    "mask ignored": lambda inputs: means({"input_ids": inputs["input_ids"]}),
    "sees the last": wrong(lambda i, v: TABLE[i["input_ids"][:, -1:]]),
    "sees the length": wrong(lambda i, v: float(v.shape[1])),
}
GAPS = {
    "batch": invariance.batch_gap,
    "order": invariance.permuted_gap,
    "mask": invariance.unmasked_gap,
    "right": lambda bench: invariance.padding_gap(bench, "right"),
    "left": lambda bench: invariance.padding_gap(bench, "left"),
    "future": invariance.future_gap,
    "prefix": invariance.prefix_gap,
    "cache": invariance.cache_gap,
}
SEEN_BY = {
    "rows mixed": {"batch", "right", "left"},
    "place in the batch": {"batch", "order", "right", "left"},
    "mask counted": {"mask"},
    "mask ignored": {"right", "left"},
    "sees the last": {"future", "prefix", "right", "cache"},
    "sees the length": {"right", "left", "prefix", "cache"},
}


@pytest.mark.parametrize("gap", GAPS)
def test_a_right_model_does_not_move(gap):
    assert GAPS[gap](Toy(means)).share < 1e-4


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("gap", GAPS)
def test_a_wrong_model_moves_where_it_is_wrong(name, gap):
    found = GAPS[gap](Toy(WRONG[name]))
    if gap in SEEN_BY[name]:
        assert found.max_abs > 1e-6
    else:
        assert found.share < 1e-4


# --- rows and widths --------------------------------------------------------------------------


def test_what_is_too_small_to_be_asked():
    one = Toy(means, IDS[:1])
    for gap in ("batch", "order"):
        with pytest.raises(NotApplicable, match="one row"):
            GAPS[gap](one)
    assert invariance.batch_gap(Toy(means, IDS[:2])).share < 1e-4
    short = Toy(means, IDS[:, :1], sequence=(1, 1))
    for gap in ("right", "left", "future", "prefix", "cache"):
        with pytest.raises(NotApplicable):
            GAPS[gap](short)
    for gap in ("future", "prefix", "cache"):
        assert GAPS[gap](Toy(means, IDS[:, :2])).share < 1e-4


def test_without_a_sequence_nothing_of_it_is_asked():
    bench = Toy(means)
    for one in (*bench.interface.inputs, *bench.interface.outputs):
        one.axes[:] = [axis for axis in one.axes if axis != "sequence"]
    with pytest.raises(NotApplicable, match="no input has a sequence axis"):
        invariance.width_of(bench)
    with pytest.raises(NotApplicable, match="no output has a sequence axis"):
        invariance.sequence_outputs(bench, {"logits": None, "pooled": None})
    full = Toy(means)
    assert invariance.sequence_outputs(full, {"logits": None, "pooled": None}) == {"logits": 1}
    assert (invariance.batch_of(full), invariance.width_of(full)) == (ROWS, WIDTH)


def test_without_a_mask_nothing_of_it_is_asked():
    bench = Toy(means)
    del bench.interface.inputs[1]
    for gap in ("mask", "right", "left"):
        with pytest.raises(NotApplicable, match="attention mask"):
            GAPS[gap](bench)


def test_a_row_is_taken_alone_and_cut():
    bench = Toy(means)
    assert torch.equal(invariance.alone(bench, 2, 0)["logits"], means(bench.typical)["logits"][2:3])
    invariance.alone(bench, 1, 3)
    assert bench.seen[-1]["input_ids"].tolist() == [[5, 3, 5]]


def test_rows_alone_are_two():
    bench = Toy(means)
    invariance.batch_gap(bench)
    alone = [one["input_ids"].tolist() for one in bench.seen if len(one["input_ids"]) == 1]
    assert alone == [IDS[:1].tolist(), IDS[1:2].tolist()]


def test_rows_are_reversed():
    bench = Toy(means)
    invariance.permuted_gap(bench)
    assert any(torch.equal(one["input_ids"], IDS.flip(0)) for one in bench.seen)


def test_the_mask_is_left_out():
    bench = Toy(means)
    invariance.unmasked_gap(bench)
    assert [sorted(one) for one in bench.seen] == [["input_ids"], ["attention_mask", "input_ids"]]


# --- padding ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "least", "rows", "lengths"),
    [
        (8, 1, 4, [7, 5, 4, 3]),
        (8, 1, 2, [7, 5]),
        (8, 6, 4, [7, 6, 6, 6]),
        (4, 1, 4, [3, 1, 2, 2]),
        (2, 1, 4, [1, 1, 1, 1]),
        (8, 7, 4, [7, 7, 7, 7]),
    ],
)
def test_rows_are_padded_to_different_lengths(width, least, rows, lengths):
    bench = Toy(means, IDS[:rows, :width], sequence=(least, 32))
    assert invariance.padded_lengths(bench) == lengths
    if least == 1:
        del bench.interface.axes["sequence"]
        assert invariance.padded_lengths(bench) == lengths


def test_a_single_length_leaves_nothing_to_pad():
    bench = Toy(means, sequence=(8, 32))
    with pytest.raises(NotApplicable, match="only sequences of 8"):
        invariance.padded_lengths(bench)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("masked", [True, False])
def test_what_padded_rows_look_like(side, masked):
    bench = Toy(means)
    invariance.padded_run(bench, side, masked=masked)
    (given,) = bench.seen
    blank = [0]
    for row, length in enumerate([7, 5, 4, 3]):
        tokens, missing = IDS[row, :length].tolist(), WIDTH - length
        real = [1] * length
        if side == "right":
            assert given["input_ids"][row].tolist() == tokens + blank * missing
            mask = real + blank * missing
        else:
            assert given["input_ids"][row].tolist() == blank * missing + tokens
            mask = blank * missing + real
        assert given["attention_mask"][row].tolist() == (mask if masked else [1] * WIDTH)
    assert sorted(given) == ["attention_mask", "input_ids"]


def test_positions_of_rows_padded_on_the_left_begin_at_the_text():
    first = [0, 0, 1, 2, 3, 4, 5, 6]
    bench = Toy(means, positions=True)
    invariance.padded_run(bench, "left")
    assert bench.seen[-1]["places"][0].tolist() == first
    invariance.padded_run(bench, "right")
    assert bench.seen[-1]["places"][0].tolist() == [0, 1, 2, 3, 4, 5, 6, 0]
    bench.typical["places"] = bench.typical["places"] + 5
    invariance.padded_run(bench, "left")
    assert bench.seen[-1]["places"][0].tolist() == first
    library = Toy(means)
    library.loader.kind = "transformers"
    for accepts, side, given in [
        ({"position_ids"}, "left", True),
        ({"position_ids"}, "right", False),
        (set(), "left", False),
    ]:
        library.model = SimpleNamespace(accepts=accepts)
        invariance.padded_run(library, side)
        assert ("position_ids" in library.seen[-1]) is given
        if given:
            assert library.seen[-1]["position_ids"][0].tolist() == first
    both = Toy(means, positions=True, causal=False)
    invariance.padded_run(both, "left")
    assert both.seen[-1]["places"][0].tolist() == [0, 0, 1, 2, 3, 4, 5, 6]
    both.typical["places"] = both.typical["places"] + 5
    invariance.padded_run(both, "left")
    assert both.seen[-1]["places"][0].tolist() == [0, 5, 6, 7, 8, 9, 10, 11]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("row", [0, 2])
def test_padding_is_judged_at_real_tokens_and_the_row_is_told(side, row):
    """What stands at masked places is nobody's business, however large."""

    def model(inputs):
        right = means(inputs)
        masked = (inputs["attention_mask"] == 0)[..., None]
        logits = torch.where(masked, 1e6, right["logits"])
        if bool(masked.any()):
            logits[row, 4] += 1e-3
        return right | {"logits": logits}

    found = invariance.padding_gap(Toy(model), side)
    length = [7, 5, 4, 3][row]
    start = 0 if side == "right" else WIDTH - length
    if start <= 4 < start + length:
        assert found.max_abs == pytest.approx(1e-3)
        assert found.where.startswith(f"logits[{row}, {4 - start}, ")
        assert found.where.endswith(f"counted over the {length} real tokens of the row")
    else:
        assert found.share < 1e-4


@pytest.mark.parametrize("side", ["right", "left"])
def test_an_ignored_mask_is_told_from_one_that_leaks(side):
    assert invariance.mask_ignored(Toy(WRONG["mask ignored"]), side)
    assert not invariance.mask_ignored(Toy(means), side)
    half = lambda i: means(i) | {"logits": means({"input_ids": i["input_ids"]})["logits"]}  # noqa: E731
    assert not invariance.mask_ignored(Toy(half), side)


# --- later tokens -----------------------------------------------------------------------------


def test_the_last_token_is_changed_and_nothing_else():
    bench = Toy(means)
    changed = invariance._other_last_token(bench)
    assert torch.equal(bench.typical["input_ids"], IDS)
    assert torch.equal(changed["attention_mask"], bench.typical["attention_mask"])
    assert torch.equal(changed["input_ids"][:, :-1], IDS[:, :-1])
    # the first of the row, or where that is the same the mirror image in the range
    assert changed["input_ids"][:, -1].tolist() == [3, 5, 2, 12]


def test_the_last_of_other_values_is_changed_within_their_range():
    """From 0 to 1 where none is declared; what stands still with the sequence stays."""
    bench = Toy(means)
    features = spec("features", "values", "sequence") | {"dtype": "float32"}
    bench.interface.inputs[:] = interface(inputs=[features]).inputs
    bench.typical = {"features": torch.tensor([[0.25, 0.5, 0.75], [0.25, 0.5, 0.25]])}
    changed = invariance._other_last_token(bench)["features"]
    assert changed.tolist() == [[0.25, 0.5, 0.25], [0.25, 0.5, 0.75]]


def test_only_earlier_outputs_are_compared():
    """The output at the changed token may change; one before it may not."""
    last = wrong(
        lambda i, v: (torch.arange(WIDTH) == WIDTH - 1)[None, :, None] * TABLE[i["input_ids"]]
    )
    assert invariance.future_gap(Toy(last)).share < 1e-4
    before = wrong(
        lambda i, v: (
            (torch.arange(WIDTH) == WIDTH - 2)[None, :, None] * TABLE[i["input_ids"][:, -1:]]
        )
    )
    found = invariance.future_gap(Toy(before))
    assert f", {WIDTH - 2}, " in found.where


@pytest.mark.parametrize(
    ("width", "least", "half"), [(8, 1, 4), (7, 1, 3), (8, 6, 6), (2, 1, 1), (3, 1, 1)]
)
def test_a_prefix_is_half_or_the_least(width, least, half):
    bench = Toy(means, IDS[:, :width], sequence=(least, 32))
    assert invariance.prefix_gap(bench).share < 1e-4
    assert min(one["input_ids"].shape[1] for one in bench.seen) == half
    if least == 1:
        del bench.interface.axes["sequence"]
        invariance.prefix_gap(bench)
        assert min(one["input_ids"].shape[1] for one in bench.seen) == half
        assert bench.seen[-1]["input_ids"].shape[1] == half
    with pytest.raises(NotApplicable, match="only sequences"):
        invariance.prefix_gap(Toy(means, IDS[:, :width], sequence=(width, 32)))


# --- the cache --------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "begun", "steps"), [(8, 5, 3), (4, 1, 3), (3, 1, 2), (2, 1, 1)])
def test_the_last_three_tokens_are_decoded(width, begun, steps):
    bench, calls = Toy(means, IDS[:, :width]), []
    plain = bench.step
    bench.step = lambda **step: (calls.append(step["input_ids"].shape[1]), plain(**step))[1]
    assert invariance.cache_gap(bench).share < 1e-4
    assert calls == [begun] + [1] * steps
    assert bench.passes == steps


@pytest.mark.parametrize("place", range(WIDTH))
def test_every_decoded_token_is_compared_with_the_full_pass(place):
    """The cached pass is wrong at one place only."""
    bench = Toy(means)
    plain = bench.step

    def step(**given):
        returned = plain(**given)
        if returned.past_key_values[0].shape[1] == place + 1:
            returned.logits[:, -1] += 1e-3
        return returned

    bench.step = step
    found = invariance.cache_gap(bench)
    if place >= 5:
        assert found.where.startswith(f"logits[0, {place - 5}, ")
        assert found.max_abs == pytest.approx(1e-3)
    else:
        assert found.share < 1e-4


@pytest.mark.parametrize("role", ["positions", "segments"])
def test_positions_and_mask_grow_with_the_tokens(role):
    bench, seen = Toy(means, positions=True), []
    bench.interface.inputs[2] = bench.interface.inputs[2].model_copy(update={"role": role})

    def step(**given):
        seen.append((given.pop("places")[0].tolist(), given["attention_mask"].shape[1]))
        return Toy.step(bench, **given)

    bench.step = step
    invariance.cache_gap(bench)
    assert seen == [([0, 1, 2, 3, 4], 5), ([5], 6), ([6], 7), ([7], 8)]


def test_a_decoder_beside_an_encoder_is_begun_with_one_token():
    bench, calls = Toy(means), []
    bench.task = "seq2seq-lm"
    bench.interface.inputs.append(
        interface(inputs=[spec("decoder_input_ids", "decoder-tokens", "sequence")]).inputs[0]
    )
    bench.typical["decoder_input_ids"] = IDS.flip(0)
    bench.run = lambda inputs: means({"input_ids": inputs["decoder_input_ids"]})

    def step(input_ids, attention_mask, decoder_input_ids, past_key_values=(), use_cache=False):
        assert torch.equal(input_ids, IDS)
        assert attention_mask.shape == IDS.shape
        calls.append(decoder_input_ids.shape[1])
        whole = torch.cat([*past_key_values, decoder_input_ids], dim=1)
        got = means({"input_ids": whole})["logits"][:, -calls[-1] :]
        return SimpleNamespace(logits=got, past_key_values=(whole,))

    bench.step = step
    assert invariance.cache_gap(bench).share < 1e-4
    assert calls == [1, 1, 1, 1]


def test_what_cannot_be_decoded():
    both = Toy(means, causal=False)
    with pytest.raises(NotApplicable, match="looks both ways"):
        invariance.cache_gap(both)
    both.task = "seq2seq-lm"
    with pytest.raises(NotApplicable, match="no input holds decoder-tokens"):
        invariance.cache_gap(both)


# --- attention and threads --------------------------------------------------------------------


def attending(*, implementation="eager", supports=True, switches=True, error=None):
    """A bench whose model has an attention that can be switched."""
    bench = Toy(means)
    config = SimpleNamespace(_attn_implementation=implementation)
    module = SimpleNamespace(_supports_sdpa=supports, set_attn_implementation=None)

    @contextmanager
    def attention(name):
        before = config._attn_implementation
        if error:
            raise error
        config._attn_implementation = name if switches else before
        yield
        config._attn_implementation = before

    bench.oracle = SimpleNamespace(module=module, config=config, attention=attention)
    bench.run = lambda inputs: {
        name: value + 1e-3 * (config._attn_implementation == "sdpa")
        for name, value in means(inputs).items()
    }
    return bench


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_the_other_attention_is_compared(implementation):
    bench = attending(implementation=implementation)
    assert invariance.attention_gap(bench).max_abs == pytest.approx(1e-3)
    assert bench.oracle.config._attn_implementation == implementation
    other = invariance.other_attention(bench.oracle)
    assert {implementation, other} == {"eager", "sdpa"}


@pytest.mark.parametrize(
    ("bench", "why"),
    [
        (attending(implementation="flash"), "no choice of attention"),
        (attending(implementation=None), "no choice of attention"),
        (attending(supports=False), "no scaled-dot-product"),
        (attending(switches=False), "does not switch to sdpa"),
        (attending(error=ValueError("not here")), "has no sdpa attention: not here"),
        (attending(error=ImportError("not here")), "has no sdpa attention: not here"),
    ],
)
def test_without_another_attention_nothing_is_compared(bench, why):
    with pytest.raises(NotApplicable, match=why):
        invariance.attention_gap(bench)
    del bench.oracle.module._supports_sdpa
    with pytest.raises(NotApplicable, match=r"no choice|no scaled-dot-product"):
        invariance.attention_gap(bench)
    del bench.oracle.module.set_attn_implementation
    with pytest.raises(NotApplicable):
        invariance.attention_gap(bench)


def test_two_threads_are_compared_with_one():
    threaded = wrong(lambda i, v: float(torch.get_num_threads()))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert invariance.threads_gap(Toy(means)).share < 1e-4
        bench = Toy(threaded)
        assert invariance.threads_gap(bench).max_abs == pytest.approx(1e-3)
        assert torch.get_num_threads() == 1
        assert {len(one["input_ids"]) for one in bench.seen} == {1}
    finally:
        torch.set_num_threads(before)
    bench.options.device = torch.device("cuda")
    with pytest.raises(NotApplicable, match="cpu only"):
        invariance.threads_gap(bench)
