"""The address of the database: refused when it would be misread, and never quoted."""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from urllib.parse import quote

import pytest

from services.api.settings import ApiSettings
from services.ingest.settings import IngestSettings
from services.process.settings import ProcessSettings
from services.recover.settings import RecoverSettings
from shared.database_url import checked, passwords
from shared.errors import ConfigurationError
from shared.local.process import MINIMAL_ENVIRONMENT
from shared.postgres.migrate import migrate
from shared.postgres.pool import open_database
from shared.settings import DatabaseSettings, MigrateSettings, load
from tests.plugins.stack import ROOT

SLASH = "postgresql://u:Gehe1mnis/pw@h:5432/d"
REST = {"GOOGLE_CLOUD_PROJECT_ID": "project", "BUCKET": "uploads", "EMBEDDER": "gemini", "GEMINI_API_KEY": "none"}
GOOD = [
    "postgresql://user:pass@host:5432/name?sslmode=require",
    "postgres://user@host/name",
    "postgresql://user@/name?host=/run/postgresql&port=5432",
    "postgresql://account%40project.iam:a%2Fb@[::1]:5432/name",
    "postgresql://user:pass@one:5432,two:5433/name",
    "postgresql://user:pa:ss,!$&=@host/name",
    "postgresql:///name",
]
BAD = {
    "slash": SLASH,
    "slash after digits": "postgresql://u:12/Gehe1mnis@h:5432/d",
    "question mark": "postgresql://u:Gehe1mnis?pw@h:5432/d",
    "question mark after digits": "postgresql://u:12?Gehe1mnis=@h:5432/d",
    "number sign": "postgresql://u:12#Gehe1mnis@h:5432/d",
    "at sign": "postgresql://u:Gehe1mnis@pw@h:5432/d",
    "bracket": "postgresql://u:Gehe1mnis[pw@h:5432/d",
    "brackets": "postgresql://u:Gehe[1mnis]@h:5432/d",
    "port": "postgresql://u:Gehe1mnis@h:Gehe1mnis/d",
    "port beyond the last": "postgresql://u:Gehe1mnis@h:70000/d",
    "option": "postgresql://u:Gehe1mnis@h/d?Gehe1mnis",
    "port as an option": "postgresql://u@h/d?port=Gehe1mnis",
    "scheme": "mysql://u:Gehe1mnis@h/d",
    "nothing of an address": "Gehe1mnis",
}
PROCESSES = {
    "migrate": ("shared.postgres.migrate",),
    "api": ("services.api",),
    "ingest": ("services.ingest",),
    "process": ("services.process",),
    "recover": ("services.recover",),
    "recover once": ("services.recover", "--once"),
}


@pytest.mark.parametrize("url", GOOD)
def test_what_the_driver_understands_is_taken(url: str) -> None:
    """Escaped signs, sockets, several hosts and options are all right."""
    assert checked(url) == url


@pytest.mark.parametrize("kind", [MigrateSettings, ApiSettings, IngestSettings, ProcessSettings, RecoverSettings])
@pytest.mark.parametrize("url", BAD.values(), ids=BAD)
def test_what_the_driver_would_misread_is_refused_without_a_word_of_it(kind: type[DatabaseSettings], url: str) -> None:
    """The variable is named, and what has to be percent-encoded; neither message nor traceback hold the password."""
    with pytest.raises(ConfigurationError, match=r"DATABASE_URL: it cannot be read.* / as %2F") as refused:
        load(kind, REST | {"DATABASE_URL": url})
    assert "mnis" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("url", [SLASH, BAD["bracket"]])
async def test_an_address_that_nobody_checked_is_not_quoted_by_the_driver(url: str) -> None:
    """Whoever opens the pool or migrates with such an address is told that it is wrong, and nothing of it."""
    for attempt in (open_database(url).__aenter__(), migrate(url)):
        with pytest.raises(ConfigurationError, match="DATABASE_URL") as refused:
            await attempt
        assert "mnis" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
async def test_no_process_writes_a_password_that_it_cannot_read(process: tuple[str, ...]) -> None:
    """Each ends with the code of wrong settings, and says what to do, without the password."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *process),
        env={name: os.environ[name] for name in MINIMAL_ENVIRONMENT if name in os.environ}
        | {"PYTHONPATH": str(ROOT), "DATABASE_URL": SLASH}
        | REST,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    written = (await child.communicate())[0].decode()
    assert child.returncode == 2, written
    assert "DATABASE_URL" in written
    assert "%2F" in written
    assert "Gehe1mnis" not in written


@pytest.mark.parametrize("password", ["p:w", "a/b", "a[b", "a@b", "50%", "ä b"])
def test_passwords_are_known_however_they_are_written(password: str) -> None:
    """As it is meant, and as it stands in the address, escaped or not; also as an option."""
    for url in (f"postgresql://u:{quote(password, safe='')}@h/d", f"postgresql:///d?password={quote(password)}"):
        assert {password, quote(password, safe="")} <= passwords(url)
    assert password in passwords(f"postgresql://u:{password}@h/d")
