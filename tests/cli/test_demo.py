"""What the demo shows, without showing it: its documents, its questions, and what counts as answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.commands.demo import CORPUS, QUESTIONS, Question, answers, documents, read_questions
from services.api.schemas import Hit, SearchAnswer
from shared.errors import ConfigurationError, InvalidRequest
from tests.services.api.fakes import a_hit


def test_the_corpus_holds_every_kind_that_was_promised() -> None:
    """PDF, DOCX, PPTX, XLSX, HTML, Markdown, text and an image are there, and nothing that is no document."""
    names = [path.name for path in documents(CORPUS)]
    assert {".pdf", ".docx", ".pptx", ".xlsx", ".html", ".md", ".txt", ".png"} <= {Path(name).suffix for name in names}
    assert not {"README.md", "questions.json"} & set(names)


def test_three_questions_are_asked_about_documents_that_are_there() -> None:
    """Each question's file is in the corpus."""
    questions = read_questions(QUESTIONS)
    assert len(questions) == 3
    assert {question.file for question in questions} <= {path.name for path in documents(CORPUS)}


def test_only_the_best_passage_answers() -> None:
    """The answer has to come first, from the file that has it; nothing found is no answer."""
    question = Question("When?", "a.pdf")
    right, wrong = Hit.of(a_hit("demo/a.pdf")), Hit.of(a_hit("demo/b.pdf"))
    assert answers(SearchAnswer(hits=[right, wrong], space="s"), question)
    assert not answers(SearchAnswer(hits=[wrong, right], space="s"), question)
    assert not answers(SearchAnswer(hits=[], space="s"), question)


@pytest.mark.parametrize("content", ["", "[{}]", "{", '[{"question": "x", "demo": true}]', "3"])
def test_a_broken_file_of_questions_is_told(tmp_path: Path, content: str) -> None:
    """A damaged copy of the repository ends in a sentence, not in a stack trace."""
    (tmp_path / "questions.json").write_text(content)
    with pytest.raises(InvalidRequest):
        read_questions(tmp_path / "questions.json")


def test_a_corpus_without_documents_is_told(tmp_path: Path) -> None:
    """An empty folder is an error before anything starts."""
    with pytest.raises(ConfigurationError):
        documents(tmp_path)
