"""Which part of a long passage is shown."""

from cli.commands.search import _passage, _readable


def test_the_part_with_most_of_the_words_is_shown() -> None:
    """A passage is cut around the place where the words of the question stand together."""
    text = "The gate is green. " + "filler " * 120 + "The intake gate closes in 75 seconds. " + "filler " * 120
    shown = _passage(text, "How long does the intake gate take to close?").plain
    assert "closes in 75 seconds" in shown
    assert shown.startswith("… ")
    assert shown.endswith(" …")
    assert len(shown) < 450


def test_short_passages_are_shown_whole() -> None:
    """Nothing is cut where everything fits, and a question of short words marks nothing."""
    assert _passage("It is so.", "is it?").plain == "It is so."


def test_words_without_any_space_end() -> None:
    """A passage without a single space is cut all the same."""
    assert len(_passage("x" * 5000, "what is it about?").plain) < 450


def test_notation_is_not_shown() -> None:
    """Rules of tables and escapes of Markdown are left out."""
    assert _readable("3\\. Gates\n\n| a | b |\n| --- | ---: |\n| 1 | 2 |") == "3. Gates | a | b | 1 | 2 |"
