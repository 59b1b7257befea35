"""What every message of the command line to its user must be."""


def check_message(text: str, pattern: str) -> None:
    """One line of ours that ends in a full stop and has the parts of the pattern, between its stars, in this order."""
    lines = text.splitlines()
    assert len(lines) == 1, text
    assert lines[0].startswith("sapnet-pipe: ")
    assert lines[0].endswith(".")
    rest = lines[0]
    for part in pattern.split(" * "):
        assert part in rest, f"{part!r} does not come in time in: {lines[0]}"
        rest = rest.partition(part)[2]
