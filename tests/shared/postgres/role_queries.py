"""Which service asks which query: what the grants of its database role are made for.

A query that belongs to nobody fails a test, so a new one has to be given its services here. Statements that are not in
the files (`select 1`, `set local role`) need no grant.
"""

from __future__ import annotations

from shared.postgres import queries

FILES = (
    "budgets",
    "chunks",
    "dead_letters",
    "directory",
    "documents",
    "estimates",
    "files_read",
    "jobs",
    "outbox",
    "prune",
    "rate_limits",
    "recover",
    "replays",
    "spaces",
    "tasks",
)


def _all(file: str, *, but: frozenset[str] = frozenset()) -> set[str]:
    return {f"{file}.{query.name}" for query in queries.load(file)} - {f"{file}.{name}" for name in but}


def _some(file: str, *names: str) -> set[str]:
    return {f"{file}.{name}" for name in names}


# `Synchroniser`: decides about one object.
_DECIDES = _all("documents") | _some(
    "jobs",
    "lock_document",
    "lock_job",
    "fail_job",
    "drop_chunks_of_job",
    "drop_chunks_of_document",
    "cancel_job",
    "cancel_outrun",
    "withdraw_chunks",
    "drop_other_chunks",
    "add_dead_letter",
    "add_outbox",
    "resolve_dead_letters",
)
_DECIDES |= _some("spaces", "hold_active_space")
# `Consumer` and `resolving`: what becomes of a message.
_CONSUMES = _some("dead_letters", "record_message", "fail_again", "letter_exists", "resolve_message")
# `Relay`: from the outbox to the broker.
_RELAYS = _all("outbox", but=frozenset({"forget_bells"})) | _some("jobs", "add_outbox")
_RESTARTS = _some(
    "directory", "get_job", "restart_job", "replaying_letters", "forget_description", "say_asked"
) | _some("documents", "point_to_job")
_SETTLES = frozenset(
    {"add_automatic_batch", "unfinished_batches", "ended_jobs", "supersede_replays", "silent_messages"}
)
_EMBEDS = _all("rate_limits")
_SPENDS = _some("budgets", "reserve", "until_tomorrow", "settle")
# `TaskStore.add`: asks for work about many files.
_ASKS = _some("tasks", "take_turn", "unfinished_task", "insert_task") | _some("jobs", "add_outbox")

QUERIES: dict[str, set[str]] = {
    "headrace_ingest": _DECIDES | _CONSUMES | _RELAYS,
    "headrace_process": _DECIDES
    | _CONSUMES
    | _RELAYS
    | _EMBEDS
    | _SPENDS
    | _all("jobs")
    | _all("files_read")
    | _all("tasks")
    | _some("prune", "prune_outbox", "prune_ledger", "prune_runs", "prune_letters", "prune_replays")
    | _some(
        "spaces",
        "add_space",
        "find_space",
        "active_space",
        "hold_active_space",
        "wanted_spaces",
        "count_texts",
        "missing_texts",
    ),
    "headrace_recover": _DECIDES
    | _CONSUMES
    | _RELAYS
    | _RESTARTS
    | _ASKS
    | _some("dead_letters", "take_in")
    | _some("outbox", "forget_bells")
    | _all("prune")
    | _all("recover")
    | _all("replays", but=frozenset({"newest_batches", "preview"})),
    "headrace_api": _DECIDES
    | _EMBEDS
    | _ASKS
    | _all("spaces", but=frozenset({"missing_texts"}))
    | _some("jobs", "cancel_job")
    | _all("directory")
    | _all("replays", but=_SETTLES)
    | _some("recover", "list_documents")
    | _some(
        "dead_letters",
        "get_letter",
        "page_letters",
        "groups",
        "note_group",
        "forget_group_note",
        "discard_letters",
    ),
    "headrace_tenant": _some("directory", "get_job", "ledger", "page_jobs", "count_jobs", "count_rest")
    | _some("spaces", "active_space", "space_exists")
    | _some("chunks", "search"),
}
"""`headrace_tenant` is what the api becomes for a caller who is bound to one organization."""
QUERIES["headrace_api"] |= _all("budgets") - _SPENDS | _all("estimates")
QUERIES["headrace_tenant"] |= _some("budgets", "budgets_today")
# The recover service answers a dry run on the `replay` topic.
QUERIES["headrace_recover"] |= _some("replays", "preview")


def sql_of(name: str) -> str:
    """Return a query's text, with `$n` for its parameters."""
    file, _, query = name.partition(".")
    text: str = getattr(queries.load(file), query).with_integers(space_id=1, dimensions=3).sql
    return text
