# What somebody is told. `anchor` is a heading of docs/operations.md; tests/infra/test_monitoring.py follows each.

locals {
  # Services write logs under the first of these, process under the second; where process is pushed to they are one.
  run_types = distinct(["cloud_run_revision", var.process_resource_type])

  counted        = { for key, metric in google_logging_metric.counter : key => "metric.type=\"logging.googleapis.com/user/${metric.name}\"" }
  counted_series = { for key, metric in google_logging_metric.counter : key => "logging_googleapis_com:user_${replace(metric.name, "-", "_")}" }
  figured        = { for key, metric in google_logging_metric.figure : key => "logging_googleapis_com:user_${replace(metric.name, "-", "_")}" }

  services      = join(" OR ", [for name in var.service_names : "resource.labels.service_name=\"${name}\""])
  requests      = "resource.type=\"cloud_run_revision\" AND metric.type=\"run.googleapis.com/request_count\" AND (${local.services})"
  process_type  = "resource.type=\"${var.process_resource_type}\""
  recover_type  = "resource.type=\"cloud_run_revision\""
  subscriptions = join(" OR ", [for id in var.subscriptions : "resource.labels.subscription_id=\"${id}\""])
  lettered      = join(" OR ", [for id in var.lettered_subscriptions : "resource.labels.subscription_id=\"${id}\""])

  alerts = {
    dead_letters = {
      title    = "there are dead letters"
      severity = "ERROR"
      anchor   = "there-are-dead-letters"
      says     = "Work came to its end without success and waits for a decision."
      conditions = [
        {
          title     = "a run of recover saw open dead letters"
          filter    = "${local.recover_type} AND ${local.counted["dead_letters_seen"]}"
          period    = "900s" # three runs: a shorter one would close between two
          aligner   = "ALIGN_DELTA"
          reducer   = "REDUCE_SUM"
          threshold = 0
        },
        {
          title     = "Pub/Sub gave up on messages"
          filter    = "resource.type=\"pubsub_subscription\" AND metric.type=\"pubsub.googleapis.com/subscription/dead_letter_message_count\" AND (${local.lettered})"
          period    = "900s" # three runs: a shorter one would close between two
          aligner   = "ALIGN_DELTA"
          reducer   = "REDUCE_SUM"
          group_by  = ["resource.label.subscription_id"]
          threshold = 0
        },
      ]
    }

    unacked = {
      title    = "messages are not taken"
      severity = "ERROR"
      anchor   = "messages-are-not-taken"
      says     = "The oldest message of a subscription is older than ${var.oldest_unacked_seconds} s."
      conditions = [{
        title     = "oldest unacknowledged message"
        filter    = "resource.type=\"pubsub_subscription\" AND metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" AND (${local.subscriptions})"
        period    = "60s"
        aligner   = "ALIGN_MAX"
        reducer   = "REDUCE_MAX"
        group_by  = ["resource.label.subscription_id"]
        threshold = var.oldest_unacked_seconds
        duration  = "300s"
      }]
    }

    stuck_jobs = {
      title    = "jobs are stuck"
      severity = "ERROR"
      anchor   = "jobs-are-stuck"
      says     = "Jobs are due and nobody takes them, or their workers went silent, in three runs of recover within 20 minutes."
      conditions = [{
        title     = "three runs of recover left jobs stuck"
        filter    = "${local.recover_type} AND ${local.counted["stuck_jobs_seen"]}"
        period    = "1200s" # four runs, of which one may be late or lost
        aligner   = "ALIGN_DELTA"
        reducer   = "REDUCE_SUM"
        threshold = 2
      }]
    }

    failing_jobs = {
      title    = "too many jobs fail"
      severity = "ERROR"
      anchor   = "too-many-jobs-fail"
      says     = "More than ${var.error_ratio * 100} % of the attempts of half an hour failed."
      conditions = [{
        title       = "failed attempts by all attempts"
        filter      = "${local.process_type} AND ${local.counted["attempts_failed"]}"
        denominator = "${local.process_type} AND ${local.counted["attempts"]}"
        period      = "1800s"
        aligner     = "ALIGN_DELTA"
        reducer     = "REDUCE_SUM"
        threshold   = var.error_ratio
        duration    = "300s"
      }]
    }

    failing_requests = {
      title    = "too many requests fail"
      severity = "ERROR"
      anchor   = "too-many-requests-fail"
      says     = "More than ${var.error_ratio * 100} % of a service's requests of ten minutes were answered 5xx."
      conditions = [{
        title       = "answers 5xx by all answers"
        filter      = "${local.requests} AND metric.labels.response_code_class=\"5xx\""
        denominator = local.requests
        period      = "600s"
        aligner     = "ALIGN_DELTA"
        reducer     = "REDUCE_SUM"
        group_by    = ["resource.label.service_name"]
        threshold   = var.error_ratio
        duration    = "300s"
      }]
    }

    pool_exhausted = {
      title    = "database connections run out"
      severity = "ERROR"
      anchor   = "database-connections-run-out"
      says     = "Callers waited in vain for a connection, or the instance has hardly any left."
      conditions = concat(
        [for type in local.run_types : {
          title     = "no connection became free (${type})"
          filter    = "resource.type=\"${type}\" AND ${local.counted["pool_exhausted"]}"
          period    = "300s"
          aligner   = "ALIGN_DELTA"
          reducer   = "REDUCE_SUM"
          threshold = 0
        }],
        [{
          title     = "connections of the instance"
          filter    = "resource.type=\"cloudsql_database\" AND metric.type=\"cloudsql.googleapis.com/database/postgresql/num_backends\" AND resource.labels.database_id=\"${var.project_id}:${var.database_instance}\""
          period    = "60s"
          aligner   = "ALIGN_MAX"
          reducer   = "REDUCE_SUM"
          threshold = floor(var.database_max_connections * 0.9)
          duration  = "300s"
        }],
      )
    }

    budget = {
      title    = "models cost more than planned"
      severity = "WARNING"
      anchor   = "models-cost-more-than-planned"
      says     = "More than ${var.model_tokens_per_day} tokens were spent within 24 hours."
      conditions = [{
        title = "tokens of 24 hours"
        query = join(" + ", [
          for type in local.run_types :
          "(sum(increase(${local.figured["model_tokens"]}_sum{monitored_resource=\"${type}\"}[1d])) or vector(0))"
        ])
        threshold = var.model_tokens_per_day
      }]
    }

    budget_refusals = {
      title    = "work waits for a budget"
      severity = "WARNING"
      anchor   = "work-waits-for-a-budget"
      says     = "An organization has spent what it may spend on models today. Its new files wait for the next day of UTC."
      conditions = [{
        title     = "jobs put off for a budget"
        filter    = "${local.process_type} AND ${local.counted["budget_refusals"]}"
        period    = "300s"
        aligner   = "ALIGN_DELTA"
        reducer   = "REDUCE_SUM"
        threshold = 0
      }]
    }

    recover_absent = {
      title    = "recover has not run"
      severity = "CRITICAL"
      anchor   = "recover-has-not-run"
      says     = "No run of recover came to its end within 15 minutes: nothing is repaired, retried late or replayed."
      conditions = [{
        # Of the service and of the job that people start: either did the work. In PromQL, where nothing counts as zero.
        title = "no run within 15 minutes"
        query = join(" + ", [
          for type in ["cloud_run_revision", "cloud_run_job"] :
          "(sum(increase(${local.counted_series["recover_runs"]}{monitored_resource=\"${type}\"}[10m])) or vector(0))"
        ])
        less_than = 1
        duration  = "300s"
        every     = "60s"
      }]
    }

    credentials = {
      title    = "a credential was refused"
      severity = "CRITICAL"
      anchor   = "a-credential-was-refused"
      says     = "A key, a role or a password of ours is not accepted. Jobs that need it fail at once, without a retry."
      conditions = [{
        title = "the first line that says so"
        logs  = "(${local.ours}) AND jsonPayload.error_code=(\"AUTHENTICATION_FAILED\" OR \"DATABASE_LOGIN_REFUSED\")"
      }]
    }
  }
}
