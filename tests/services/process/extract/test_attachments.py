"""What hangs on a mail is read with it, within bounds; what is wrong with one attachment is said and costs no other."""

from collections.abc import AsyncIterator
from contextlib import suppress
from email.message import EmailMessage
from pathlib import Path

import pytest

from services.process.extract import attachments
from services.process.extract.extractor import ChildExtractor
from shared.errors import UnprocessableContent
from shared.model.document import Segment
from tests.plugins.bombs import BOMBS, laughs

FILES = Path(__file__).parents[3] / "files"
ENCRYPTED = Path(__file__).parents[3] / "fixtures" / "encrypted.pdf"


@pytest.fixture
async def extractor(tmp_path: Path) -> AsyncIterator[ChildExtractor]:
    """Hand out an extractor, and check that it leaves no folder."""
    work_dir = tmp_path / "work"
    work_dir.mkdir()
    async with ChildExtractor(work_dir=work_dir, deadline_seconds=100) as extractor:
        yield extractor
    assert list(work_dir.iterdir()) == []


async def read(extractor: ChildExtractor, path: Path, start: int = 0) -> list[Segment]:
    """Sniff and read a whole file."""
    media_type = extractor.sniff(path, name=path.name)
    return [segment async for segment in extractor.extract(path, media_type=media_type, start=start)]


def mail(*parts: tuple[str, bytes] | EmailMessage) -> EmailMessage:
    """Make a mail with these attachments, each a file or another mail."""
    made = EmailMessage()
    made["From"], made["Subject"] = "a@example.org", "gates"
    made.set_content("The intake gate closes in 75 seconds.\n")
    for part in parts:
        if isinstance(part, EmailMessage):
            made.add_attachment(part)
        else:
            made.add_attachment(part[1], maintype="application", subtype="octet-stream", filename=part[0])
    return made


async def end_of(extractor: ChildExtractor, folder: Path, made: EmailMessage) -> str | list[str]:
    """Return the labels of a mail's segments, or its verdict."""
    path = folder / "a.eml"
    path.write_bytes(made.as_bytes())
    try:
        return [segment.locator.label for segment in await read(extractor, path)]
    except UnprocessableContent as verdict:
        return verdict.code


@pytest.mark.parametrize("name", ["eml/python-attachments.eml", "msg/aspose-foss-attachments.msg"])
async def test_a_successor_goes_on_in_the_middle_of_an_attachment(extractor: ChildExtractor, name: str) -> None:
    """Wherever the first reader stopped, the next one gives the rest, and the numbers go on."""
    whole = await read(extractor, FILES / name)
    assert [segment.index for segment in whole] == list(range(len(whole)))
    for start in range(1, len(whole) + 1):
        assert await read(extractor, FILES / name, start) == whole[start:]


async def test_one_bad_attachment_spoils_no_other(extractor: ChildExtractor, tmp_path: Path) -> None:
    """What is encrypted or damaged is said where it would stand; kinds that nobody reads are passed over."""
    good = (FILES / "txt/pandoc.txt").read_bytes()
    made = mail(
        ("plan.pdf", ENCRYPTED.read_bytes()),
        ("setup.exe", b"MZ\x90\0" * 99),
        ("empty.txt", b""),
        ("half.png", (FILES / "png/imagemagick.png").read_bytes()[:900]),
        ("notes.txt", good),
    )
    labels = await end_of(extractor, tmp_path, made)
    assert [label.split(" › ")[0] for label in labels[1:]] == ["plan.pdf", "half.png", "notes.txt"]
    first = await read(extractor, tmp_path / "a.eml")
    assert "protected with a password" in first[1].text
    assert "damaged" in first[2].text
    assert await read(extractor, tmp_path / "a.eml", 3) == first[3:]


