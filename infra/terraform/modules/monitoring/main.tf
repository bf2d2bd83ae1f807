resource "google_monitoring_alert_policy" "this" {
  for_each = local.alerts

  project               = var.project_id
  display_name          = "${var.prefix}${replace(each.key, "_", "-")}: ${each.value.title}"
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = var.notification_channels

  documentation {
    subject   = "Headrace: ${each.value.title}"
    mime_type = "text/markdown"
    content   = "${each.value.says}\n\nWhat to do: ${var.runbook_base_url}#${each.value.anchor}"

    links {
      display_name = "Runbook"
      url          = "${var.runbook_base_url}#${each.value.anchor}"
    }
  }

  dynamic "conditions" {
    for_each = each.value.conditions
    content {
      display_name = conditions.value.title

      dynamic "condition_threshold" {
        for_each = can(conditions.value.period) ? [conditions.value] : []
        content {
          filter             = condition_threshold.value.filter
          denominator_filter = try(condition_threshold.value.denominator, null)
          comparison         = "COMPARISON_GT"
          threshold_value    = condition_threshold.value.threshold
          duration           = try(condition_threshold.value.duration, "0s")

          aggregations {
            alignment_period     = condition_threshold.value.period
            per_series_aligner   = condition_threshold.value.aligner
            cross_series_reducer = condition_threshold.value.reducer
            group_by_fields      = try(condition_threshold.value.group_by, null)
          }

          dynamic "denominator_aggregations" {
            for_each = can(condition_threshold.value.denominator) ? [condition_threshold.value] : []
            content {
              alignment_period     = denominator_aggregations.value.period
              per_series_aligner   = denominator_aggregations.value.aligner
              cross_series_reducer = denominator_aggregations.value.reducer
              group_by_fields      = try(denominator_aggregations.value.group_by, null)
            }
          }
        }
      }

      dynamic "condition_prometheus_query_language" {
        for_each = can(conditions.value.query) ? [conditions.value] : []
        content {
          query = (
            can(condition_prometheus_query_language.value.less_than)
            ? "${condition_prometheus_query_language.value.query} < ${condition_prometheus_query_language.value.less_than}"
            : "${condition_prometheus_query_language.value.query} > ${condition_prometheus_query_language.value.threshold}"
          )
          duration                  = try(condition_prometheus_query_language.value.duration, "0s")
          evaluation_interval       = try(condition_prometheus_query_language.value.every, "300s")
          disable_metric_validation = true # before the first call to a model there is no such series
        }
      }

      dynamic "condition_matched_log" {
        for_each = can(conditions.value.logs) ? [conditions.value] : []
        content {
          filter = condition_matched_log.value.logs
          label_extractors = {
            error_code = "EXTRACT(jsonPayload.error_code)"
            event      = "EXTRACT(jsonPayload.message)"
          }
        }
      }
    }
  }

  alert_strategy {
    auto_close = "86400s"

    dynamic "notification_rate_limit" {
      for_each = can(each.value.conditions[0].logs) ? [1] : [] # allowed for, and asked of, log matches only
      content {
        period = "3600s"
      }
    }
  }
}

# The bill as a whole, where the root may set budgets: models are one part of it.
resource "google_billing_budget" "this" {
  count = var.billing_account == null ? 0 : 1

  billing_account = var.billing_account
  display_name    = "${var.prefix}budget"

  budget_filter {
    projects = ["projects/${var.project_id}"]
  }

  amount {
    specified_amount {
      units = tostring(var.monthly_budget)
    }
  }

  dynamic "threshold_rules" {
    for_each = [0.5, 0.9, 1.0]
    content {
      threshold_percent = threshold_rules.value
    }
  }

  threshold_rules {
    threshold_percent = 1.0
    spend_basis       = "FORECASTED_SPEND"
  }

  all_updates_rule {
    monitoring_notification_channels = slice(var.notification_channels, 0, min(5, length(var.notification_channels)))
    disable_default_iam_recipients   = false
  }
}
