# Metrics out of the services' log lines: they are there without any exporter, and a line is written by whoever knows
# best. tests/infra/test_monitoring.py holds every event and field below against lines that the code really writes.

locals {
  # Other installations in this project, and other things, are not ours.
  ours = join(" OR ", [
    "(resource.type=\"cloud_run_revision\" AND resource.labels.service_name=~\"^${var.prefix}\")",
    "(resource.type=\"cloud_run_worker_pool\" AND resource.labels.worker_pool_name=~\"^${var.prefix}\")",
    "(resource.type=\"cloud_run_job\" AND resource.labels.job_name=~\"^${var.prefix}\")",
  ])

  counters = {
    recover_runs = {
      says   = "Runs of recover that came to their end."
      filter = "jsonPayload.message=\"recover.done\""
      labels = { ok = "jsonPayload.ok" }
    }
    dead_letters_seen = {
      says   = "Runs of recover that saw open dead letters."
      filter = "jsonPayload.message=\"recover.done\" AND jsonPayload.figures.dead_letters_open>0"
      labels = {}
    }
    stuck_jobs_seen = {
      says   = "Runs of recover that left jobs stuck."
      filter = "jsonPayload.message=\"recover.done\" AND jsonPayload.figures.stuck_jobs>0"
      labels = {}
    }
    attempts = {
      says   = "Attempts at jobs that ended, well or not; waiting for a rate limit or a budget is no end."
      filter = "jsonPayload.message=\"job.completed\" OR (jsonPayload.message=\"job.attempt_failed\" AND NOT jsonPayload.error_code=(\"RATE_LIMITED\" OR \"BUDGET_EXHAUSTED\"))"
      labels = {}
    }
    attempts_failed = {
      says   = "Attempts at jobs that failed, by code."
      filter = "jsonPayload.message=\"job.attempt_failed\" AND NOT jsonPayload.error_code=(\"RATE_LIMITED\" OR \"BUDGET_EXHAUSTED\")"
      labels = { error_code = "jsonPayload.error_code" }
    }
    budget_refusals = {
      says   = "Jobs put off till the next day, since their organization's budget for models is used up."
      filter = "jsonPayload.message=\"job.attempt_failed\" AND jsonPayload.error_code=\"BUDGET_EXHAUSTED\""
      labels = {}
    }
    pool_exhausted = {
      says   = "Waits for a database connection that ended without one."
      filter = "jsonPayload.message=\"pool.exhausted\""
      labels = {}
    }
  }

  figures = {
    dead_letters_open = {
      says  = "Open dead letters, as a run of recover saw them."
      event = "recover.done"
      field = "figures.dead_letters_open"
      unit  = "{letter}"
    }
    stuck_jobs = {
      says  = "Jobs that a run of recover left stuck."
      event = "recover.done"
      field = "figures.stuck_jobs"
      unit  = "{job}"
    }
    due_jobs = {
      says  = "Jobs that wait for a worker."
      event = "recover.done"
      field = "figures.due_jobs"
      unit  = "{job}"
    }
    oldest_due = {
      says  = "How long the job that is due longest has waited."
      event = "recover.done"
      field = "figures.oldest_due_seconds"
      unit  = "s"
    }
    outbox_lag = {
      says  = "Age of the oldest event that is not published."
      event = "recover.done"
      field = "figures.outbox_lag_seconds"
      unit  = "s"
    }
    model_tokens = {
      says  = "Tokens spent on models."
      event = "model.called"
      field = "tokens"
      unit  = "{token}"
    }
    model_cost = {
      says  = "What calls to models cost, in millionths of the currency of MODEL_PRICE_PER_MILLION_TOKENS."
      event = "model.called"
      field = "cost_micros"
      unit  = "1"
    }
  }
}

resource "google_logging_metric" "counter" {
  for_each = local.counters

  project     = var.project_id
  name        = "${var.prefix}${each.key}"
  description = each.value.says
  filter      = "(${local.ours}) AND (${each.value.filter})"

  label_extractors = { for label, field in each.value.labels : label => "EXTRACT(${field})" }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    unit        = "1"

    dynamic "labels" {
      for_each = each.value.labels
      content {
        key        = labels.key
        value_type = "STRING"
      }
    }
  }
}

resource "google_logging_metric" "figure" {
  for_each = local.figures

  project         = var.project_id
  name            = "${var.prefix}${each.key}"
  description     = each.value.says
  filter          = "(${local.ours}) AND (jsonPayload.message=\"${each.value.event}\")"
  value_extractor = "EXTRACT(jsonPayload.${each.value.field})"

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "DISTRIBUTION"
    unit        = each.value.unit
  }

  bucket_options {
    exponential_buckets {
      num_finite_buckets = 64
      growth_factor      = 1.4
      scale              = 1
    }
  }
}
