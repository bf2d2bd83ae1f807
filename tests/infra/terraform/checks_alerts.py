"""Who is told what, and when: every alert policy of any plan, condition by condition, against one table."""

from __future__ import annotations

import math
from typing import Any

from shared.pubsub import topics
from tests.infra.terraform.checks import PROJECT, check
from tests.infra.terraform.plan import Plan, same, stated

Condition = dict[str, Any]

REVISION = 'resource.type="cloud_run_revision"'  # services, recover among them; not the jobs, which people watch
SUM = {"per_series_aligner": "ALIGN_DELTA", "cross_series_reducer": "REDUCE_SUM"}

HOUR_SECONDS = 3600
RUNS = "logging_googleapis_com:user_headrace_recover_runs"
SPENT = "logging_googleapis_com:user_headrace_model_tokens_sum"


def _counted(metric: str) -> str:
    return f'metric.type="logging.googleapis.com/user/headrace-{metric}"'


def _any(label: str, names: list[str]) -> str:
    return " OR ".join(f'resource.labels.{label}="{name}"' for name in names)


def _of_period(seconds: int, how: dict[str, str] = SUM, *group_by: str) -> dict[str, Any]:
    grouped = {"group_by_fields": [f"resource.label.{one}" for one in group_by]} if group_by else {}
    return {"alignment_period": f"{seconds}s", **how, **grouped}


def _more_than(
    threshold: float, what: str, aggregated: dict[str, Any], *, for_seconds: int = 0, of: str | None = None
) -> Condition:
    ratio = {"denominator_filter": of, "denominator_aggregations": aggregated} if of else {}
    return {
        "condition_threshold": {
            "filter": what,
            "comparison": "COMPARISON_GT",
            "threshold_value": threshold,
            "duration": f"{for_seconds}s",
            "aggregations": aggregated,
            **ratio,
        }
    }


def expected_conditions(plan: Plan) -> dict[str, list[Condition]]:
    """Return the conditions of each policy, any of which is enough; words beside them say why numbers are so."""
    given = plan.given
    pool = given["process_mode"] == "worker_pool"
    process = 'resource.type="cloud_run_worker_pool"' if pool else REVISION
    everywhere = [REVISION, process] if pool else [REVISION]

    held = [one for one in topics.SUBSCRIPTIONS if one.consumer != "people"]  # nobody acknowledges what they look at
    taken = _any("subscription_id", sorted(topics.PREFIX + one.name for one in held))
    lettered = _any("subscription_id", sorted(topics.PREFIX + one.name for one in held if one.topic != topics.WORK))
    waiting = 'resource.type="pubsub_subscription" AND metric.type="pubsub.googleapis.com/subscription/'

    services = ["headrace-api", "headrace-ingest", "headrace-recover"] + ([] if pool else ["headrace-process"])
    requests = f'{REVISION} AND metric.type="run.googleapis.com/request_count" AND ({_any("service_name", services)})'

    spent = " + ".join(
        f"(sum(increase({SPENT}{{monitored_resource={kind.removeprefix('resource.type=')}}}[1d])) or vector(0))"
        for kind in everywhere
    )
    runs = " + ".join(
        f'(sum(increase({RUNS}{{monitored_resource="{kind}"}}[10m])) or vector(0))'
        for kind in ("cloud_run_revision", "cloud_run_job")
    )
    largest = {"per_series_aligner": "ALIGN_MAX", "cross_series_reducer": "REDUCE_MAX"}
    ours = (
        '(resource.type="cloud_run_revision" AND resource.labels.service_name=~"^headrace-")'
        ' OR (resource.type="cloud_run_worker_pool" AND resource.labels.worker_pool_name=~"^headrace-")'
        ' OR (resource.type="cloud_run_job" AND resource.labels.job_name=~"^headrace-")'
    )
    return {
        "dead_letters": [  # one is enough; our own, and those that Pub/Sub made of messages that nobody could take
            _more_than(0, f"{REVISION} AND {_counted('dead_letters_seen')}", _of_period(900)),
            _more_than(
                0, f'{waiting}dead_letter_message_count" AND ({lettered})', _of_period(900, SUM, "subscription_id")
            ),
        ],
        "unacked": [  # five minutes, since an instance that starts takes one or two
            _more_than(
                given["oldest_unacked_seconds"],
                f'{waiting}oldest_unacked_message_age" AND ({taken})',
                _of_period(60, largest, "subscription_id"),
                for_seconds=300,
            ),
        ],
        "stuck_jobs": [  # three runs of recover, of four in that time: it repairs what it can in one
            _more_than(2, f"{REVISION} AND {_counted('stuck_jobs_seen')}", _of_period(1200)),
        ],
        "failing_jobs": [  # of half an hour, or a single failure at night would be all of them
            _more_than(
                given["error_ratio"],
                f"{process} AND {_counted('attempts_failed')}",
                _of_period(1800),
                for_seconds=300,
                of=f"{process} AND {_counted('attempts')}",
            ),
        ],
        "failing_requests": [  # by service: much traffic of one must not hide another
            _more_than(
                given["error_ratio"],
                f'{requests} AND metric.labels.response_code_class="5xx"',
                _of_period(600, SUM, "service_name"),
                for_seconds=300,
                of=requests,
            ),
        ],
        "pool_exhausted": [  # a single wait in vain, wherever; or nine tenths of the instance, before there is one
            *(_more_than(0, f"{kind} AND {_counted('pool_exhausted')}", _of_period(300)) for kind in everywhere),
            _more_than(
                math.floor(given["database_max_connections"] * 0.9),
                'resource.type="cloudsql_database"'
                ' AND metric.type="cloudsql.googleapis.com/database/postgresql/num_backends"'
                f' AND resource.labels.database_id="{PROJECT}:headrace-postgres"',
                _of_period(60, {"per_series_aligner": "ALIGN_MAX", "cross_series_reducer": "REDUCE_SUM"}),
                for_seconds=300,
            ),
        ],
        "budget": [
            {
                "condition_prometheus_query_language": {
                    "query": f"{spent} > {given['model_tokens_per_day']}",
                    "duration": "0s",
                    "evaluation_interval": "300s",
                    "disable_metric_validation": True,  # before the first call to a model there is no such series
                }
            }
        ],
        "budget_refusals": [  # people wait: one is enough
            _more_than(0, f"{process} AND {_counted('budget_refusals')}", _of_period(300)),
        ],
        "recover_absent": [  # a quarter of an hour is three runs; of the service, or by hand of the job
            {
                "condition_prometheus_query_language": {
                    "query": f"{runs} < 1",
                    "duration": "300s",
                    "evaluation_interval": "60s",
                    "disable_metric_validation": True,
                }
            },
        ],
        "credentials": [  # at the first line: nothing that needs it works any more
            {
                "condition_matched_log": {
                    "filter": f"({ours}) AND jsonPayload.error_code="
                    '("AUTHENTICATION_FAILED" OR "DATABASE_LOGIN_REFUSED")',
                    "label_extractors": {
                        "error_code": "EXTRACT(jsonPayload.error_code)",
                        "event": "EXTRACT(jsonPayload.message)",
                    },
                }
            }
        ],
    }


