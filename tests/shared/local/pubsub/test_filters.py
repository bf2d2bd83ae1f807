"""The filter language of subscriptions."""

import pytest

from shared.errors import InvalidRequest
from shared.local.pubsub.filters import parse_filter

ATTRIBUTES = {"name": "com", "lang": "en-GB", "iana.org/tag": "x", "quote": 'say "hi"'}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("attributes:name", True),
        ("attributes:missing", False),
        ('attributes.name = "com"', True),
        ('attributes.name="org"', False),
        ('attributes.missing = ""', False),
        ('attributes.name != "org"', True),
        ('attributes.name != "com"', False),
        ('attributes.missing != "com"', True),
        ('hasPrefix(attributes.lang, "en")', True),
        ('hasPrefix(attributes.lang, "de")', False),
        ('hasPrefix(attributes.missing, "")', False),
        ('attributes."iana.org/tag" = "x"', True),
        ('attributes.quote = "say \\"hi\\""', True),
        ("NOT attributes:name", False),
        ("-attributes:missing", True),
        ('attributes:name AND attributes.lang = "en-GB"', True),
        ("attributes:missing OR attributes:name OR attributes:lang", True),
        ("(attributes:missing OR attributes:name) AND NOT attributes:missing", True),
        ("NOT (attributes:missing OR attributes:name)", False),
    ],
)
def test_filters_select_by_attributes(text: str, *, matches: bool) -> None:
    """A filter selects as documented for the service."""
    assert parse_filter(text)(ATTRIBUTES) is matches


@pytest.mark.parametrize(
    "text",
    [
        "attributes",
        "attributes.name",
        "attributes.name = com",
        "attributes.iana.org/tag:",
        'attributes.name == "com"',
        'data = "x"',
        "attributes:name attributes:lang",
        "attributes:name AND",
        "attributes:a AND attributes:b OR attributes:c",
        "(attributes:name",
        'hasPrefix(attributes.name "x")',
        'attributes.name = "unclosed',
        f'attributes.name = "{"x" * 256}"',
    ],
)
def test_what_is_no_filter_is_refused(text: str) -> None:
    """A filter that cannot be understood is an error, not a filter that matches everything."""
    with pytest.raises(InvalidRequest):
        parse_filter(text)
