"""The type of a file comes from its bytes; the name only chooses between kinds of text."""

import zipfile
from pathlib import Path

import pytest

from services.process.extract.sniffing import sniff
from shared.errors import UnprocessableContent
from shared.model import media

CORPUS = Path(__file__).parents[4] / "cli" / "corpus"


def written(folder: Path, data: bytes) -> Path:
    """Write bytes under a name that says nothing."""
    path = folder / "object"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("operations-manual.pdf", media.PDF),
        ("maintenance-schedule.docx", media.DOCX),
        ("safety-induction.pptx", media.PPTX),
        ("spare-parts.xlsx", media.XLSX),
        ("control-room-sign.png", "image/png"),
        ("water-licence.html", media.HTML),
        ("turbine-faults.md", media.MARKDOWN),
        ("energy-prices.csv", media.CSV),
        ("shift-log.txt", media.TEXT),
        ("dam-inspection.eml", media.EML),
    ],
)
def test_knows_the_files_of_the_corpus(name: str, expected: str) -> None:
    """Every file of the demo corpus is what it is."""
    assert sniff(CORPUS / name, name=name) == expected


def test_does_not_believe_the_name(tmp_path: Path) -> None:
    """A picture called .pdf is a picture, a PDF called .txt is a PDF, and text called .docx is text."""
    assert sniff(CORPUS / "control-room-sign.png", name="report.pdf") == "image/png"
    assert sniff(CORPUS / "operations-manual.pdf", name="notes.txt") == media.PDF
    assert sniff(written(tmp_path, b"just words"), name="letter.docx") == media.TEXT


def test_finds_a_pdf_behind_some_other_bytes(tmp_path: Path) -> None:
    """The mark may stand within the first kilobyte, and not later."""
    assert sniff(written(tmp_path, b"\n" * 900 + b"%PDF-1.7\n"), name="x") == media.PDF
    assert sniff(written(tmp_path, b"\n" * 1100 + b"%PDF-1.7\n"), name="x") == media.TEXT


def test_a_text_about_pdf_is_a_text(tmp_path: Path) -> None:
    """The mark alone makes no PDF; with an object behind it, bytes before it do no harm."""
    assert sniff(written(tmp_path, b"# A file begins with\n%PDF-1.7 and ends"), name="a.md") == "text/markdown"
    assert sniff(written(tmp_path, b'{"magic": "%PDF-1.7"}'), name="m.json") == media.JSON
    assert sniff(written(tmp_path, b"junk\n%PDF-1.4\n%\xe2\xe3\n1 0 obj\n<<>>"), name="x") == media.PDF


@pytest.mark.parametrize("data", [b"\xff\xfeh\x00i\x00", "Grüße".encode("latin-1"), "\ufeffhi".encode()])
def test_text_in_any_usual_encoding_is_text(tmp_path: Path, data: bytes) -> None:
    """UTF-16 with a mark, Latin-1 and UTF-8 with a mark are text."""
    assert sniff(written(tmp_path, data), name="a.txt") == media.TEXT


def test_html_is_known_by_its_first_tag(tmp_path: Path) -> None:
    """A page saved without a telling name is still a page."""
    assert sniff(written(tmp_path, b"  <!DOCTYPE html><p>x"), name="download") == media.HTML


def verdict(path: Path, name: str = "x") -> str:
    """Return the code with which a file is refused."""
    with pytest.raises(UnprocessableContent) as caught:
        sniff(path, name=name)
    return caught.value.code


def test_refuses_what_is_empty_unknown_or_cut_off(tmp_path: Path) -> None:
    """0 bytes, random bytes, a plain archive, half an archive and a protected Office file each have their code."""
    assert verdict(written(tmp_path, b"")) == "EMPTY"
    assert verdict(written(tmp_path, bytes(range(256)))) == "UNSUPPORTED_TYPE"
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert verdict(tmp_path / "a.zip", "a.docx") == "UNSUPPORTED_TYPE"
    assert verdict(written(tmp_path, b"PK\x03\x04" + b"garbage" * 20), "a.docx") == "CORRUPT"
    ole = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600) + "EncryptedPackage".encode("utf-16-le")
    assert verdict(written(tmp_path, ole), "a.docx") == "ENCRYPTED"


def test_a_page_that_begins_with_thousands_of_comments_is_known_at_once(tmp_path: Path) -> None:
    """Comments before a tag that never comes are looked at once each; the time does not double with every one."""
    comments = b"<!--a-->" * 4_000
    assert sniff(written(tmp_path, comments + b"x"), name="a.txt") == media.TEXT
    assert sniff(written(tmp_path, comments + b"<html>"), name="a.txt") == media.HTML
