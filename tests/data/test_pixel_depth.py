"""Hand-worked numbers of every rule by which more than 8 bits a channel become 8."""

from typing import Any

import numpy as np
import pytest

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.data.pixel_depth import AUTO, Depth
from sapnet_pipe.data.pixel_scaling import ValuesInUse, bits_in_use, completed, cuts, decide, to_8_bits

NAN, INF = float("nan"), float("inf")


def scaled(text: str, values: Any, kind: str) -> list[int]:
    return to_8_bits(np.array(values, kind), Depth.parse(text)).tolist()


@pytest.mark.parametrize(
    ("text", "kind", "values", "expected"),
    [
        pytest.param("auto", "u2", [0, 15, 16, 4095], [0, 0, 1, 255], id="12 bits in 16"),
        pytest.param("auto", "u2", [0, 1, 1023], [0, 0, 255], id="10 bits in 16"),
        pytest.param("auto", "u2", [0, 255, 256, 65535], [0, 0, 1, 255], id="16 bits"),
        pytest.param("auto", "u2", [0, 7, 255], [0, 7, 255], id="8 bits in 16"),
        pytest.param("auto", "u2", [0, 7], [0, 7], id="fewer than 8 bits stay dark"),
        pytest.param("auto", "u4", [0, 1 << 24, 2**32 - 1], [0, 1, 255], id="32 bits"),
        pytest.param("auto", "i2", [0, 256, 32767], [0, 1, 127], id="signed without negatives: 15 bits count as 16"),
        pytest.param("auto", "u2", [0, 8191], [0, 127], id="13 bits count as 14"),
        pytest.param("auto:12bit", "u2", [0, 1600, 4095, 9000], [0, 100, 255, 255], id="decided, and cut"),
        pytest.param("auto:8bit:wide32bit", "u4", [0, 1 << 24, 2**32 - 1], [0, 1, 255], id="decided for wider types"),
        pytest.param("auto:wide32bit", "u2", [0, 4095], [0, 255], id="undecided for these"),
        pytest.param("auto:16bit", "u2", [0, 4095], [0, 15], id="decided by brighter neighbours"),
        pytest.param("auto", "f4", [0, 0.5, 1], [0, 128, 255], id="floats of 0 to 1"),
        pytest.param("auto", "f8", [0.25, 0.5], [64, 128], id="floats within 0 to 1 keep their place"),
        pytest.param("auto:0..2000", "f4", [-5, 0, 1000, 2000, 9e9], [0, 0, 128, 255, 255], id="floats of a set"),
        pytest.param("auto:12bit:0..1", "f4", [0, 0.2, 1], [0, 51, 255], id="floats of a mixed set"),
        pytest.param("auto:12bit:0..1", "u2", [0, 1600], [0, 100], id="whole numbers of a mixed set"),
        pytest.param("auto", "f4", [0, NAN, INF, -INF, 1], [0, 0, 0, 0, 255], id="missing is black"),
        pytest.param("auto", "f4", [NAN, NAN], [0, 0], id="nothing but missing"),
        pytest.param("full", "u2", [0, 257, 4095, 65535], [0, 1, 16, 255], id="full 16 bits"),
        pytest.param("full", "i2", [-32768, 0, 32767], [0, 128, 255], id="full signed"),
        pytest.param("full", "i1", [-128, 0, 127], [0, 128, 255], id="full of 8 signed bits"),
        pytest.param("full", "u4", [0, 2**31, 2**32 - 1], [0, 128, 255], id="full 32 bits"),
        pytest.param("full", "f4", [-1, 0, 0.5, 1, 7], [0, 0, 128, 255, 255], id="full floats"),
        pytest.param("0:4095", "u2", [0, 2048, 4095, 5000], [0, 128, 255, 255], id="stated"),
        pytest.param("-1000:1000", "i2", [-1024, -1000, 0, 1000, 3071], [0, 0, 128, 255, 255], id="stated, of a CT"),
        pytest.param("0.5:1.5", "f4", [0, 0.5, 1, 2, NAN], [0, 0, 128, 255, 0], id="stated floats"),
        pytest.param("percentile", "u2", [700, 700, 700], [0, 0, 0], id="percentiles of one value"),
        pytest.param("percentile", "u2", [], [], id="no pixel"),
        pytest.param("auto", "u2", [], [], id="no pixel of auto"),
    ],
)
def test_numbers_become_these(text: str, kind: str, values: list[float], expected: list[int]) -> None:
    assert scaled(text, values, kind) == expected


@pytest.mark.parametrize("kind", ["u2", "i4", "f4"])
def test_percentiles_leave_out_a_thousandth_at_each_end(kind: str) -> None:
    values = np.arange(1001, dtype=kind)
    values[-1] = 30000  # one hot pixel; the percentiles are 1 and 999
    found = to_8_bits(values, Depth.parse("percentile"))
    assert found[[0, 1, 250, 999, 1000]].tolist() == [0, 0, 64, 255, 255]


def test_negative_numbers_are_scaled_by_their_percentiles() -> None:
    values = np.arange(-500, 501, dtype=np.int16)
    assert to_8_bits(values, AUTO)[[0, 1, 250, 999, 1000]].tolist() == [0, 0, 64, 255, 255]