async def test_bombs_on_a_mail_end_it_with_a_verdict(extractor: ChildExtractor, tmp_path: Path) -> None:
    """Packed files that unfold without end, mails in mails, and attachments by the thousand."""
    overlap = BOMBS["overlap"][1]()
    assert await end_of(extractor, tmp_path, mail(mail(("a.docx", overlap)))) == "TOO_COMPLEX"
    deep = mail()
    for _ in range(attachments.MAX_DEPTH + 1):
        deep = mail(deep)
    assert await end_of(extractor, tmp_path, deep) == "TOO_COMPLEX"
    many = mail(*[(f"{number}.txt", b"words") for number in range(attachments.MAX_PARTS + 1)])
    assert await end_of(extractor, tmp_path, many) == "TOO_COMPLEX"
    empty_pages = BOMBS["pdf-100000-empty"][1]()
    assert await end_of(extractor, tmp_path, mail(("a.pdf", empty_pages))) == "TOO_COMPLEX"
    entities = f"<?xml version='1.0'?>{laughs()}<a>&l10;</a>".encode()
    assert isinstance(await end_of(extractor, tmp_path, mail(("a.xml", entities))), list | str)


async def test_a_mail_that_is_nothing_but_a_file_holds_it(extractor: ChildExtractor, tmp_path: Path) -> None:
    """Scanners and fax machines send such mails."""
    for content, kind in ((b"<p>Gate A leaks</p>", "text/html"), (b"Gate A leaks", "application/octet-stream")):
        made = EmailMessage()
        made["Subject"] = "Scan"
        made.set_content(content, *kind.split("/"), disposition="attachment", filename="scan.htm")
        path = tmp_path / "a.eml"
        path.write_bytes(made.as_bytes())
        found = await read(extractor, path)
        assert found[-1].locator.attachment == ("scan.htm",)
        assert "Gate A leaks" in found[-1].text


async def test_mails_of_a_digest_are_read(extractor: ChildExtractor, tmp_path: Path) -> None:
    """They are mails without saying so."""
    head = b"MIME-Version: 1.0\r\nSubject: Digest\r\nContent-Type: multipart/digest; boundary=x\r\n\r\n"
    inner = b"".join(b"--x\r\n\r\nSubject: %s\r\n\r\nWords of %s.\r\n" % (name, name) for name in (b"one", b"two"))
    path = tmp_path / "a.eml"
    path.write_bytes(head + inner + b"--x--\r\n")
    found = await read(extractor, path)
    assert [segment.locator.attachment for segment in found[1:]] == [("one",), ("two",)]
    assert "Words of two." in found[2].text


async def test_names_of_attachments_are_words_and_not_paths(extractor: ChildExtractor, tmp_path: Path) -> None:
    """A name is shown as it is, on one line, and never used to write a file."""
    made = mail(("../../evil\tname.txt", b"The red box is locked."), ("x" * 900 + ".txt", b"The red box is locked."))
    labels = await end_of(extractor, tmp_path, made)
    assert labels[1].startswith("../../evil name.txt › ")
    assert len(labels[2]) < 300
    assert {path.name for path in tmp_path.iterdir()} == {"a.eml", "work"}


async def test_a_picture_within_the_words_is_no_attachment(extractor: ChildExtractor, tmp_path: Path) -> None:
    """The sign of a firm under every mail is not read as a document."""
    made = mail()
    picture = (FILES / "png/imagemagick.png").read_bytes()
    made.make_mixed()
    made.add_attachment(
        picture, maintype="image", subtype="png", filename="logo.png", cid="<logo@x>", disposition="inline"
    )
    assert len(await end_of(extractor, tmp_path, made)) == 1


def test_an_outlook_mail_that_holds_itself_ends() -> None:
    """Storages that are their own children are entered a bounded number of times."""
    data = bytearray((FILES / "msg/aspose-foss-attachments.msg").read_bytes())
    name = "__substg1.0_3701000D".encode("utf-16-le")
    at = data.index(name)
    parent = data.index("__attach_version1.0_#00000003".encode("utf-16-le"))
    data[at + 76 : at + 80] = data[parent + 76 : parent + 80]  # the mail's child is what holds the mail
    _, parts = attachments.of_mail(bytes(data), "application/vnd.ms-outlook")
    for part in parts:
        with suppress(UnprocessableContent):
            assert len(part.load()) < 10_000_000
