"""The words of mails that were written as HTML."""

from __future__ import annotations

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
    return bodies.page_blocks(made.as_bytes(), media.EML)


def test_a_page_is_read_whole_and_once() -> None:
    """Alone, and as the richer form of the same words; a page that says nothing gives way to the other form."""
    assert of(mail(page=PAGE)) == BLOCKS
    assert of(mail(words="Gates", page=PAGE)) == BLOCKS
    assert of(mail(words="Gates", page="<p> </p>")) == [(0, "Gates")]


def test_plain_mails_and_attached_pages_are_left_to_the_others() -> None:
    """The library reads words; what is attached is a document of its own."""
    assert of(mail(words="Gates")) == []
    attached = mail(words="Gates")
    attached.add_attachment(PAGE, subtype="html", filename="gates.html")
    assert of(attached) == []
    assert bodies.page_blocks(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 broken", media.MSG) == []


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


def test_an_encoding_that_nobody_knows_is_guessed() -> None:
    """As browsers do; and one that is not named is UTF-8, or what the page says of itself."""
    page = "<meta charset=koi8-r><p>Шлюз</p>".encode("koi8-r")
    head = b"MIME-Version: 1.0\r\nContent-Transfer-Encoding: 8bit\r\nContent-Type: text/html"
    assert bodies.page_blocks(head + b"; charset=x-none\r\n\r\n<p>Gr\xfc\xdfe</p>", media.EML) == [(0, "Grüße")]
    assert bodies.page_blocks(head + b"\r\n\r\n" + page, media.EML) == [(0, "Шлюз")]
    assert bodies.page_blocks(head + b"\r\n\r\n" + "<p>Grüße</p>".encode(), media.EML) == [(0, "Grüße")]


@pytest.mark.parametrize("words", ["", "Just words"])
async def test_pages_of_outlook_are_read_whole(words: str) -> None:
    """Whether plain words stand beside them or not."""
    texts = {"0037001F": "Report", "1000001F": words}
    streams = {f"__substg1.0_{name}": text.encode("utf-16-le") for name, text in texts.items() if text}
    data = compound({**streams, "__substg1.0_10130102": PAGE.encode()})
    document = await library.read_document(data, media.MSG)
    head, page = office.mail_sections(document, bodies.page_blocks(data, media.MSG))
    assert head.text == "Subject: Report"
    assert page.text == "Gates\n\nSluice\nOpens slowly."


async def test_head_and_list_of_attachments_stand_before_the_page() -> None:
    """They belong to the mail, and to no heading of its page."""
    made = mail(words="Gates", page=PAGE)
    made.add_attachment(b"x", maintype="application", subtype="octet-stream", filename="gates.bin")
    data = made.as_bytes()
    document = await library.read_document(data, media.EML)
    head, page = office.mail_sections(document, bodies.page_blocks(data, media.EML))
    assert head.text.startswith("Subject: Report")
    assert "gates.bin" in head.text
    assert (page.locator.heading_path, page.text) == (("Gates",), "Gates\n\nSluice\nOpens slowly.")
