"""The filter language of subscriptions: which attributes a message must have to be delivered.

expression = term { "AND" term } | term { "OR" term }       (mixing the two needs parentheses)
term       = ( "NOT" | "-" ) term | "(" expression ")" | comparison
comparison = "attributes" ":" key | "attributes" "." key ( "=" | "!=" ) string
           | "hasPrefix" "(" "attributes" "." key "," string ")"
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

from shared.errors import InvalidRequest

Predicate: TypeAlias = Callable[[Mapping[str, str]], bool]

MAX_FILTER_BYTES = 256

_TOKEN = re.compile(r'\s*(?:("(?:[^"\\]|\\.)*")|([A-Za-z0-9_][A-Za-z0-9_\-]*)|(!=|[=:.,()\-]))')


def parse_filter(text: str) -> Predicate:
    """Compile a filter; an empty one matches everything.

    Raises:
        InvalidRequest: the text is too long or is no filter.
    """
    if not text.strip():
        return lambda _attributes: True
    if len(text.encode()) > MAX_FILTER_BYTES:
        raise InvalidRequest(f"The filter is longer than {MAX_FILTER_BYTES} bytes.")
    parser = _Parser(_tokens(text))
    predicate = parser.expression()
    if parser.peek():
        raise InvalidRequest(f"The filter has something after its end: {parser.peek()}")
    return predicate


def _tokens(text: str) -> list[str]:
    tokens = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            raise InvalidRequest(f"The filter cannot be read from character {position} on.")
        tokens.append(match[0].strip())
        position = match.end()
    return tokens


class _Parser:
    """Recursive descent over the tokens, one method per rule of the grammar."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._next = 0

    def peek(self) -> str:
        return self._tokens[self._next] if self._next < len(self._tokens) else ""

    def expression(self) -> Predicate:
        terms = [self._term()]
        operator = self.peek()
        if operator not in {"AND", "OR"}:
            return terms[0]
        while self._accept(operator):
            terms.append(self._term())
        if self.peek() in {"AND", "OR"}:
            raise InvalidRequest("A filter that mixes AND with OR needs parentheses.")
        combine = all if operator == "AND" else any
        return lambda attributes: combine(term(attributes) for term in terms)

    def _term(self) -> Predicate:
        if self._accept("NOT") or self._accept("-"):
            negated = self._term()
            return lambda attributes: not negated(attributes)
        if self._accept("("):
            inner = self.expression()
            self._expect(")")
            return inner
        return self._comparison()

    def _comparison(self) -> Predicate:
        if self._accept("hasPrefix"):
            self._expect("(")
            self._expect("attributes")
            self._expect(".")
            key = self._key()
            self._expect(",")
            prefix = self._string()
            self._expect(")")
            return lambda attributes: key in attributes and attributes[key].startswith(prefix)
        self._expect("attributes")
        if self._accept(":"):
            key = self._key()
            return lambda attributes: key in attributes
        self._expect(".")
        key = self._key()
        if self._accept("!="):
            unwanted = self._string()
            return lambda attributes: not (key in attributes and attributes[key] == unwanted)
        self._expect("=")
        wanted = self._string()
        return lambda attributes: key in attributes and attributes[key] == wanted

    def _key(self) -> str:
        token = self._take()
        if token.startswith('"'):
            return self._unquote(token)
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_\-]*", token):
            raise InvalidRequest("The filter lacks the key of an attribute; one with other signs needs quotes.")
        return token

    def _string(self) -> str:
        token = self._take()
        if not token.startswith('"'):
            raise InvalidRequest("The filter lacks a quoted string.")
        return self._unquote(token)

    @staticmethod
    def _unquote(token: str) -> str:
        try:
            return str(json.loads(token))
        except ValueError:
            raise InvalidRequest("The filter has an escape that is not known.") from None

    def _take(self) -> str:
        token = self.peek()
        self._next += 1
        return token

    def _accept(self, token: str) -> bool:
        if self.peek() != token:
            return False
        self._next += 1
        return True

    def _expect(self, token: str) -> None:
        if not self._accept(token):
            raise InvalidRequest(f"The filter has {self.peek() or 'its end'} where {token} is expected.")
