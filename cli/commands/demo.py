"""The main job, shown: documents go into a bucket, become searchable, and answer three questions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.text import Text

from cli import look
from cli.client import Api
from cli.commands import up, upload
from cli.commands.search import print_hits
from cli.follow import Upload
from services.address import Address
from services.api.schemas import SearchAnswer
from shared.clock import SystemClock
from shared.errors import ConfigurationError, InvalidRequest
from shared.storage.gcs import CloudStorage

CORPUS = Path(__file__).resolve().parent.parent / "corpus"
QUESTIONS = CORPUS / "questions.json"
PREFIX = "demo/"
_PASSAGES = 2
_NOT_DOCUMENTS = {"README.md", QUESTIONS.name}


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and the file whose passage answers it."""

    question: str
    file: str


async def run(console: Console, *, data_dir: Path | None, stay: bool) -> int:
    """Show it; return 1 when a file failed or a question was not answered from the file that has the answer."""
    if data_dir is not None:
        return await _show(console, data_dir, durable=True, stay=stay)
    with TemporaryDirectory(prefix="headrace-demo-") as folder:
        # Run by root, the database runs as another user and has to pass through.
        Path(folder).chmod(0o711)  # noqa: ASYNC240 - nothing else runs yet
        return await _show(console, Path(folder, "data"), durable=False, stay=stay)


async def _show(console: Console, data_dir: Path, *, durable: bool, stay: bool) -> int:
    clock = SystemClock()
    began = clock.monotonic()
    questions = read_questions(QUESTIONS)
    sources = upload.collect(documents(CORPUS), PREFIX)
    _title(console, "Starting")
    async with up.started(console, data_dir, durable=durable) as stack, Api(stack.api) as api:
        _title(console, f"Indexing {look.count(len(sources), 'document')}")
        async with CloudStorage(project_id=stack.project, emulator_host=stack.storage) as store:
            uploads = await upload.put(console, store, stack.bucket, sources, upload.Who(), clock)
        failed = await upload.watch(console, api, uploads, clock)
        wrong = 0
        for question in questions:
            _title(console, question.question)
            answer = await api.search(question.question, limit=_PASSAGES, prefix=PREFIX)
            print_hits(console, answer.hits, question.question)
            if not answers(answer, question):
                wrong += 1
                console.print(
                    Text.assemble(("✗ ", "bad"), f"the answer is in {question.file}, which did not come first")
                )
        _title(console, "Where it is")
        await _where(console, stack, api, uploads, clock.monotonic() - began)
        if stay:
            console.print()
            await up.until_stopped(console)
    return 1 if failed or wrong else 0


def documents(corpus: Path) -> list[Path]:
    """Return the documents of the corpus."""
    found = [path for path in sorted(corpus.iterdir()) if path.is_file() and path.name not in _NOT_DOCUMENTS]
    if not found:
        raise ConfigurationError(f"there are no documents in {corpus}; get a complete copy of the repository")
    return found


def read_questions(path: Path) -> list[Question]:
    """Return the questions that are asked here; the file holds more, for tests.

    Raises:
        InvalidRequest: the file is not what it should be.
    """
    try:
        entries = json.loads(path.read_bytes())
        return [Question(entry["question"], entry["file"]) for entry in entries if entry["demo"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidRequest(f"{path} cannot be read as questions: {error}") from None


def answers(answer: SearchAnswer, question: Question) -> bool:
    """Say whether the best passage comes from the expected file."""
    return bool(answer.hits) and answer.hits[0].name == PREFIX + question.file


async def _where(console: Console, stack: Address, api: Api, uploads: Sequence[Upload], seconds: float) -> None:
    jobs = [await api.job(upload.row.job.id) for upload in uploads if upload.row.job is not None]
    waited = sum(job.totals.wait_ms for job in jobs) / 1000
    worked = sum(job.totals.work_ms for job in jobs) / 1000
    counts = await api.stats()
    console.print(
        look.facts(
            [
                ("API", Text.assemble((stack.api, "address"), "  (its routes; /openapi.json describes them)")),
                ("index", f"{look.count(counts.documents, 'document')}, {look.count(counts.chunks, 'passage')}"),
                (
                    "ledger",
                    f"{look.count(len(jobs), 'job')}: worked {look.duration(worked)}, waited {look.duration(waited)}",
                ),
                ("took", look.duration(seconds)),
            ]
        )
    )


def _title(console: Console, text: str) -> None:
    console.print()
    console.print(Text(text, style="heading"))
