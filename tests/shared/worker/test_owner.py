"""To whom an object belongs."""

import pytest

from shared.errors import ConfigurationError
from shared.model.decision import Owner
from shared.worker.owner import owner_of
from tests.fakes import SimulatedBucket

TEMPLATE = "{organization_id}/{user_id}/"


def test_metadata_goes_before_the_path_and_the_path_before_the_default() -> None:
    """The three sources are asked in this order."""
    bucket = SimulatedBucket()
    rule = owner_of(template=TEMPLATE, default="fallback")
    said = bucket.put("acme/u1/a.txt", b"", organization_id="said", user_id="u2")
    assert rule(said) == Owner(organization_id="said", user_id="u2")
    assert rule(bucket.put("acme/u1/a.txt", b"")) == Owner(organization_id="acme", user_id="u1")
    assert rule(bucket.put("a.txt", b"")) == Owner(organization_id="fallback")
    assert owner_of(template=TEMPLATE, default=None)(bucket.put("a.txt", b"")) is None


@pytest.mark.parametrize("name", ["?", "", "a b", "x" * 200, "../x", "a/b"])
def test_an_impossible_owner_in_the_metadata_is_nobody(name: str) -> None:
    """A name that cannot be one is not replaced by the default: that would show the file to somebody else."""
    live = SimulatedBucket().put("a.txt", b"", organization_id=name)
    assert owner_of(template=None, default="fallback")(live) is None


def test_the_keys_are_the_same_in_any_case() -> None:
    """A tool that writes keys with capitals says no less whose the file is: taken for silence, all would see it."""
    bucket, rule = SimulatedBucket(), owner_of(template=TEMPLATE, default="fallback")
    live = bucket.put("acme/u1/a.txt", b"", **{"Organization-Id": "said", "USER-ID": "u2"})
    assert rule(live) == Owner(organization_id="said", user_id="u2")
    assert rule(bucket.put("a.txt", b"", **{"ORGANIZATION-ID": "a b"})) is None
    twice = bucket.put("a.txt", b"", **{"Organization-Id": "said", "organization-id": "said"})
    assert rule(twice) == Owner(organization_id="said")


@pytest.mark.parametrize("key", ["organization-id", "user-id"])
def test_two_spellings_that_differ_are_nobody(key: str) -> None:
    """Which of the two is meant is not for us to guess."""
    metadata = {"organization-id": "said"} | {key: "said", key.title(): "other"}
    assert owner_of(template=None, default="fallback")(SimulatedBucket().put("a.txt", b"", **metadata)) is None


def test_a_template_without_an_organization_is_refused() -> None:
    """The setting is checked when the service starts."""
    with pytest.raises(ConfigurationError):
        owner_of(template="{user_id}/", default=None)


def test_a_template_is_literal_text_but_for_its_fields() -> None:
    """Characters with a meaning in patterns stand for themselves."""
    rule = owner_of(template="in.box/{organization_id}+/", default=None)
    bucket = SimulatedBucket()
    assert rule(bucket.put("in.box/acme+/a.txt", b"")) == Owner(organization_id="acme")
    assert rule(bucket.put("inxbox/acme+/a.txt", b"")) is None
