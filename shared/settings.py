"""The environment, read once: the only module that looks at it.

Each service's own settings extend `CommonSettings`. All problems are reported together, in one message that names the
variables. Secrets are `SecretStr`: they do not appear in logs, errors or `repr`. A variable that is set to nothing
counts as not set, since that is what templates make of what they were not given.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from secrets import token_hex
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    create_model,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.database_url import checked
from shared.errors import ConfigurationError
from shared.model.media import MAX_FILE_BYTES
from shared.model.quota import Quota

S = TypeVar("S", bound="DatabaseSettings")
T = TypeVar("T")
Rule = TypeVar("Rule", bound=Callable[..., Iterator[str]])

_RULE = "is_rule"

_OURS = "Value error, "
"""What pydantic puts before sentences of ours."""

_NEARLY = 0.9
"""How alike a name must be to one of ours to count as misspelt: one wrong letter in ten."""


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError("Input should be valid JSON") from None


Json = Annotated[T, NoDecode, BeforeValidator(_parsed)]
"""Written as JSON. What does not parse is one problem among the others; left to itself, the library would end there."""


def _readable(value: SecretStr) -> SecretStr:
    checked(value.get_secret_value())
    return value


def _own_name() -> str:
    # Host and process alone would not do: every container of Cloud Run is process 1 of localhost.
    return f"{socket.gethostname()}:{os.getpid()}:{token_hex(4)}"


def rule(method: Rule) -> Rule:
    """Mark a method of settings that yields what is wrong between them.

    One method for each rule: where a setting is missing or wrong itself, those that ask for it are left out.
    """
    setattr(method, _RULE, True)
    return method


class DatabaseSettings(BaseSettings):
    """What every process needs. Names are those that people know from the environment, in upper case."""

    model_config = SettingsConfigDict(
        env_file=None, extra="ignore", frozen=True, populate_by_name=True, env_ignore_empty=True
    )

    database_url: Annotated[SecretStr, AfterValidator(_readable)] = Field(
        description="Postgres, as postgresql://user:password@host:port/name; what has a meaning in addresses is "
        "percent-encoded in user and password: an @ as %40, a / as %2F"
    )
    database_iam_auth: bool = Field(
        False, description="Log in to Cloud SQL with access tokens of this process's service account as passwords"
    )

    def contradictions(self) -> Iterator[str]:
        """Yield what is wrong between settings that are each right, as far as those are known: see `rule`."""
        unknown = type(self).model_fields.keys() - self.__dict__.keys()
        for kind in reversed(type(self).__mro__):
            for one in vars(kind).values():
                if getattr(one, _RULE, False):
                    try:
                        yield from one(self)
                    except AttributeError:
                        if not unknown:
                            raise


class MigrateSettings(DatabaseSettings):
    """What `python -m shared.postgres.migrate` needs besides."""

    database_owner_role: str | None = Field(
        None, min_length=1, description="The role that is to own the schema, if the user is only a member of it"
    )
    database_role_members: Json[dict[str, list[str]]] = Field(
        {}, description="Who logs in as which service, as JSON: role to database users"
    )


class CommonSettings(DatabaseSettings):
    """What every service needs besides."""

    google_cloud_project_id: str = Field(min_length=1, description="The project of topics and bucket")
    google_cloud_region: str = Field("us-central1", description="Where Vertex AI is called")
    bucket: str = Field(min_length=3, description="The bucket whose objects are indexed")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="What is logged")
    log_format: Literal["json", "console"] = Field("json", description="Lines for machines or for people")

    database_pool_size: int = Field(10, ge=1, le=200, description="Connections of one process at most")
    database_pool_timeout_seconds: float = Field(10.0, gt=0, description="How long to wait for a connection")
    pubsub_emulator_host: str | None = Field(None, description="host:port of a stand-in for Pub/Sub; not in the cloud")
    storage_emulator_host: str | None = Field(None, description="URL of a stand-in for Cloud Storage; not in the cloud")
    otlp_endpoint: str | None = Field(
        None,
        validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_ENDPOINT", "otlp_endpoint"),
        description="Where traces and metrics are sent, over HTTP; nowhere when empty",
    )
    telemetry_exporter: Literal["none", "otlp", "google"] | None = Field(
        None,
        description="Who gets traces and metrics: nobody, a collector, or Google Cloud with this service's own account;"
        " when empty, the collector if one is named",
    )
    trace_sample_ratio: float = Field(
        1.0, ge=0, le=1, description="Which part of the traces is sent; those with a failure are sent always"
    )
    http_host: str = Field("127.0.0.1", description="Where this service listens")
    port: int = Field(0, ge=0, le=65535, description="Port of this service; 0 takes a free one")
    drain_seconds: float = Field(
        7.0, gt=0, le=8, description="How long work in hand may go on after SIGTERM; Cloud Run kills after 10 s"
    )
    k_service: str | None = Field(None, description="Set by Cloud Run; means that this is the cloud")
    k_revision: str | None = Field(
        None,
        validation_alias=AliasChoices("K_REVISION", "CLOUD_RUN_WORKER_POOL_REVISION", "k_revision"),
        description="Set by Cloud Run; traces and metrics name it",
    )
    cloud_region: str | None = Field(
        None, min_length=1, description="Where this service itself runs; traces and metrics say so"
    )
    cloud_run_worker_pool: str | None = Field(None, description="Set by Cloud Run in worker pools, as K_SERVICE is")
    cloud_run_job: str | None = Field(None, description="Set by Cloud Run in jobs, as K_SERVICE is")
    worker_name: str = Field(default_factory=_own_name, description="Lease owner")

    max_retry_attempts: int = Field(3, ge=0, le=10, description="How often a failed job is tried again")
    retry_delays_seconds: Json[tuple[int, ...]] = Field(
        (0, 60, 300, 900, 3600), description="Waits before attempts 1, 2, 3, 4, 5, as a JSON list"
    )
    max_rescues: int = Field(
        5, ge=1, le=100, description="How often a job is rescued from dead workers without getting any further"
    )
    lease_seconds: int = Field(60, ge=5, le=600, description="How long a claim lasts without a heartbeat")
    heartbeat_seconds: int = Field(20, ge=1, le=200, description="How often a claim is renewed")

    @rule
    def _no_stand_in_in_the_cloud(self) -> Iterator[str]:
        if self.platform_name and (self.pubsub_emulator_host or self.storage_emulator_host):
            yield "PUBSUB_EMULATOR_HOST and STORAGE_EMULATOR_HOST must not be set on Cloud Run"

    @rule
    def _a_lease_outlives_a_heartbeat(self) -> Iterator[str]:
        if self.heartbeat_seconds * 2 > self.lease_seconds:
            yield "LEASE_SECONDS must be at least twice HEARTBEAT_SECONDS"

    @rule
    def _each_attempt_has_its_delay(self) -> Iterator[str]:
        if len(self.retry_delays_seconds) <= self.max_retry_attempts:
            yield "RETRY_DELAYS_SECONDS needs one entry per attempt: MAX_RETRY_ATTEMPTS + 1 at least"

    @rule
    def _an_exporter_has_its_collector(self) -> Iterator[str]:
        if self.telemetry_exporter == "otlp" and not self.otlp_endpoint:
            yield "TELEMETRY_EXPORTER=otlp needs OTEL_EXPORTER_OTLP_ENDPOINT"

    @property
    def platform_name(self) -> str | None:
        """What Cloud Run calls this service, worker pool or job; None elsewhere."""
        return self.k_service or self.cloud_run_worker_pool or self.cloud_run_job

    @property
    def exporter(self) -> Literal["none", "otlp", "google"]:
        """Who gets traces and metrics."""
        return self.telemetry_exporter or ("otlp" if self.otlp_endpoint else "none")


class ModelSettings(CommonSettings):
    """What services that call models need besides."""

    embedder: Literal["local", "gemini"] = Field(
        "local",
        description="Model of the first space of a new database; later the searched space says which model makes "
        "vectors, and `headrace reembed --to` changes it",
    )
    gemini_api_key: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("GEMINI_API_KEY", "GOOGLE_API_KEY", "gemini_api_key"),
        description="Key of the Gemini API; without one, Vertex AI with the service account is used",
    )
    gemini_embedding_model: str = Field("gemini-embedding-001", description="The embedding model's name")
    gemini_embedding_dimensions: int = Field(768, ge=64, le=3072, description="Length of its vectors")
    gemini_embedding_batch_size: int = Field(100, ge=1, le=100, description="Texts of one request at most")
    read_images: Literal["ocr", "gemini"] = Field(
        "ocr",
        description="`gemini`: images, and scanned pages of PDF files, go to a model that transcribes and describes"
        " them; `ocr`: they are read here. The same for all services",
    )
    gemini_vision_model: str = Field("gemini-2.5-flash", description="The model that reads images")
    max_object_bytes: int = Field(
        MAX_FILE_BYTES, ge=1, description="Larger files are refused before download; the same for all services"
    )
    model_quotas: Json[dict[str, Quota]] = Field(
        {},
        description="What all processes together may use of a model, as JSON: model to `requests_per_minute` (each text"
        " of a batch is one), `tokens_per_minute` and `concurrency` (calls under way); the same for all services",
    )
    model_price_per_million_tokens: float = Field(
        0.0, ge=0, description="What a million tokens of a model cost that is not in MODEL_PRICES, in any currency"
    )
    model_prices: Json[dict[str, Annotated[float, Field(ge=0)]]] = Field(
        {},
        description="What a million tokens cost, as JSON: model to price, all in one currency; what a model that reads"
        " images writes is `model:output`",
    )
    budget_per_day: float | None = Field(
        None,
        ge=0,
        description="What an organization without a budget of its own (`headrace budgets set`) may spend on indexing"
        " within a day of UTC, in the currency of the prices; no bound when empty",
    )
    gemini_base_url: str | None = Field(None, description="URL of a stand-in for the Gemini API; for tests")

    @property
    def vision_model(self) -> str | None:
        """The model that reads images, if one does."""
        return self.gemini_vision_model if self.read_images == "gemini" else None

    @rule
    def _a_budget_knows_what_things_cost(self) -> Iterator[str]:
        model = self.gemini_embedding_model
        if self.embedder == "gemini" and not self.model_price_per_million_tokens and model not in self.model_prices:
            # Without a price everything would be free, and no budget would ever be used up.
            if self.budget_per_day is not None:
                yield f"BUDGET_PER_DAY needs the price of {model} in MODEL_PRICES"
            elif self.model_prices:
                yield f"MODEL_PRICES has no price for {model}, which EMBEDDER=gemini needs"

    @rule
    def _what_reads_images_has_its_price(self) -> Iterator[str]:
        if (model := self.vision_model) and self.model_prices and not self.model_price_per_million_tokens:
            # Costs that nobody has named would go past every budget.
            for name in (model, f"{model}:output"):
                if name not in self.model_prices:
                    yield f"MODEL_PRICES has no price for {name}, which READ_IMAGES=gemini needs"


class OwnerSettings(CommonSettings):
    """What services that decide about objects need besides."""

    default_organization_id: str | None = Field(None, description="Whose files are that do not say so themselves")
    owner_path_template: str | None = Field(None, description="Such as {organization_id}/{user_id}/")


class DeliverySettings(CommonSettings):
    """What services that take messages need besides: how those come, and by whose tokens requests are believed."""

    delivery: Literal["pull", "push"] = Field(
        "pull", description="`push`: Pub/Sub sends requests to /push/{subscription}; `pull`: this service asks for them"
    )
    push_audience: str | None = Field(None, min_length=1, description="For whom the tokens of requests are made")
    push_service_account: str | None = Field(
        None, min_length=3, description="Whose tokens pushes carry: a service account's email"
    )
    push_certs_url: str = Field(
        "https://www.googleapis.com/oauth2/v1/certs",
        pattern=r"^(https://|http://(127\.0\.0\.1|localhost)[:/])",
        description="Where the keys that tokens are signed with are published",
    )
    push_verified_by: Literal["token", "platform"] = Field(
        "token",
        description="`platform`: Cloud Run admits verified callers only (no public access), and removes the signature "
        "of their tokens; the claims are checked here in both cases",
    )

    @rule
    def _pushes_are_verified(self) -> Iterator[str]:
        if self.delivery == "push" and not (self.push_audience and self.push_service_account):
            yield "DELIVERY=push needs PUSH_AUDIENCE and PUSH_SERVICE_ACCOUNT"

    @rule
    def _the_platform_is_there(self) -> Iterator[str]:
        if self.push_verified_by == "platform" and not self.k_service:
            yield "PUSH_VERIFIED_BY=platform is for Cloud Run, where K_SERVICE is set"


def load(kind: type[S], overrides: dict[str, str] | None = None) -> S:
    """Read one service's settings from the environment; `overrides` win over it (names as in the environment).

    Raises:
        ConfigurationError: with every problem, one a line; values are not shown.
    """
    values = {name.lower(): value for name, value in (overrides or {}).items()}
    problems: list[str] = []
    try:
        settings = kind(**values)  # type: ignore[arg-type]  # strings, as in an environment; pydantic parses them
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        problems = [f"{_named(problem['loc'])}: {problem['msg'].removeprefix(_OURS)}" for problem in found]
        settings = _what_is_right(kind, values, {str(problem["loc"][0]).lower() for problem in found})
    problems += [f"together: {contradiction}" for contradiction in settings.contradictions()]
    if problems:
        problems += [f"{name}: not a variable of this process; {meant} is" for name, meant in misspelt(kind).items()]
        raise ConfigurationError("these settings are wrong or missing:\n  " + "\n  ".join(problems))
    return settings


def _what_is_right(kind: type[S], values: Mapping[str, Any], wrong: set[str]) -> S:
    """Return the settings without the wrong ones; who asks for one of those gets an AttributeError."""
    names = {name for name, field in kind.model_fields.items() if wrong & {name, *map(str.lower, _aliases(field))}}
    unbound: dict[str, Any] = dict.fromkeys(names, (Any, None))
    settings = create_model(kind.__name__, __base__=kind, **unbound)(**values)
    for name in names:
        settings.__dict__.pop(name)
    return settings


def _aliases(field: FieldInfo) -> list[str]:
    known = field.validation_alias
    return [str(choice) for choice in known.choices] if isinstance(known, AliasChoices) else []


def _named(place: Sequence[int | str]) -> str:
    return ".".join(str(part) for part in place).upper()


def variables(kind: type[DatabaseSettings]) -> dict[str, tuple[str, ...]]:
    """Return the names in the environment by field; the first that is set counts."""
    return {
        name: tuple(alias for alias in _aliases(field) if alias.isupper()) or (name.upper(),)
        for name, field in kind.model_fields.items()
    }


def misspelt(kind: type[DatabaseSettings]) -> dict[str, str]:
    """Return variables of the environment that nobody reads, each with the unset one of ours that it nearly is."""
    unset = {names[0] for names in variables(kind).values() if not any(map(os.environ.get, names))}
    known = {name for names in variables(kind).values() for name in names}
    close = {name: get_close_matches(name, unset, n=1, cutoff=_NEARLY) for name in sorted(os.environ.keys() - known)}
    return {name: meant[0] for name, meant in close.items() if meant}


def environment() -> dict[str, str]:
    """Return a copy of this process's environment, to start children with."""
    return dict(os.environ)
