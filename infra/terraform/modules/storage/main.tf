# The bucket whose objects are indexed, and what tells us about them.

resource "google_storage_bucket" "this" {
  project                     = var.project_id
  name                        = var.name
  location                    = var.location
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false
  deletion_policy             = var.deletion_protection ? "PREVENT" : "DELETE"

  versioning {
    enabled = var.versioning
  }

  soft_delete_policy {
    retention_duration_seconds = 7 * 24 * 3600
  }

  # Nothing that lives is ever removed by a rule: what people uploaded is theirs to delete.
  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 7
    }
  }

  dynamic "lifecycle_rule" {
    for_each = var.versioning ? [var.noncurrent_days] : []
    content {
      action {
        type = "Delete"
      }
      condition {
        days_since_noncurrent_time = lifecycle_rule.value
        with_state                 = "ARCHIVED"
      }
    }
  }

  dynamic "cors" {
    for_each = length(var.cors_origins) > 0 ? [var.cors_origins] : []
    content {
      origin          = cors.value
      method          = ["PUT", "POST", "OPTIONS"]
      response_header = ["Content-Type", "Content-MD5", "Content-Range", "Location", "Range", "x-goog-resumable", "x-goog-content-length-range", "x-goog-if-generation-match", "x-goog-hash", "x-goog-meta-organization-id", "x-goog-meta-user-id"]
      max_age_seconds = 3600
    }
  }

  dynamic "encryption" {
    for_each = var.kms_key == null ? [] : [var.kms_key]
    content {
      default_kms_key_name = encryption.value
    }
  }
}

resource "google_storage_bucket_iam_member" "this" {
  for_each = { for grant in flatten([
    for role, members in var.grants : [for name, member in members : { role = role, name = name, member = member }]
  ]) : "${grant.role}/${grant.name}" => grant }
  bucket = google_storage_bucket.this.name
  role   = each.value.role
  member = each.value.member
}

resource "google_pubsub_topic_iam_member" "notifies" {
  project = var.project_id
  topic   = var.topic.name
  role    = "roles/pubsub.publisher"
  member  = var.storage_agent
}

resource "google_storage_notification" "this" {
  bucket         = google_storage_bucket.this.name
  topic          = var.topic.id
  payload_format = "JSON_API_V1"
  event_types    = ["OBJECT_FINALIZE", "OBJECT_DELETE", "OBJECT_ARCHIVE", "OBJECT_METADATA_UPDATE"]

  # Cloud Storage tries the topic when the notification is made; and nobody is told of objects that they cannot read yet.
  depends_on = [google_pubsub_topic_iam_member.notifies, google_storage_bucket_iam_member.this]
}
