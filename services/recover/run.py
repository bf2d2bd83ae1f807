"""One run: every duty once, in an order in which each finds what the one before left; then a summary as JSON.

A duty that fails is named in the summary and does not stop the others. Two runs at once share the work: rows that one
has locked are skipped by the other.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import structlog

from services.recover.budget import Budget
from services.recover.duties import prune, publish, queue, reconcile
from services.recover.duties.cursor import Cursor
from services.recover.duties.partly import PartlyDone
from services.recover.gauges import Gauges
from services.recover.settings import RecoverSettings
from shared.clock import Clock
from shared.errors import HeadraceError, code_of
from shared.ports.outbox import Outbox
from shared.ports.pruning import PruningStore
from shared.ports.storage import ObjectStore
from shared.ports.stores import RecoverStore
from shared.telemetry.flush import flush
from shared.telemetry.instruments import DEAD_LETTERS, RECOVER_ACTIONS, RECOVER_RUNS, RECOVER_SECONDS
from shared.telemetry.metrics import Metrics
from shared.telemetry.tracing import Tracing
from shared.worker.drift import DriftCheck
from shared.worker.gate import may_pass
from shared.worker.pruning import Keep
from shared.worker.relay import Relay
from shared.worker.sync import Synchroniser

_log = structlog.get_logger(__name__)

CONNECTION_WAITS_SECONDS = (0.0, 1.0, 2.0, 4.0)

Duty = Callable[[Budget], Awaitable[Counter[str]]]
LETTER_EVENTS = {
    ("rescue", "failed"): ("job", "created"),
    ("intake", "new"): ("message", "created"),
    ("intake", "failed_again"): ("message", "reopened"),
    ("replays", "resolved"): ("job", "resolved"),
    ("replays", "reopened"): ("message", "reopened"),
}
"""What the counts of duties mean for dead letters: their origin, and what became of them."""

HourlyDuty = Callable[[Budget, Cursor], Awaitable[Counter[str]]]
"""Takes long, is done once in a while, and goes on where it stopped."""


class RecoverRun:
    """Makes runs; safe to call while another run is going on, here or elsewhere."""

    def __init__(
        self,
        *,
        settings: RecoverSettings,
        store: RecoverStore,
        outbox: Outbox,
        relay: Relay,
        storage: ObjectStore,
        synchroniser: Synchroniser,
        tracing: Tracing,
        metrics: Metrics,
        clock: Clock,
        pruning: PruningStore | None = None,
        inboxes: Mapping[str, Duty] | None = None,
        letters: Mapping[str, Duty] | None = None,
    ) -> None:
        """Take the ports; without `pruning` nothing is pruned, without `inboxes` and `letters` (the duties that take in
        and replay dead letters) those are left alone. `gauges` hold what the last run saw.
        """
        self.gauges = Gauges()
        self._settings, self._store, self._clock = settings, store, clock
        self._tracing, self._metrics = tracing, metrics
        size = settings.batch_size
        threshold = settings.stuck_job_threshold_minutes * 60
        self._publish: Duty = partial(publish.publish, relay)
        check = DriftCheck(
            documents=store, storage=storage, synchroniser=synchroniser, bucket=settings.bucket, clock=clock
        )
        self._hourly: dict[str, tuple[HourlyDuty, float]] = {
            "reconcile": (partial(reconcile.reconcile, check), settings.reconcile_every_seconds)
        }
        if pruning is not None:
            keep = Keep(
                outbox_days=settings.outbox_keep_days,
                ledger_days=settings.ledger_keep_days,
                deleted_days=settings.deleted_keep_days,
                letters_days=settings.letters_keep_days,
                replays_days=settings.replays_keep_days,
            )
            self._hourly["prune"] = (partial(prune.prune, pruning, keep=keep), settings.prune_every_seconds)
        self._duties: dict[str, Duty] = {
            "rescue": partial(queue.rescue, store, batch_size=size),
            "ring_due": partial(queue.ring_due, outbox, batch_size=size),
            "ring_stuck": partial(queue.ring_stuck, store, batch_size=size, threshold_seconds=threshold),
        }
        self._inboxes, self._letters = dict(inboxes or {}), dict(letters or {})

    async def __call__(self, *, reconcile_now: bool = False) -> dict[str, Any]:
        """Return the summary: `ok`, counts per duty, errors per duty by code, and how long it took."""
        settings = self._settings
        budget = Budget(
            self._clock, max(1.0, settings.function_timeout_seconds - settings.function_timeout_buffer_seconds)
        )
        started_at, started = self._clock.now(), self._clock.monotonic()
        duties: dict[str, dict[str, int]] = {}
        errors: dict[str, str] = {}
        with self._tracing.span("recover run"):
            due = await self._due(errors, now={"reconcile"} if reconcile_now else set())
            if due is not None:
                # Half of the time at most: what these wrote must also be told by this run, and the rest have its turn.
                half = budget.half()
                # An inbox that is empty says so only after a wait; all wait at once, beside the work on jobs.
                await asyncio.gather(
                    self._in_turn(self._duties, half, duties, errors),
                    *(self._do(name, duty, half, duties, errors) for name, duty in self._inboxes.items()),
                )
                await self._do("publish", self._publish, budget.half(), duties, errors)
                todo = self._letters | {name: self._within(name, at) for name, at in due.items()}
                await self._in_turn(todo, budget, duties, errors)
                await self._do("publish", self._publish, budget, duties, errors)
                await self._look(errors)
        figures = self.gauges.latest
        summary: dict[str, Any] = {
            "ok": not errors,
            "started_at": started_at.isoformat(),
            "duration_ms": round((self._clock.monotonic() - started) * 1000),
            "budget_spent": budget.spent,
            "duties": duties,
            "errors": errors,
        }
        if not {"database", "figures"} & set(errors):
            summary["figures"] = {  # alerts read these: infra/terraform/modules/monitoring/metrics.tf
                "pending_jobs": sum(figures.pending.values()),
                "due_jobs": sum(figures.due.values()),
                "oldest_due_seconds": round(max(figures.oldest_due_seconds.values(), default=0.0)),
                "stuck_jobs": figures.stuck,
                "dead_letters_open": figures.dead_letters_open,
                "outbox_lag_seconds": round(figures.outbox_lag_seconds),
            }
        self._metrics.add(RECOVER_RUNS, outcome="failed" if errors else "ok")
        # Cursors hold names of files: they are for the next run, not for logs and answers.
        cursors = {name: cursor.stopped for name, cursor in (due or {}).items() if cursor.stopped is not None}
        self.gauges.compared(duties.get("reconcile"))
        await self._keep(started, summary | {"cursors": cursors}, errors)
        _log.info("recover.done", **summary)
        await flush(self._tracing, self._metrics)  # after the answer the processor may stand still until the next run
        return summary

    async def _due(self, errors: dict[str, str], *, now: set[str]) -> dict[str, Cursor] | None:
        """Return the hourly duties that are due, with where each is to begin; None when the database stays away."""
        for wait in CONNECTION_WAITS_SECONDS:
            await self._clock.sleep(wait)
            try:
                due: dict[str, Cursor] = {}
                for name, (_, every_seconds) in self._hourly.items():
                    last = await self._store.last_done(name)
                    if name in now or last is None or last.cursor is not None or last.seconds_ago >= every_seconds:
                        due[name] = Cursor(None if last is None else last.cursor)
            except HeadraceError as error:
                if not may_pass(error):
                    raise
                _log.warning("recover.database_away", error_code=error.code)
                errors["database"] = error.code
            else:
                errors.pop("database", None)
                return due
        return None

    def _within(self, name: str, cursor: Cursor) -> Duty:
        duty = self._hourly[name][0]
        return lambda budget: duty(budget.half(), cursor)

    async def _in_turn(
        self, todo: Mapping[str, Duty], budget: Budget, duties: dict[str, dict[str, int]], errors: dict[str, str]
    ) -> None:
        for name, duty in todo.items():
            await self._do(name, duty, budget, duties, errors)

    async def _do(
        self,
        name: str,
        duty: Duty,
        budget: Budget,
        duties: dict[str, dict[str, int]],
        errors: dict[str, str],
    ) -> None:
        started = self._clock.monotonic()
        with self._tracing.span(f"recover {name}"):
            try:
                counts = await duty(budget)
            except PartlyDone as partly:
                counts = partly.counts
                self._failed(name, partly.error, errors)
            except Exception as error:  # noqa: BLE001 - one duty's failure must not stop the others; it is reported
                self._failed(name, error, errors)
                return
        duties[name] = {outcome: count + duties.get(name, {}).get(outcome, 0) for outcome, count in counts.items()}
        self._metrics.record(RECOVER_SECONDS, self._clock.monotonic() - started, duty=name)
        for outcome, count in counts.items():
            if count:
                self._metrics.add(RECOVER_ACTIONS, count, duty=name, outcome=outcome)
                if (name, outcome) in LETTER_EVENTS:
                    origin, event = LETTER_EVENTS[name, outcome]
                    self._metrics.add(DEAD_LETTERS, count, origin=origin, event=event)

    @staticmethod
    def _failed(name: str, error: Exception, errors: dict[str, str]) -> None:
        errors[name] = code_of(error)
        _log.error("recover.duty_failed", duty=name, error_code=code_of(error), exc_info=error)

    async def _look(self, errors: dict[str, str]) -> None:
        try:
            self.gauges.latest = await self._store.figures()
        except HeadraceError as error:
            errors["figures"] = error.code

    async def _keep(self, started: float, summary: dict[str, Any], errors: dict[str, str]) -> None:
        if "database" in errors:
            return
        try:
            await self._store.record_run(lasted_seconds=self._clock.monotonic() - started, summary=summary)
        except HeadraceError as error:
            errors["record"] = error.code
            _log.warning("recover.run_not_recorded", error_code=error.code)
