"""Every stable code of a failure, with what it means, who sees it, and what an operator does about it.

docs/errors.md is made of this. A test compares it with the code in both directions, and with the classes of
`shared.errors` about what is retried.
"""

from __future__ import annotations

from shared.code_entry import NEW_FILE, RETRY, Code, Place, final, passing

BY_PLACE: dict[Place, tuple[Code, ...]] = {
    Place.FILE: (
        final(
            "ANSWER_TOO_LONG",
            "A page holds more text than one answer of the model takes, or the model repeats itself; and OCR reads no "
            "text in the file either.",
            "The page is split.",
            "Reading of images by a model.",
        ),
        final(
            "CONTENT_BLOCKED",
            "The model refuses to read the file's pages (its safety rules, or a copy of something protected), and OCR "
            "reads no text in it either.",
            "Nothing: all that reads has been asked.",
            "Reading of images by a model.",
        ),
        final(
            "CORRUPT",
            "The file is damaged, cut off, or not what it says it is.",
            NEW_FILE,
            "Sniffing and extraction; unpacking of objects stored with gzip.",
        ),
        final("EMPTY", "The file has no bytes.", NEW_FILE, "Sniffing."),
        final(
            "ENCRYPTED",
            "The file is protected with a password.",
            "Nothing here: it is uploaded again without one.",
            "Sniffing and extraction.",
        ),
        final(
            "IMAGE_REFUSED", "Neither model nor OCR can read its pictures.", NEW_FILE, "Reading of images by a model."
        ),
        final(
            "NO_TEXT",
            "No text was found, also not by OCR.",
            "Nothing, if the file has none; else look whether OCR knows its language.",
            "Extraction and chunking.",
        ),
        final(
            "TENANT_UNKNOWN",
            "Neither the object's metadata nor its path says whose it is.",
            "Set `organization-id` on the object, or `DEFAULT_ORGANIZATION_ID`; then retry: whose the file is, is"
            " looked at anew, and only then does its job run.",
            "The decision about an object.",
        ),
        final(
            "TOO_COMPLEX",
            "It unfolds into too much, is nested too deeply, has too many pages, or took too much time or memory.",
            "The file is split; if many are refused that should pass, raise the extractor's limits.",
            "Extraction.",
        ),
        final(
            "TOO_LARGE",
            "The object, or what it unpacks to, is larger than `MAX_OBJECT_BYTES`.",
            "The file is split, or the limit raised together with memory and temporary space; then retry.",
            "Download.",
        ),
        final(
            "UNPROCESSABLE",
            "The file cannot be turned into text, and no closer code says why.",
            "Read the job's message.",
            "Extraction.",
        ),
        final(
            "UNSUPPORTED_TYPE",
            "Files of this kind are not indexed.",
            "Nothing; keep them out of the bucket if there are many.",
            "Sniffing and extraction.",
        ),
    ),
    Place.JOB: (
        final(
            "ANSWER_INVALID",
            "A model's answer about an image had not the form that was asked for, twice.",
            f"Look whether the model was changed; then {RETRY.format('ANSWER_INVALID')}.",
            "Reading of images by a model.",
        ),
        final(
            "AUTHENTICATION_FAILED",
            "A credential of ours was refused, or a caller of the api has none.",
            f"Put in a good key or give the service account its role, then {RETRY.format('AUTHENTICATION_FAILED')}.",
            "Models, Storage and Pub/Sub, each after exactly one call; the api.",
        ),
        passing(
            "BUDGET_EXHAUSTED",
            "The organization has used up what it may spend on models in a day of UTC; no attempt is counted.",
            "Nothing: it goes on the next day, however often; or `./headrace budgets set ORG AMOUNT`, then at once.",
            "Embedding of documents.",
        ),
        final(
            "CANCELLED",
            "A person cancelled the job.",
            "Nothing; `./headrace jobs retry` starts it from the beginning.",
            "The api.",
        ),
        passing(
            "CHECKSUM_MISMATCH",
            "An object arrived damaged.",
            "Nothing; it is fetched again. If it stays, the object itself is damaged.",
            "Download.",
        ),
        passing(
            "CONFLICT",
            "Two transactions, or two writers of an object, met.",
            "Nothing; it is done again.",
            "Postgres and Storage.",
        ),
        final(
            "DATABASE_LOGIN_REFUSED",
            "Postgres refused the login.",
            "Correct `DATABASE_URL` or the role; jobs wait meanwhile.",
            "Postgres.",
        ),
        passing(
            "DATABASE_TIMEOUT",
            "A statement took longer than it may, or somebody cancelled it; the attempt is counted.",
            f"If it stays, look for locks and slow disks in Postgres, then {RETRY.format('DATABASE_TIMEOUT')}.",
            "Postgres.",
        ),
        passing(
            "DATABASE_UNAVAILABLE",
            "Postgres does not answer, is going down, or lost the connection.",
            "Bring it back; services go on by themselves. See [operations](operations.md#the-database-was-away).",
            "Postgres.",
        ),
        passing(
            "DEPENDENCY_UNAVAILABLE",
            "A service that is needed does not answer, answers 5xx, or answers nonsense.",
            f"Wait for it; after an outage longer than the retries, {RETRY.format('DEPENDENCY_UNAVAILABLE')}.",
            "Models, Storage, Pub/Sub, sign-in.",
        ),
        final(
            "IMPORTED_ANEW",
            "A line of an older table, where it had not been completed; its file was looked at anew. No failure.",
            "Nothing; look at the file's newest job.",
            "`headrace import-jobs`.",
        ),
        passing(
            "INCOMPLETE",
            "A job was to be completed while some of its text had no vector: its file had changed hands meanwhile.",
            "Nothing: the next attempt embeds that text. If a job fails with it, report it with the job's ledger.",
            "Completion of a file.",
        ),
        passing(
            "INTERNAL",
            "An error that the product does not know; its details are in the log, never on the job.",
            "Look for `job.attempt_failed` with this job's id in the log; report it; then retry.",
            "Anywhere.",
        ),
        final(
            "LEASE_LOST",
            "Another worker owns the job now; this one wrote nothing any more. No failure.",
            "Nothing; if it is frequent, workers are starved of CPU or `LEASE_SECONDS` is too short.",
            "Every write of a worker.",
        ),
        passing(
            "POOL_EXHAUSTED",
            "No database connection became free in time.",
            "Lower the concurrency or raise `DATABASE_POOL_SIZE`.",
            "Postgres.",
        ),
        passing(
            "RATE_LIMITED",
            "The model or service limits calls; the job waits and no attempt is counted.",
            "Nothing; a job fails whose own calls are refused for `MAX_DEFER_HOURS`: raise the quota, then retry.",
            "Models, Storage, Pub/Sub.",
        ),
        passing(
            "READER_UNAVAILABLE",
            "A worker cannot start the process that reads files, so no file is to blame; no attempt is counted.",
            "Read `extract.server_unusable` in the process service's log: a wrong image, or no memory or process left."
            " `/readyz` says so too. Once it is mended the jobs go on by themselves.",
            "Extraction.",
        ),
        final(
            "REFUSED",
            "The same call would fail again, and no closer code says why.",
            "Read the job's message.",
            "Anywhere.",
        ),
        passing(
            "SAME_FILE_BEING_READ",
            "A model is reading the same bytes for another job of the organization; no attempt is counted.",
            "Nothing: when that job ends, this one takes over its passages, or has the file read itself.",
            "Reading of images by a model.",
        ),
        passing(
            "SLICE_TOO_SHORT",
            "With push, one step of the work took longer than a delivery may.",
            "Raise `PUSH_SLICE_SECONDS` if it is low, or let the process service pull; then"
            f" {RETRY.format('SLICE_TOO_SHORT')}.",
            "The process service, where it is pushed to.",
        ),
        final(
            "SPACE_MISMATCH",
            "Vectors of two models or sizes met.",
            "Give all services the same model settings.",
            "Search.",
        ),
        passing(
            "SPACE_SWITCHED",
            "Another embedding space became the searched one in this very moment; the step is done again in that one.",
            "Nothing.",
            "Completion of a file; search.",
        ),
        passing(
            "STORAGE_INCONSISTENT",
            "Storage lists the object as live and does not give it.",
            "Nothing; it is asked again.",
            "Download.",
        ),
        final(
            "SUPERSEDED",
            "A newer version of the file has arrived, or it was removed. No failure.",
            "Nothing; look at the file's newest job.",
            "Decisions, download, retry by hand.",
        ),
        passing(
            "TEMPORARY_FAILURE",
            "Something failed in a way that may pass, and no closer code says what.",
            "Read the job's message.",
            "Anywhere.",
        ),
        final(
            "UNKNOWN_JOB_TYPE",
            "No worker knows jobs of this type: an older process service is running.",
            f"Deploy the process service, then {RETRY.format('UNKNOWN_JOB_TYPE')}.",
            "The process service.",
        ),
        passing(
            "WORKER_CRASHED",
            "The child process that read the file died.",
            "Nothing; it is tried again. If it stays, look at the file and at the memory of the process service.",
            "Extraction.",
        ),
        final(
            "WORKER_LOST",
            "The worker died again and again with this job and got no further, the last times with nothing beside it.",
            "Keep the file for a bug report; give the process service more memory before a retry.",
            "Recover, after the last rescue.",
        ),
    ),
    Place.LETTER: (
        final("LETTER_ENDED", "The dead letter is resolved or discarded.", "Nothing is left to replay.", "Replays."),
        final(
            "MALFORMED_EVENT",
            "A message is no event that this version knows.",
            "Find out who published it; discard the letter.",
            "All consumers.",
        ),
        final(
            "MALFORMED_NOTIFICATION",
            "A message on `uploads` is no notification of a bucket.",
            "Find out who published it; discard the letter.",
            "The ingest service.",
        ),
        final(
            "MALFORMED_PUSH",
            "A request to /push/… is no push of that subscription: its endpoint is another one's, or it is unwrapped"
            " without metadata.",
            "Correct the subscription's push endpoint; what was refused comes again, or is a dead letter to replay.",
            "Services that are pushed to; the answer is 400.",
        ),
        final(
            "MALFORMED_REPLAY",
            "A message on `replay` asks for nothing that can be done.",
            "Correct it as its message says and publish it again; discard the letter.",
            "The recover service.",
        ),
        final(
            "MESSAGE_TOO_LARGE",
            "A message is larger than Pub/Sub takes.",
            "Report it: events are small.",
            "Publishing.",
        ),
        final(
            "MESSAGE_UNDELIVERABLE",
            "Pub/Sub delivered a message as often as it may, and no handler could say why it failed.",
            "Look for `delivery.failed` in the log at that time; if the cause is gone, replay.",
            "Recover, from the dead-letter topic.",
        ),
        final(
            "NOT_REPLAYABLE",
            "Nobody knows where the message came from.",
            "Publish it again by hand if it is wanted; discard the letter.",
            "Replays.",
        ),
        final(
            "REPLAYED_TOO_OFTEN",
            "It was replayed three times and failed each time.",
            "Remove the cause, then replay with force.",
            "Replays.",
        ),
        final("REPLAY_OUTSTANDING", "It is being replayed.", "Wait for the outcome.", "Replays."),
    ),
    Place.ANSWER: (
        passing(
            "BUSY",
            "All slots of this instance are taken; Pub/Sub sends the message again.",
            "If it is frequent: let Cloud Run give an instance no more requests at once than it has slots.",
            "Services that are pushed to; the answer is 429.",
        ),
        final(
            "FORBIDDEN",
            "The caller may not do this.",
            "Give them the role, if they should.",
            "The api; recover and services that are pushed to, where the token is another account's.",
        ),
        final(
            "INVALID_REQUEST",
            "The request, or a call of ours to a service, is malformed.",
            "The message says which part; on a job: report it.",
            "The api; Storage, Pub/Sub and models that refuse a request of ours.",
        ),
        final("NOT_CANCELLABLE_STATE", "The job has ended.", "Nothing.", "The api."),
        final(
            "NOT_FOUND",
            "It does not exist, or belongs to another organization.",
            "On a job: a bucket, topic or subscription is missing; make it, then retry.",
            "The api; Storage and Pub/Sub.",
        ),
        final("NOT_RETRYABLE_STATE", "Only failed and cancelled jobs can be retried.", "Nothing.", "The api."),
        final(
            "OVERLAP_TOO_SMALL",
            "Two embedding spaces agree less than the switch asked for.",
            "Look at answers of both; then ask for less, or drop the new one.",
            "The api, at a switch.",
        ),
        passing(
            "SEARCH_TIMED_OUT",
            "The search took too long.",
            "Look at the load of Postgres and at the plan of the search.",
            "The api.",
        ),
        final(
            "SPACE_INCOMPLETE",
            "Passages lack a vector in the space, so that they would not be found after a switch to it.",
            "Wait for the jobs that fill it, or start them again: `./headrace reembed --to SPACE`.",
            "The api, at a switch.",
        ),
        final(
            "SPACE_IN_USE",
            "The embedding space is the one that is searched.",
            "Switch to another one first.",
            "The api, when a space is dropped.",
        ),
        passing(
            "TOO_MANY_STREAMS",
            "As many event streams as allowed are open.",
            "Close some, or run more of the api.",
            "The api.",
        ),
        final(
            "UNKNOWN_SPACE",
            "There is no such embedding space, or nothing here makes its vectors.",
            "`./headrace spaces list` says which there are; a new model may need its key in the settings.",
            "The api; jobs that fill a space which is gone.",
        ),
    ),
    Place.COMMAND: (
        final(
            "CONFIGURATION",
            "Settings are wrong or missing; the process does not start.",
            "Correct all that the message names; see [configuration](configuration.md).",
            "Every service and command.",
        ),
        passing(
            "NOT_NOTICED",
            "The stack has no job for files that were uploaded.",
            "`./headrace doctor`; a recover run finds them by the bucket's listing.",
            "`headrace upload`.",
        ),
        passing("NOT_RUNNING", "No stack answers in this data directory.", "`./headrace up`.", "The command line."),
        passing(
            "STRANGE_ANSWER",
            "What answers at that address is no api of this version.",
            "Look which process listens there.",
            "The command line.",
        ),
    ),
}

CATALOGUE = tuple(entry for entries in BY_PLACE.values() for entry in entries)


def find(code: str) -> Code | None:
    """Return the entry of a code; None for what is none of ours."""
    return next((entry for entry in CATALOGUE if entry.code == code), None)
