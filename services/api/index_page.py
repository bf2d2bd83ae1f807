"""The page at `/`: what this service offers, for people who open it in a browser."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from services.api.openapi import PLAIN_ROUTES
from services.api.route import Route

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2530; --soft: #5d6b7a; --line: #dfe5ea; --mark: #0b7285; --ground: #fbfcfd }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6ebf0; --soft: #94a3b3; --line: #2b3641; --mark: #66c5d6; --ground: #12181e } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 4rem 1.25rem; max-width: 52rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.55 system-ui, sans-serif }
h1 { margin: 0; font-size: 2rem; letter-spacing: -.02em } p { color: var(--soft); margin: .3rem 0 2.5rem }
h2 { font-size: .8rem; text-transform: uppercase; letter-spacing: .08em; color: var(--soft); margin: 2rem 0 .25rem }
ul { list-style: none; margin: 0; padding: 0 }
li { display: grid; grid-template-columns: 4.5rem 1fr; gap: .1rem .75rem; padding: .6rem 0;
  border-top: 1px solid var(--line) }
b { color: var(--mark); font: 600 .8rem/1.9 ui-monospace, monospace } code { font: .92rem ui-monospace, monospace;
  overflow-wrap: anywhere } a { color: inherit } span { grid-column: 2; color: var(--soft); font-size: .9rem }
"""


def render(routes: Sequence[Route[Any, Any]]) -> str:
    """Return the page as HTML; it loads nothing from elsewhere."""
    plain = "".join(
        _item("GET", path, summary, link=True) for path, (summary, _) in PLAIN_ROUTES.items() if path != "/"
    )
    sections = [
        ("For everyone", "".join(_item(r.method, r.path, r.summary) for r in routes if not r.admin)),
        ("For administrators", "".join(_item(r.method, r.path, r.summary) for r in routes if r.admin)),
        ("About the service", plain),
    ]
    body = "".join(f"<h2>{escape(title)}</h2><ul>{items}</ul>" for title, items in sections)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Headrace API</title>'
        f"<style>{_STYLE}</style></head><body><h1>Headrace</h1>"
        "<p>Objects of a bucket as searchable, cited passages.</p>"
        f"{body}</body></html>"
    )


def _item(method: str, path: str, summary: str, *, link: bool = False) -> str:
    code = f"<code>{escape(path)}</code>"
    shown = f'<a href="{escape(path)}">{code}</a>' if link else code
    return f"<li><b>{escape(method)}</b>{shown}<span>{escape(summary)}</span></li>"
