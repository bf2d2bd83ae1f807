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
