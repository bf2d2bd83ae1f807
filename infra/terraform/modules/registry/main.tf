# Where the images are.

resource "google_artifact_registry_repository" "this" {
  project       = var.project_id
  location      = var.region
  repository_id = "headrace"
  description   = "Images of Headrace, one per service."
  format        = "DOCKER"
  kms_key_name  = var.kms_key

  # A tag is a release; what it means does not change.
  docker_config {
    immutable_tags = true
  }

  cleanup_policies {
    id     = "keep-releases"
    action = "KEEP"
    most_recent_versions {
      keep_count = 20
    }
  }

  cleanup_policies {
    id     = "remove-untagged"
    action = "DELETE"
    condition {
      tag_state  = "UNTAGGED"
      older_than = "2592000s"
    }
  }
}

resource "google_artifact_registry_repository_iam_member" "writes" {
  for_each   = var.writers
  project    = var.project_id
  location   = google_artifact_registry_repository.this.location
  repository = google_artifact_registry_repository.this.repository_id
  role       = "roles/artifactregistry.writer"
  member     = each.value
}
