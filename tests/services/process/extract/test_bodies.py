"""The words of mails that were written as HTML."""

from __future__ import annotations

import re
from email.message import EmailMessage

import pytest

from services.process.extract import bodies, library, office
from services.process.extract.hypertext import Block
from shared.model import media
from tests.plugins.hostile import compound

PAGE = "<h1>Gates</h1><dl><dt>Sluice</dt><dd>Opens slowly.</dd></dl>"
BLOCKS: list[Block] = [(1, "Gates"), (0, "Sluice\nOpens slowly.")]


def mail(*, words: str = "", page: str = "") -> EmailMessage:
    """Return a mail with one form of its words, or both."""
    made = EmailMessage()
    made["Subject"] = "Report"
    if words:
        made.set_content(words)
    if page and words:
        made.add_alternative(page, subtype="html")
    elif page:
        made.set_content(page, subtype="html")
    return made


def of(made: EmailMessage) -> list[Block]:
    """Return what is found in a mail."""
    return bodies.words(made.as_bytes(), media.EML)


def test_a_page_is_read_whole_and_once() -> None:
    """Alone, and as the richer form of the same words; a page that says nothing gives way to the other form."""
    assert of(mail(page=PAGE)) == BLOCKS
    assert of(mail(words="Gates", page=PAGE)) == BLOCKS
    assert of(mail(words="Gates", page="<p> </p>")) == [(0, "Gates")]
    assert of(mail(words="Gates", page="<p>&zwnj;&nbsp;</p><img src=a>")) == [(0, "Gates")]


def test_what_is_attached_is_no_word_of_the_mail() -> None:
    """It is a document of its own: whether it says so, has a name, or is of a kind that nobody shows."""
    assert of(mail(words="Gates")) == [(0, "Gates")]
    with_page = mail(words="Gates")
    with_page.add_attachment(PAGE, subtype="html", filename="gates.html")
    assert of(with_page) == [(0, "Gates")]
    with_notes = mail(words="Gates")
    with_notes.add_attachment("Notes", disposition="inline", filename="notes.txt")
    assert of(with_notes) == [(0, "Gates")]
    assert of(mail(page=PAGE)) == BLOCKS
    assert bodies.words(b"Content-Type: text/calendar\r\n\r\nBEGIN:VCALENDAR", media.EML) == []
    assert bodies.words(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 broken", media.MSG) == []


def test_words_around_a_page_are_kept_in_order() -> None:
    """Mailing lists add their footer as a part of its own."""
    made = mail(page=PAGE)
    made.make_mixed()
    footer = EmailMessage()
    footer.set_content("To unsubscribe, write to us.")
    made.attach(footer)
    assert of(made) == [*BLOCKS, (0, "To unsubscribe, write to us.")]


@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-1", "koi8-r", "shift_jis"])
def test_the_encoding_is_the_one_that_is_named(charset: str) -> None:
    """By the part's own header."""
    words = {"koi8-r": "Шлюз открыт", "shift_jis": "水門が開く"}.get(charset, "Grüße")
    made = EmailMessage()
    made.set_content(f"<p>{words}</p>", subtype="html", charset=charset)
    assert of(made) == [(0, words)]


HEAD = b"MIME-Version: 1.0\r\nContent-Transfer-Encoding: 8bit\r\nContent-Type: text/"


@pytest.mark.parametrize(
    ("kind", "words", "written_in"),
    [
        ("html; charset=x-none", "<p>Grüße</p>", "cp1252"),
        ("html; charset=x-none", "<p>Grüße</p>", "utf-8"),
        ("html; charset=utf-8", "<p>Grüße</p>", "cp1252"),
        ("html", "<meta charset=koi8-r><p>Шлюз</p>", "koi8-r"),
        ("html", "<p>Grüße</p>", "utf-8"),
        ("plain; charset=gb2312", "朱镕基", "gbk"),
        ("plain; charset=shift_jis", "①会議 髙橋", "cp932"),
        ("plain; charset=ks_c_5601-1987", "똠방각하", "cp949"),
        ("plain; charset=iso-8859-8-i", "שלום עולם", "cp1255"),
        ("plain; charset=iso-8859-9", "İstanbul €", "cp1254"),
        ("plain; charset=iso-8859-1", "5 €", "cp1252"),
    ],
)
def test_what_is_meant_by_an_encoding_is_read(kind: str, words: str, written_in: str) -> None:
    """Names are used for more than they stand for, for what they are not, or not at all."""
    data = HEAD + kind.encode() + b"\r\n\r\n" + words.encode(written_in)
    assert bodies.words(data, media.EML) == [(0, re.sub("<.*?>", "", words))]


async def test_a_paragraph_called_attachments_is_no_list_of_them() -> None:
    """Cover letters have one; it is told once, where it stands."""
    letter = "Dear Bob,\n\nAttachments:\n\n- offer.pdf with prices"
    for made in (mail(words=letter), mail(page="".join(f"<p>{line}</p>" for line in letter.split("\n\n")))):
        data = made.as_bytes()
        document = await library.read_document(data, media.EML)
        (section,) = office.mail_sections(document, bodies.words(data, media.EML))
        assert section.text == f"Subject: Report\n\n{letter}"


@pytest.mark.parametrize("words", ["", "Just words"])
async def test_pages_of_outlook_are_read_whole(words: str) -> None:
    """Whether plain words stand beside them or not."""
    texts = {"0037001F": "Report", "1000001F": words}
    streams = {f"__substg1.0_{name}": text.encode("utf-16-le") for name, text in texts.items() if text}
    data = compound({**streams, "__substg1.0_10130102": PAGE.encode()})
    document = await library.read_document(data, media.MSG)
    head, page = office.mail_sections(document, bodies.words(data, media.MSG))
    assert head.text == "Subject: Report"
    assert page.text == "Gates\n\nSluice\nOpens slowly."


async def test_head_and_list_of_attachments_stand_before_the_page() -> None:
    """They belong to the mail, and to no heading of its page."""
    made = mail(words="Gates", page=PAGE)
    made.add_attachment(b"x", maintype="application", subtype="octet-stream", filename="gates.bin")
    data = made.as_bytes()
    document = await library.read_document(data, media.EML)
    head, page = office.mail_sections(document, bodies.words(data, media.EML))
    assert head.text.startswith("Subject: Report")
    assert "gates.bin" in head.text
    assert (page.locator.heading_path, page.text) == (("Gates",), "Gates\n\nSluice\nOpens slowly.")
