"""A plan, as questions are asked of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

UNKNOWN = "(known when it is applied)"


@dataclass(frozen=True)
class Resource:
    """One resource to be made. Values that are only known later read as `UNKNOWN`."""

    address: str
    type: str
    values: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.values.get(name)

    def block(self, *path: str) -> dict[str, Any]:
        """Return a nested block that must be there exactly once."""
        values = self.values
        for name in path:
            blocks = values.get(name) or []
            assert len(blocks) == 1, f"{self.address}: {len(blocks)} blocks {name}"
            values = blocks[0]
        return values


@dataclass(frozen=True)
class Workload:
    """What runs an image of ours: a service, a worker pool or a job."""

    name: str
    kind: str
    resource: Resource
    template: dict[str, Any]
    container: dict[str, Any]

    @property
    def service(self) -> str:
        """The service whose code runs: the image's name."""
        return str(self.container["image"].rsplit("/", 1)[-1].split(":")[0])

    @cached_property
    def env(self) -> dict[str, str]:
        """Its environment; secrets and what is known later read as `UNKNOWN`."""
        return {entry["name"]: entry.get("value") or UNKNOWN for entry in self.container["env"]}

    @property
    def secrets(self) -> dict[str, dict[str, str]]:
        """Names of variables that come out of Secret Manager, and of which version of which secret."""
        return {
            entry["name"]: entry["value_source"][0]["secret_key_ref"][0]
            for entry in self.container["env"]
            if entry.get("value_source")
        }


_RUNS = {
    "google_cloud_run_v2_service": "service",
    "google_cloud_run_v2_worker_pool": "worker pool",
    "google_cloud_run_v2_job": "job",
}


class Plan:
    """The resources of one plan."""

    def __init__(self, shown: dict[str, Any], variant: str) -> None:
        """Take what `terraform show -json` printed, and which variant was planned."""
        self.variant = variant
        self.text = json.dumps(shown)
        self.given: dict[str, Any] = {name: one.get("value") for name, one in shown["variables"].items()}
        """Every variable of the root, as it was given (an object without what it leaves out) or by its default."""
        self.configuration: dict[str, Any] = shown["configuration"]
        """What is written, before anything is worked out: who refers to what, and who waits for whom."""
        self.resources = [
            Resource(
                change["address"],
                change["type"],
                _merged(change["change"]["after"] or {}, change["change"].get("after_unknown", {})),
            )
            for change in shown["resource_changes"]
            if change["mode"] == "managed"
        ]

    def of(self, kind: str) -> dict[str, Resource]:
        """Return resources of one type, by their address."""
        return {one.address: one for one in self.resources if one.type == kind}

    def named(self, kind: str) -> dict[str, Resource]:
        """Return resources of one type, by their names."""
        found = {one["name"]: one for one in self.of(kind).values()}
        assert len(found) == len(self.of(kind)), f"two {kind} of one name"
        return found

    def at(self, address: str) -> Resource:
        """Return the resource of an address; `AssertionError` if there is none."""
        found = [one for one in self.resources if one.address == address]
        assert found, f"{address} is not made"
        return found[0]

    def one(self, kind: str) -> Resource:
        """Return the only resource of a type."""
        (only,) = self.of(kind).values()
        return only

    @cached_property
    def workloads(self) -> dict[str, Workload]:
        """Return what runs, by `name` (jobs too: no two share one)."""
        return {one.name: one for one in self._workloads()}

    def _workloads(self) -> Iterator[Workload]:
        for kind, what in _RUNS.items():
            for name, resource in self.named(kind).items():
                template = resource.block("template", "template") if what == "job" else resource.block("template")
                (container,) = template["containers"]
                yield Workload(name, what, resource, template, container)

    def grants(self) -> set[tuple[str, str, str, str]]:
        """Return who may do what: (member, type of the thing, its name, role)."""
        return {
            (one["member"], one.type.removeprefix("google_").removesuffix("_iam_member"), _thing(one), one["role"])
            for one in self.resources
            if one.type.endswith("_iam_member")
        }


def stated(value: Any) -> Any:
    """Return what a block says: without what is empty or only known later; a block that stands once is no list."""
    if isinstance(value, dict):
        said = {name: stated(one) for name, one in value.items()}
        return {name: one for name, one in said.items() if one not in (None, "", [], {}, UNKNOWN)}
    if isinstance(value, list):
        if len(value) == 1 and isinstance(value[0], dict):
            return stated(value[0])
        return [stated(one) for one in value]
    return value


def same(found: Any, expected: Any, what: str = "the plan") -> None:
    """Fail where two blocks differ, with a line for each place: a whole block would be a page."""
    lines = list(_differences(found, expected, ""))
    assert not lines, f"{what}: " + "; ".join(lines)


def _differences(found: Any, expected: Any, path: str) -> Iterator[str]:
    if isinstance(found, dict) and isinstance(expected, dict):
        for name in sorted(found.keys() | expected.keys()):
            yield from _differences(found.get(name), expected.get(name), f"{path}.{name}" if path else name)
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        for n, (one, other) in enumerate(zip(found, expected, strict=True)):
            yield from _differences(one, other, f"{path}[{n}]")
    elif found != expected:
        yield f"{path or 'it'} is {found!r}, not {expected!r}"


def _thing(grant: Resource) -> str:
    fields = (
        "topic", "subscription", "bucket", "secret_id", "name", "cloud_run_service_name", "repository", "crypto_key_id",
        "service_account_id", "project",
    )  # fmt: skip
    return str(next(grant[field] for field in fields if grant[field] is not None))


def _merged(after: Any, unknown: Any) -> Any:
    """Return `after` with `UNKNOWN` where the plan says that a value comes later."""
    if unknown is True:
        return UNKNOWN
    if isinstance(after, dict):
        missing = unknown if isinstance(unknown, dict) else {}
        return {name: _merged(after.get(name), missing.get(name)) for name in after.keys() | missing.keys()}
    if isinstance(after, list):
        others = unknown if isinstance(unknown, list) and len(unknown) == len(after) else [None] * len(after)
        return [_merged(value, other) for value, other in zip(after, others, strict=True)]
    return after
