# Topics and subscriptions: the same table as shared/pubsub/topics.py, which a test compares.

locals {
  day = 24 * 3600

  topics = toset(["uploads", "work", "stages", "dead-letters", "replay"])

  # `attempts` of 0: no dead-letter policy.
  subscriptions = {
    uploads-ingest       = { topic = "uploads", ack_deadline = 60, attempts = 10, filter = "", ordering = false, retention = 7 * local.day }
    work-interactive     = { topic = "work", ack_deadline = 60, attempts = 10, filter = "attributes.lane = \"interactive\"", ordering = false, retention = 7 * local.day }
    work-bulk            = { topic = "work", ack_deadline = 60, attempts = 10, filter = "attributes.lane = \"bulk\"", ordering = false, retention = 7 * local.day }
    stages-watch         = { topic = "stages", ack_deadline = 60, attempts = 0, filter = "", ordering = true, retention = 7 * local.day }
    dead-letters-intake  = { topic = "dead-letters", ack_deadline = 60, attempts = 0, filter = "", ordering = false, retention = 7 * local.day }
    dead-letters-inspect = { topic = "dead-letters", ack_deadline = 60, attempts = 0, filter = "", ordering = false, retention = 31 * local.day }
    replay-recover       = { topic = "replay", ack_deadline = 60, attempts = 10, filter = "", ordering = false, retention = 7 * local.day }
  }

  dead_lettering  = { for name, entry in local.subscriptions : name => entry if entry.attempts > 0 }
  deletion_policy = var.deletion_protection ? "PREVENT" : "DELETE"
}

resource "google_pubsub_topic" "this" {
  for_each        = local.topics
  project         = var.project_id
  name            = "${var.prefix}${each.value}"
  kms_key_name    = var.kms_key
  deletion_policy = local.deletion_policy
}

locals {
  # Spelt out, not read back: so a plan shows what hangs on what.
  topic_ids = { for name, topic in google_pubsub_topic.this : name => "projects/${var.project_id}/topics/${topic.name}" }
}

resource "google_pubsub_subscription" "this" {
  for_each                   = local.subscriptions
  project                    = var.project_id
  name                       = "${var.prefix}${each.key}"
  topic                      = local.topic_ids[each.value.topic]
  ack_deadline_seconds       = contains(keys(var.push), each.key) ? var.push[each.key].ack_deadline_seconds : each.value.ack_deadline
  message_retention_duration = "${each.value.retention}s"
  enable_message_ordering    = each.value.ordering
  filter                     = each.value.filter
  deletion_policy            = local.deletion_policy

  # Never: a system that nobody uploads to for a month still works on the day somebody does.
  expiration_policy {
    ttl = ""
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  dynamic "dead_letter_policy" {
    for_each = each.value.attempts > 0 ? [each.value.attempts] : []
    content {
      dead_letter_topic     = local.topic_ids["dead-letters"]
      max_delivery_attempts = dead_letter_policy.value
    }
  }

  dynamic "push_config" {
    for_each = contains(keys(var.push), each.key) ? [var.push[each.key]] : []
    content {
      push_endpoint = "${push_config.value.uri}/push/${each.key}"
      oidc_token {
        service_account_email = push_config.value.service_account_email
        audience              = push_config.value.audience
      }
    }
  }
}

# Without both of these rights a message that failed too often stays where it is, and no error says so.
resource "google_pubsub_topic_iam_member" "forwards" {
  project = var.project_id
  topic   = google_pubsub_topic.this["dead-letters"].name
  role    = "roles/pubsub.publisher"
  member  = var.pubsub_agent
}

resource "google_pubsub_subscription_iam_member" "forwards" {
  for_each     = local.dead_lettering
  project      = var.project_id
  subscription = google_pubsub_subscription.this[each.key].name
  role         = "roles/pubsub.subscriber"
  member       = var.pubsub_agent
}

resource "google_pubsub_topic_iam_member" "publishes" {
  for_each = { for grant in flatten([
    for topic, members in var.publishers : [for name, member in members : { topic = topic, name = name, member = member }]
  ]) : "${grant.topic}/${grant.name}" => grant }
  project = var.project_id
  topic   = google_pubsub_topic.this[each.value.topic].name
  role    = "roles/pubsub.publisher"
  member  = each.value.member
}

resource "google_pubsub_subscription_iam_member" "takes" {
  for_each = { for grant in flatten([
    for subscription, members in var.subscribers : [
      for name, member in members : { subscription = subscription, name = name, member = member }
    ]
  ]) : "${grant.subscription}/${grant.name}" => grant }
  project      = var.project_id
  subscription = google_pubsub_subscription.this[each.value.subscription].name
  role         = "roles/pubsub.subscriber"
  member       = each.value.member
}
