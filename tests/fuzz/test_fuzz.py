"""A short run of the fuzzer over every reader, always of the same files; `make fuzz` runs 100,000 others."""

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz.readers import Reader, all_readers, answer

_INPUTS = 30


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    return all_readers(tmp_path_factory.mktemp("fuzz"))


def _answers(reader: Reader) -> set[str]:
    seen = set()

    @settings(max_examples=_INPUTS, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(reader.content)
    def each(content: bytes) -> None:
        seen.add(answer(reader, content))

    each()
    return seen


def test_every_reader_answers_or_refuses(readers: dict[str, Reader]) -> None:
    answers = {name: _answers(reader) for name, reader in readers.items()}
    assert set().union(*answers.values()) == {"accepted", "refused"}
    assert [name for name, found in answers.items() if "refused" not in found] == ["metrics"]  # which drops bad lines
