"""Which object a path of an older table means."""

from __future__ import annotations

import pytest

from shared.model.document import ObjectRef
from shared.model.old_jobs import _ref

HOST = "https://storage.googleapis.com"


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("gs://other/a/b.txt", ObjectRef("other", "a/b.txt")),
        (f"{HOST}/uploads/C%23%20guide.txt", ObjectRef("uploads", "C# guide.txt")),
        (f"{HOST}/uploads/C#-guide.txt", ObjectRef("uploads", "C#-guide.txt")),
        (f"{HOST}/uploads/a.txt?X-Goog-Signature=1", ObjectRef("uploads", "a.txt")),
        ("https://uploads.storage.googleapis.com/a/b.txt", ObjectRef("uploads", "a/b.txt")),
        ("/a/b.txt", ObjectRef("uploads", "a/b.txt")),
        ("https://example.com/a.txt", "its path is not one of Cloud Storage"),
        ("http://[broken", "its path is no address"),
        (f"{HOST}/uploads", "it names no file"),
    ],
)
def test_a_path_means_an_object_or_is_refused(path: str, meant: ObjectRef | str) -> None:
    """Every form in which Cloud Storage writes an address."""
    assert _ref(path, "uploads") == meant
