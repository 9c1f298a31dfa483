import hashlib
import io

import pytest
import specialfiles

from pipeline.files.seal import SEAL_BYTES, is_sealed, seal

DATA = bytes(range(256)) * 12_000  # 3 MB, more than is read at a time


@pytest.fixture
def sealed():
    return bytearray(DATA + seal(io.BytesIO(DATA), len(DATA)))


def test_a_seal_is_a_line_with_the_checksum_of_what_stands_before_it(sealed):
    digest = hashlib.sha256(DATA).hexdigest()
    assert sealed[len(DATA) :].decode() == f"\nsha256:{digest}\n"
    assert len(sealed) == len(DATA) + SEAL_BYTES
    assert is_sealed(io.BytesIO(sealed))


def test_nothing_at_all_can_be_sealed_too():
    assert is_sealed(io.BytesIO(seal(io.BytesIO(), 0)))
    assert not is_sealed(io.BytesIO())


def test_a_bit_counts_wherever_it_is(sealed):
    for place in [*range(0, len(sealed), 100_003), *range(len(DATA), len(sealed))]:
        damaged = bytearray(sealed)
        damaged[place] ^= 1
        assert not is_sealed(io.BytesIO(damaged))


def test_a_file_that_is_cut_or_has_something_behind_its_seal_is_not_sealed(sealed):
    for length in (1, SEAL_BYTES - 1, SEAL_BYTES, len(DATA), len(sealed) - 1):
        assert not is_sealed(io.BytesIO(sealed[:length]))
    assert not is_sealed(io.BytesIO(sealed + b"\n"))


def test_only_so_many_bytes_are_sealed_and_the_file_is_left_behind_them():
    file = io.BytesIO(DATA)
    assert seal(file, 10) == seal(io.BytesIO(DATA[:10]), 10)
    assert file.tell() == 10


def test_an_endless_file_without_a_seal_is_answered_at_once(tmp_path):
    specialfiles.sparse(tmp_path / "a")
    with specialfiles.at_once(), open(tmp_path / "a", "rb") as file:
        assert not is_sealed(file)