@pytest.mark.parametrize("text", ["auto", "auto:12bit", "full", "10:3000", "auto:14bit:0..1"])
def test_a_large_photograph_is_scaled_like_a_small_one(text: str) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (300, 300), np.uint16)
    rule = Depth.parse(text)
    alike = Depth("auto", None, 12) if text == "auto" else rule
    expected = np.concatenate([to_8_bits(row, alike) for row in values]).reshape(values.shape)
    np.testing.assert_array_equal(to_8_bits(values, rule), expected)


def test_channels_are_scaled_alike() -> None:
    colours = np.array([[[4095, 16, 0]]], np.uint16)
    assert to_8_bits(colours, AUTO).tolist() == [[[255, 1, 0]]]


def of(values: Any, kind: str) -> ValuesInUse:
    return ValuesInUse.of(np.array(values, kind))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([], "auto", id="no deep photograph"),
        pytest.param([of([4095], "u2"), of([90], "u2")], "auto:12bit", id="the brightest decides"),
        pytest.param([of([4095], "u2"), of([2**20], "u4")], "auto:12bit:wide22bit", id="wider types apart"),
        pytest.param([of([2**31], "u4"), of([-1, 1], "f4")], "auto:wide32bit:-0.998..0.998", id="wide and floats"),
        pytest.param([of([4096], "u2")], "auto:14bit", id="one more than 12 bits"),
        pytest.param([of([0, 0.1], "f4"), of([1], "f8")], "auto:0..1", id="floats of 0 to 1"),
        pytest.param([of([0, 0.5], "f4"), of([2, 8], "f4")], "auto:0.0005..7.994", id="other floats by percentiles"),
        pytest.param([of([3], "u2"), of([0, 1], "f4")], "auto:8bit:0..1", id="mixed"),
        pytest.param([of([300], "i2")], "auto:10bit", id="signed without negatives"),
        pytest.param([of([300, 300], "i2"), of([-5, -5], "i2")], "auto:-5..300", id="one negative for all signed"),
        pytest.param([of([NAN], "f4")], "auto:0..1", id="nothing but missing"),
        pytest.param([of([5, 5], "f4")], "auto", id="one value in the whole set"),
    ],
)
def test_auto_is_decided_for_the_set(values: list[ValuesInUse], expected: str) -> None:
    depth = decide(values)
    assert str(depth) == expected
    assert Depth.parse(expected) == depth


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", "auto:12bit:0..1"),
        ("auto:16bit", "auto:16bit:0..1"),
        ("auto:-5..5", "auto:12bit:-5..5"),
        ("full", "full"),
        ("0:9", "0:9"),
    ],
)
def test_only_what_auto_leaves_open_is_decided(text: str, expected: str) -> None:
    assert str(completed(Depth.parse(text), [of([4095], "u2"), of([1], "f4")])) == expected


def test_missing_numbers_are_seen() -> None:
    assert of([1, NAN], "f4").missing
    assert not of([1, 2], "f4").missing
    assert not of([1, 2], "u2").missing


@pytest.mark.parametrize(
    ("text", "values", "kind", "cut"),
    [
        ("auto:12bit", [4096, 1, 1], "u2", True),
        ("auto:12bit", [4095, 1, 1], "u2", False),
        ("auto:16bit", [65535], "u2", False),
        ("10:20", [9, 15], "i2", True),
        ("10:20", [10, 20, NAN], "f4", False),
        ("auto:0..1", [2, 0], "f4", True),
        ("percentile", [0, 65535], "u2", False),
        ("auto", [65535], "u2", False),
    ],
)
def test_numbers_beyond_the_ends_are_seen(text: str, values: list[float], kind: str, cut: bool) -> None:
    assert cuts(np.array(values, kind), Depth.parse(text), 0.01) is cut


@pytest.mark.parametrize(("largest", "bits"), [(0, 8), (255, 8), (256, 10), (1024, 12), (4095, 12), (65535, 16)])
def test_bits_in_use_are_even(largest: int, bits: int) -> None:
    assert bits_in_use(largest) == bits


@pytest.mark.parametrize(
    "text",
    [
        "auto",
        "full",
        "percentile",
        "0:4095",
        "-0.5:1.25",
        "auto:12bit",
        "auto:0..1",
        "auto:10bit:-3.5..1e+30",
        "auto:wide64bit",
        "auto:8bit:wide32bit:0..1",
    ],
)
def test_a_depth_is_written_as_it_was_read(text: str) -> None:
    assert str(Depth.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "8bit", "Auto", "4095", "5:5", "9:1", "a:b", "0:inf", "nan:1", "0:1:2", "auto:7bit", "auto:1..0", "auto:"],
)
def test_what_is_no_depth_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a depth|ends are not numbers|MIN is not below|not from 8 to"):
        Depth.parse(text)
    with pytest.raises(UserError, match=r"^model\.json: depth = "):
        Depth.recorded(text, "model.json", "depth")


@pytest.mark.parametrize("value", [12, ["auto"], True])
def test_a_recorded_depth_is_text(value: object) -> None:
    with pytest.raises(UserError, match=r"Give auto, full, percentile or MIN:MAX"):
        Depth.recorded(value, "model.json", "depth")
    assert Depth.recorded(None, "model.json", "depth") == AUTO
