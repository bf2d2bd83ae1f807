# The project's APIs, and who acts in it for Google.

resource "google_project_service" "this" {
  for_each           = var.apis
  project            = var.project_id
  service            = each.value
  disable_on_destroy = false
}

data "google_project" "this" {
  project_id = var.project_id
}

# Asking for it makes it, where a project has none yet.
data "google_storage_project_service_account" "this" {
  project = var.project_id
}

locals {
  number = data.google_project.this.number

  # The others are made by `gcloud beta services identity create` (docs/deploy.md, step 1): the resource for it is not in
  # this provider.
  agents = {
    storage  = "serviceAccount:${data.google_storage_project_service_account.this.email_address}"
    pubsub   = "serviceAccount:service-${local.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
    run      = "serviceAccount:service-${local.number}@serverless-robot-prod.iam.gserviceaccount.com"
    sql      = "serviceAccount:service-${local.number}@gcp-sa-cloud-sql.iam.gserviceaccount.com"
    registry = "serviceAccount:service-${local.number}@gcp-sa-artifactregistry.iam.gserviceaccount.com"
    secrets  = "serviceAccount:service-${local.number}@gcp-sa-secretmanager.iam.gserviceaccount.com"
    iap      = "serviceAccount:service-${local.number}@gcp-sa-iap.iam.gserviceaccount.com"
  }
}
