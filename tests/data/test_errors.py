"""What messages make of values that come from files."""

from sapnet_pipe.data.errors import FaultReport, UserError, mended


def test_a_name_cannot_steer_the_terminal() -> None:
    error = UserError("points.json", "file_name", "a\x1b[31m\x07.png", "but there is no such image", "Check it")
    assert str(error) == r"points.json: file_name = a\x1b[31m\x07.png, but there is no such image. Check it."
    assert str(error).isprintable()
    assert UserError("caf\udce9", "name", "caf\udce9", "wrong", "Mend it").fault.isprintable()


def test_what_a_reader_mends_is_counted_with_its_first_example() -> None:
    report, kind = FaultReport("points.json"), mended("odd", "things are odd", "They are left out")
    assert report.notes() == ()
    for place in range(3):
        report(kind, f"annotations[{place}]", "a\x1b", "which is odd")
    assert report.notes() == (r"points.json: 3 things are odd (first annotations[0] = a\x1b). They are left out.",)
