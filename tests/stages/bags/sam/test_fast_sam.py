"""The exact and the fast encoder against SAM's own."""

import copy

import numpy as np
import pytest
import torch
from segment_anything.modeling import ImageEncoderViT

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.stages.bags.config import BagsConfig
from sapnet_pipe.stages.bags.sam import fast_attention as sam_attention
from sapnet_pipe.stages.bags.sam.adapter import SamOptions, load_sam
from sapnet_pipe.stages.bags.sam.checkpoints import TINY_WEIGHTS
from sapnet_pipe.stages.bags.sam.exact_encoder import ExactEncoder
from sapnet_pipe.stages.bags.sam.fast_encoder import compiled, speed_up_encoder
from sapnet_pipe.stages.bags.sam.options import encode_batch, precision_name, sam_options

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def encoder() -> ImageEncoderViT:
    """ViT-B's parts in small: windows that need padding, global blocks, relative positions that are not zero."""
    torch.manual_seed(0)
    encoder = ImageEncoderViT(
        img_size=160, patch_size=16, embed_dim=96, depth=4, num_heads=3, out_chans=32, use_rel_pos=True,
        window_size=4, global_attn_indexes=(1, 3),
    )  # fmt: skip
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return encoder.eval().requires_grad_(False)


def _fast(encoder, dtype):
    fast = copy.deepcopy(encoder)
    speed_up_encoder(fast, dtype)
    return fast


def _error(encoder, fast):
    image = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        exact, other = encoder(image), fast(image)
    assert other.dtype == torch.float32
    return float((exact - other).norm() / exact.norm())


def test_the_exact_encoder_gives_sams_bits_image_after_image(encoder):
    exact, seed = ExactEncoder(encoder), torch.Generator().manual_seed(2)
    for batch in (1, 2, 1):
        image = torch.randn(batch, 3, 160, 160, generator=seed)
        with torch.inference_mode():
            assert torch.equal(exact(image), encoder(image))


# Of a global block's mask, or a window's scores: all at once, some, a row or a head at a time.
_PIECES = pytest.mark.parametrize("values", [1 << 22, 2500, 1], ids=["in one", "in some", "row by row"])


@_PIECES
def test_attention_in_pieces_is_that_of_sam_but_for_rounding(encoder, monkeypatch, values):
    monkeypatch.setattr(sam_attention, "_CPU_VALUES", values)
    assert _error(encoder, _fast(encoder, torch.float32)) < 1e-5


@_PIECES
@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.02), (torch.float16, 0.003)])
def test_lower_precision_rounds_and_no_more(encoder, monkeypatch, values, dtype, bound):
    monkeypatch.setattr(sam_attention, "_CPU_VALUES", values)
    error = _error(encoder, _fast(encoder, dtype))
    assert 1e-5 < error < bound


@pytest.mark.parametrize("bound", [0, 1 << 22], ids=["as a mask", "as channels"])
def test_the_bias_is_that_of_sam_as_a_mask_and_as_channels(monkeypatch, bound):
    monkeypatch.setattr(sam_attention, "_CPU_VALUES", bound)
    seed = torch.Generator().manual_seed(3)
    query, key, value = torch.randn(3, 2, 3, 20, 8, generator=seed, dtype=torch.float64)
    tables = torch.randn(4, 4, 8, generator=seed).double(), torch.randn(5, 5, 8, generator=seed).double()
    grid = query.unflatten(2, (4, 5))
    bias = torch.einsum("bnhwd,hkd->bnhwk", grid, tables[0])[..., :, None]
    bias = bias + torch.einsum("bnhwd,wkd->bnhwk", grid, tables[1])[..., None, :]
    scores = query @ key.mT * 8**-0.5 + bias.flatten(4).flatten(2, 3)
    mixed = sam_attention.attention(query, key, value, tables)
    torch.testing.assert_close(mixed, scores.softmax(dim=-1) @ value)


def test_attention_without_positions_has_no_bias():
    query, key, value = torch.randn(3, 1, 2, 6, 4, generator=torch.Generator().manual_seed(4))
    mixed = sam_attention.attention(query, key, value, None)
    torch.testing.assert_close(mixed, (query @ key.mT / 2).softmax(dim=-1) @ value)


