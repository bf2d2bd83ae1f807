# What people may do by hand: the table "Who may do what by hand" of docs/operations.md, which a test holds in step.

locals {
  # Things that have no policy of their own; the rest is reading.
  project_permissions = [
    "cloudscheduler.jobs.enable",
    "cloudscheduler.jobs.get",
    "cloudscheduler.jobs.list",
    "cloudscheduler.jobs.pause",
    "cloudscheduler.jobs.run",
    "pubsub.snapshots.create",
    "pubsub.snapshots.delete",
    "pubsub.snapshots.get",
    "pubsub.snapshots.list",
    "pubsub.snapshots.seek",
    "run.executions.get",
    "run.executions.list",
    "run.jobs.get",
    "run.operations.get",
    "run.revisions.get",
    "run.revisions.list",
    "run.services.get",
    "run.services.list",
    "run.workerpools.get",
    "run.workerpools.list",
  ]

  # Not to delete one, and not to change who may.
  subscription_permissions = ["pubsub.subscriptions.consume", "pubsub.subscriptions.get", "pubsub.subscriptions.update"]

  scaling_permissions = ["run.services.get", "run.services.update", "run.workerpools.get", "run.workerpools.update"]

  operated = { for name in length(var.operators) > 0 ? ["operated"] : [] : name => true }
  scaled   = { for name in length(var.scalers) > 0 ? ["scaled"] : [] : name => true }
}

resource "google_project_iam_custom_role" "operator" {
  for_each    = local.operated
  project     = var.project_id
  role_id     = "headrace_operator"
  title       = "Headrace operator"
  description = "Snapshots, the clock of recover, and looking at what runs."
  permissions = local.project_permissions
}

resource "google_project_iam_custom_role" "subscriptions" {
  for_each    = local.operated
  project     = var.project_id
  role_id     = "headrace_subscription_operator"
  title       = "Headrace operator of a subscription"
  description = "Pull, seek, pause and change one subscription."
  permissions = local.subscription_permissions
}

resource "google_project_iam_custom_role" "scaler" {
  for_each    = local.scaled
  project     = var.project_id
  role_id     = "headrace_scaler"
  title       = "Headrace scaler"
  description = "Scale and restart one service or worker pool."
  permissions = local.scaling_permissions
}

resource "google_project_iam_member" "operates" {
  for_each = { for grant in setproduct(["operator", "logs", "metrics"], tolist(var.operators)) : join("/", grant) => grant }
  project  = var.project_id
  role = {
    operator = "projects/${var.project_id}/roles/${google_project_iam_custom_role.operator["operated"].role_id}"
    logs     = "roles/logging.viewer"
    metrics  = "roles/monitoring.viewer"
  }[each.value[0]]
  member = each.value[1]
}

resource "google_pubsub_subscription_iam_member" "operates" {
  for_each     = { for grant in setproduct(keys(var.subscriptions), tolist(var.operators)) : join("/", grant) => grant }
  project      = var.project_id
  subscription = var.subscriptions[each.value[0]]
  role         = "projects/${var.project_id}/roles/${google_project_iam_custom_role.subscriptions["operated"].role_id}"
  member       = each.value[1]
}

# A push endpoint is given back together with the account that its tokens are of, and that asks for this right on it.
resource "google_service_account_iam_member" "resumes" {
  for_each           = var.operators
  service_account_id = var.push_account
  role               = "roles/iam.serviceAccountUser"
  member             = each.value
}

# To change a service is to say what runs in its account's name.
resource "google_service_account_iam_member" "scales" {
  for_each           = { for grant in setproduct(keys(var.accounts), tolist(var.scalers)) : join("/", grant) => grant }
  service_account_id = var.accounts[each.value[0]]
  role               = "roles/iam.serviceAccountUser"
  member             = each.value[1]
}

resource "google_cloud_run_v2_service_iam_member" "scales" {
  for_each = { for grant in setproduct(keys(var.services), tolist(var.scalers)) : join("/", grant) => grant }
  project  = var.project_id
  location = var.region
  name     = var.services[each.value[0]]
  role     = "projects/${var.project_id}/roles/${google_project_iam_custom_role.scaler["scaled"].role_id}"
  member   = each.value[1]
}

resource "google_cloud_run_v2_worker_pool_iam_member" "scales" {
  for_each = { for grant in setproduct(keys(var.pools), tolist(var.scalers)) : join("/", grant) => grant }
  project  = var.project_id
  location = var.region
  name     = var.pools[each.value[0]]
  role     = "projects/${var.project_id}/roles/${google_project_iam_custom_role.scaler["scaled"].role_id}"
  member   = each.value[1]
}

# A new revision is refused to who cannot read its image.
resource "google_artifact_registry_repository_iam_member" "scales" {
  for_each   = var.scalers
  project    = var.project_id
  location   = var.region
  repository = var.repository
  role       = "roles/artifactregistry.reader"
  member     = each.value
}