SEVERITIES = {
    "recover_absent": "CRITICAL",
    "credentials": "CRITICAL",
    "budget": "WARNING",
    "budget_refusals": "WARNING",
}


def _policies(plan: Plan) -> dict[str, dict[str, Any]]:
    module = 'module.monitoring.google_monitoring_alert_policy.this["'
    made = plan.of("google_monitoring_alert_policy")
    return {address.removeprefix(module).removesuffix('"]'): stated(one.values) for address, one in made.items()}


@check
def alerts_say_when(plan: Plan) -> None:
    """Each policy has the conditions of the table, and any one of them raises it."""
    expected, policies = expected_conditions(plan), _policies(plan)
    assert policies.keys() == expected.keys()
    for name, policy in policies.items():
        conditions = policy["conditions"] if isinstance(policy["conditions"], list) else [policy["conditions"]]
        found = [{key: value for key, value in one.items() if key != "display_name"} for one in conditions]
        assert len(found) == len(expected[name]), name
        same(found, expected[name], name)
        assert policy["combiner"] == "OR", name
        assert policy["severity"] == SEVERITIES.get(name, "ERROR"), name
        # A day without new signs ends it; a line in the log is said again once an hour only.
        often = {"notification_rate_limit": {"period": f"{HOUR_SECONDS}s"}} if name == "credentials" else {}
        assert policy["alert_strategy"] == {"auto_close": f"{24 * HOUR_SECONDS}s", **often}, name


@check
def operators_are_told(plan: Plan) -> None:
    """Every alert notifies the channels that were named, and leads to its runbook at the address that was given."""
    for name, policy in _policies(plan).items():
        assert policy.get("notification_channels", []) == plan.given["notification_channels"], name
        link = policy["documentation"]["links"]["url"]
        assert link.startswith(f"{plan.given['runbook_base_url']}#"), name
        assert policy["documentation"]["content"].endswith(f"What to do: {link}"), name
        assert "enabled" not in policy or policy["enabled"] is True, name


@check
def the_bill_has_a_budget(plan: Plan) -> None:
    """With a billing account there is a budget, of this project, which tells at half, at nine tenths and in full."""
    account = plan.given["billing_account"]
    budgets = list(plan.of("google_billing_budget").values())
    if account is None:
        assert budgets == []
        return
    assert len(budgets) == 1, "the account is named, and no budget is made"
    said = stated(budgets[0].values)
    rules = said.pop("threshold_rules")
    assert [(one["threshold_percent"], one.get("spend_basis", "CURRENT_SPEND")) for one in rules] == [
        (0.5, "CURRENT_SPEND"),
        (0.9, "CURRENT_SPEND"),
        (1, "CURRENT_SPEND"),
        (1, "FORECASTED_SPEND"),  # before it is spent
    ]
    expected = {
        "billing_account": account,
        "display_name": "headrace-budget",
        "budget_filter": {"projects": [f"projects/{PROJECT}"], "credit_types_treatment": "INCLUDE_ALL_CREDITS"},
        "amount": {"specified_amount": {"units": str(plan.given["monthly_budget"])}},
        "all_updates_rule": {
            "monitoring_notification_channels": plan.given["notification_channels"],
            "disable_default_iam_recipients": False,
        },
    }
    same(said, expected)
