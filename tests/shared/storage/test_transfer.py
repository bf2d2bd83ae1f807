"""What a transfer writes of the bytes that come, however they are cut."""

import gzip
import io
import threading

import pytest

from shared.errors import UnprocessableContent
from shared.storage.transfer import Sink

FIRST, SECOND = gzip.compress(b"first " * 20, mtime=0), gzip.compress(b"second " * 20, mtime=0)


def _unpacked(*blocks: bytes, limit_bytes: int = 1_000_000) -> bytes:
    """Return what is in the file after these blocks."""
    file = io.BytesIO()
    sink = Sink(
        file,
        size_bytes=sum(map(len, blocks)),
        crc32c=None,
        gzipped=True,
        limit_bytes=limit_bytes,
        stop=threading.Event(),
    )
    for block in blocks:
        sink.write(block)
    sink.finish()
    assert sink.size_bytes == len(file.getvalue())
    return file.getvalue()


@pytest.mark.parametrize(
    "packed",
    [FIRST + SECOND, FIRST + b"\0" * 5 + SECOND + b"\0" * 3, FIRST + gzip.compress(b"") + SECOND],
    ids=["two", "zeros between and behind", "an empty one between"],
)
def test_all_members_of_a_packed_object_are_its_content(packed: bytes) -> None:
    """Packed files put one behind the other are one file, wherever the transfer cuts them."""
    content = gzip.decompress(packed)
    for cut in range(len(packed) + 1):
        assert _unpacked(packed[:cut], packed[cut:]) == content


def test_a_member_that_is_cut_short_is_corrupt() -> None:
    """That the first member is whole does not make the object so."""
    for cut in range(1, len(SECOND)):
        with pytest.raises(UnprocessableContent) as caught:
            _unpacked(FIRST, SECOND[:cut])
        assert caught.value.code == "CORRUPT"


@pytest.mark.parametrize("blocks", [(FIRST, b"something else"), (FIRST + b"something else",)], ids=["apart", "at once"])
def test_what_follows_a_member_and_is_none_is_corrupt(blocks: tuple[bytes, ...]) -> None:
    """Bytes that nobody can read are not left out in silence."""
    with pytest.raises(UnprocessableContent) as caught:
        _unpacked(*blocks)
    assert caught.value.code == "CORRUPT"


def test_members_share_one_limit() -> None:
    """Many small members are no way around the bound on unpacked bytes."""
    member = gzip.compress(b"x" * 1000)
    assert _unpacked(member * 3, limit_bytes=3000) == b"x" * 3000
    with pytest.raises(UnprocessableContent) as caught:
        _unpacked(member * 4, limit_bytes=3000)
    assert caught.value.code == "TOO_LARGE"
