"""Every gcloud command of the pages is one that gcloud knows: its words, its flags, and which release track has it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.repository import ROOT
from tests.infra.test_gcloud import with_gcloud

PAGES = ("deploy.md", "operations.md", "upgrade.md")
_BLOCK = re.compile(r"^ *```sh[^\n]*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def commands(page: str) -> Iterator[str]:
    """Yield the page's gcloud commands, those in `$(...)` too, each up to where the shell would end it."""
    text = re.sub(r"\\\n\s*", " ", "".join(_BLOCK.findall((ROOT / "docs" / page).read_text())))
    for start in re.finditer(r"\bgcloud (?=[a-z])", text):
        quote, end, depth = "", start.end(), 0
        while end < len(text):
            sign = text[end]
            if quote:
                quote = "" if sign == quote else quote
            elif sign in "\"'":
                quote = sign
            elif text.startswith("$(", end):
                depth += 1
            elif sign == ")" and depth:
                depth -= 1
            elif sign in "\n|&;)" or text.startswith(" #", end):
                break
            end += 1
        yield re.sub(r"\$\(.*\)|\$\w+", _value, text[start.start() : end].strip())


def _value(variable: re.Match[str]) -> str:
    """Return something that gcloud may check the form of, and that quotes go round."""
    return {"$SINCE": "2026-11-22T10:00:00Z", "$REGION": "us-central1"}.get(variable[0], "something")


def test_commands_are_found_whole() -> None:
    """Continued lines, pipes, comments, substitutions: none of them hides a command or becomes a part of one."""
    found = [command for page in PAGES for command in commands(page)]
    assert len(found) > 60
    assert 'gcloud beta run worker-pools list --region="us-central1"' in found
    assert "gcloud config get account" in found
    assert not any(" #" in command for command in found)


@pytest.mark.slow
@with_gcloud
def test_gcloud_knows_every_command(tmp_path: Path) -> None:
    """The installed gcloud parses each of them; none is of a track that it does not say."""
    asked = sorted({command for page in PAGES for command in commands(page)})
    file = tmp_path / "commands.json"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "CLOUDSDK_CONFIG": str(tmp_path / "gcloud"),
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
    }
    wrong = "gcloud run services list --colour=red"
    file.write_text(json.dumps([{"command_string": command} for command in [*asked, wrong]]))
    said = subprocess.run(
        ["gcloud", "meta", "lint-gcloud-commands", f"--commands-file={file}"],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    results = {one["command_string"]: one for one in json.loads(said.stdout)}
    refused = {command: one["error_message"] for command, one in results.items() if not one["success"]}
    assert refused.pop(wrong, None), "the expression can fail"
    assert refused == {}
    assert len(results) == len(asked) + 1
