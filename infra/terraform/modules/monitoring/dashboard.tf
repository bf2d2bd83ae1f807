# One page: what waits, what fails, what it costs. Each chart shows what an alert looks at, so that it explains the alert.

locals {
  chart = {
    figure  = { aligner = "ALIGN_PERCENTILE_50", reducer = "REDUCE_MAX" } # one value a run: its median is the value
    counted = { aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM" }
    largest = { aligner = "ALIGN_MAX", reducer = "REDUCE_MAX" }
  }

  figure_filter = { for key, metric in google_logging_metric.figure : key => "metric.type=\"logging.googleapis.com/user/${metric.name}\"" }

  charts = [
    { title = "Jobs due", kind = "figure", filter = "${local.recover_type} AND ${local.figure_filter["due_jobs"]}", group_by = [] },
    { title = "Waiting time of the oldest due job (s)", kind = "figure", filter = "${local.recover_type} AND ${local.figure_filter["oldest_due"]}", group_by = [] },
    { title = "Stuck jobs", kind = "figure", filter = "${local.recover_type} AND ${local.figure_filter["stuck_jobs"]}", group_by = [] },
    { title = "Open dead letters", kind = "figure", filter = "${local.recover_type} AND ${local.figure_filter["dead_letters_open"]}", group_by = [] },
    { title = "Age of the oldest unacknowledged message (s)", kind = "largest", filter = "resource.type=\"pubsub_subscription\" AND metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" AND (${local.subscriptions})", group_by = ["resource.label.subscription_id"] },
    { title = "Age of the oldest unpublished event (s)", kind = "figure", filter = "${local.recover_type} AND ${local.figure_filter["outbox_lag"]}", group_by = [] },
    { title = "Attempts that ended", kind = "counted", filter = "${local.process_type} AND ${local.counted["attempts"]}", group_by = [] },
    { title = "Attempts that failed, by code", kind = "counted", filter = "${local.process_type} AND ${local.counted["attempts_failed"]}", group_by = ["metric.label.error_code"] },
    { title = "Requests, by service and class of answer", kind = "counted", filter = local.requests, group_by = ["resource.label.service_name", "metric.label.response_code_class"] },
    { title = "Runs of recover", kind = "counted", filter = "${local.recover_type} AND ${local.counted["recover_runs"]}", group_by = ["metric.label.ok"] },
    { title = "Connections of the database", kind = "largest", filter = "resource.type=\"cloudsql_database\" AND metric.type=\"cloudsql.googleapis.com/database/postgresql/num_backends\" AND resource.labels.database_id=\"${var.project_id}:${var.database_instance}\"", group_by = [] },
    { title = "Waits without a connection", kind = "counted", filter = "${local.process_type} AND ${local.counted["pool_exhausted"]}", group_by = [] },
  ]

  spent = [
    { title = "Tokens of 24 hours", figure = "model_tokens" },
    { title = "Cost of 24 hours, in millionths", figure = "model_cost" },
  ]
}

resource "google_monitoring_dashboard" "this" {
  project = var.project_id

  dashboard_json = jsonencode({
    displayName = "${var.prefix}overview"
    mosaicLayout = {
      columns = 12
      tiles = concat(
        [for n, chart in local.charts : {
          xPos = 6 * (n % 2), yPos = 4 * floor(n / 2), width = 6, height = 4
          widget = {
            title = chart.title
            xyChart = {
              dataSets = [{
                plotType = "LINE"
                timeSeriesQuery = {
                  timeSeriesFilter = {
                    filter = chart.filter
                    aggregation = {
                      alignmentPeriod    = "300s"
                      perSeriesAligner   = local.chart[chart.kind].aligner
                      crossSeriesReducer = local.chart[chart.kind].reducer
                      groupByFields      = chart.group_by
                    }
                  }
                }
              }]
            }
          }
        }],
        [for n, chart in local.spent : {
          xPos = 6 * n, yPos = 4 * ceil(length(local.charts) / 2), width = 6, height = 4
          widget = {
            title = chart.title
            xyChart = {
              dataSets = [{
                plotType = "LINE"
                timeSeriesQuery = {
                  prometheusQuery = join(" + ", [
                    for type in local.run_types :
                    "(sum(increase(${local.figured[chart.figure]}_sum{monitored_resource=\"${type}\"}[1d])) or vector(0))"
                  ])
                }
              }]
            }
          }
        }],
      )
    }
  })
}