def test_norms_and_what_is_added_up_stay_in_float32(encoder):
    kept = {name for name, value in _fast(encoder, torch.bfloat16).state_dict().items() if value.dtype == torch.float32}
    assert not [name for name in kept if ".attn." in name or ".mlp." in name]
    assert {"neck.0.weight", "patch_embed.proj.weight", "pos_embed", "blocks.0.norm1.weight"} <= kept


def test_images_encoded_together_are_those_encoded_alone(photographs):
    fast = load_sam("tiny", TINY_WEIGHTS, CPU, SamOptions(torch.float32))
    prepared = [fast.prepare(image) for image in photographs[:3]]
    together, alone = fast.encode(prepared), [fast.encode([image])[0] for image in prepared]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one.features, other.features, rtol=0, atol=1e-4)
        assert (one.original_size, one.input_size) == (other.original_size, other.input_size)


def test_prompts_decoded_together_are_those_decoded_alone(photographs):
    image = photographs[0]
    xy = np.random.default_rng(0).uniform(0, image.shape[1::-1], (7, 2))
    boxes = np.concatenate([np.maximum(xy - 40, 0), xy + 30], axis=1).astype(np.float32)
    answers = []
    for batch in (1, 4):
        sam = load_sam("tiny", TINY_WEIGHTS, CPU, SamOptions(torch.float32, batch))
        (encoded,) = sam.encode([sam.prepare(image)])
        answers.append([*sam.point_masks(encoded, xy), *sam.box_masks(encoded, xy, boxes)])
    for alone, together in zip(*answers, strict=True):
        np.testing.assert_array_equal(alone.figures.source, together.figures.source)
        np.testing.assert_allclose(alone.figures.score, together.figures.score, atol=1e-4)
        np.testing.assert_allclose(alone.figures.area, together.figures.area, rtol=0.01, atol=5)


def test_a_compiled_encoder_takes_batches_of_one_size(encoder, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda module, dynamic: lambda batch: module(_of_three(batch)))
    pixels = torch.randn(2, 3, 160, 160)
    with torch.inference_mode():
        torch.testing.assert_close(compiled(encoder, 3)(pixels), encoder(pixels))


def _of_three(batch):
    assert len(batch) == 3
    return batch


def test_where_compiling_fails_the_plain_encoder_goes_on(encoder, monkeypatch):
    def fail(batch):
        raise RuntimeError("no C compiler\nand a long story")

    monkeypatch.setattr(torch, "compile", lambda module, dynamic: fail)
    encode, pixels = compiled(encoder, 1), torch.randn(1, 3, 160, 160)
    with torch.inference_mode():
        with pytest.warns(UserWarning, match=r"torch.compile failed \(no C compiler\); going on without it"):
            first = encode(pixels)
        assert torch.equal(first, encode(pixels))
        assert torch.equal(first, encoder(pixels))


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        pytest.param({}, "float32", id="exact"),
        pytest.param({"fast": True}, "bfloat16, fast", id="fast"),
        pytest.param({"fast": True, "precision": "float32"}, "float32, fast", id="fast in float32"),
        pytest.param({"fast": True, "compile": True}, "bfloat16, fast, compiled", id="compiled"),
        pytest.param({"fast": True, "encode_batch": 2}, "bfloat16, fast, 2 images at once", id="with a batch"),
    ],
)
def test_all_that_decides_bits_is_in_the_name_of_the_precision(settings, name):
    assert precision_name(BagsConfig(**settings)) == name


def test_the_exact_path_encodes_one_by_one_and_knows_no_other_precision():
    assert encode_batch(BagsConfig(encode_batch=8), torch.device("cuda")) == 1
    assert sam_options(BagsConfig(), torch.device("cuda")).fast is None
    with pytest.raises(ValueError, match=r"precision\n.*the exact path is float32; add --fast"):
        BagsConfig(precision="bfloat16")


def test_what_does_not_pay_on_a_cpu_is_refused_with_the_way_out():
    half, compile_it = BagsConfig(fast=True, precision="float16"), BagsConfig(fast=True, compile=True)
    with pytest.raises(UserError, match=r"precision = float16.*Use bfloat16"):
        sam_options(half, CPU)
    with pytest.raises(UserError, match=r"compile = True.*use a GPU"):
        sam_options(compile_it, CPU)
    assert sam_options(half, torch.device("cuda")).fast is torch.float16
    assert sam_options(compile_it, torch.device("cuda")).compile == encode_batch(compile_it, torch.device("cuda"))
