# Secrets, and who may read each. Values are written once and are in neither plan nor state.

resource "google_secret_manager_secret" "this" {
  for_each            = var.readers
  project             = var.project_id
  secret_id           = "${var.prefix}${each.key}"
  deletion_protection = var.deletion_protection

  # In one region: that is where the readers are, and where a key of ours can encrypt it.
  replication {
    user_managed {
      replicas {
        location = var.region

        dynamic "customer_managed_encryption" {
          for_each = var.kms_key == null ? [] : [var.kms_key]
          content {
            kms_key_name = customer_managed_encryption.value
          }
        }
      }
    }
  }
}

resource "google_secret_manager_secret_version" "this" {
  for_each               = var.readers
  secret                 = google_secret_manager_secret.this[each.key].id
  secret_data_wo         = var.values[each.key]
  secret_data_wo_version = var.versions[each.key]
}

resource "google_secret_manager_secret_iam_member" "reads" {
  for_each = { for grant in flatten([
    for secret, members in var.readers : [for name, member in members : { secret = secret, name = name, member = member }]
  ]) : "${grant.secret}/${grant.name}" => grant }
  project   = var.project_id
  secret_id = google_secret_manager_secret.this[each.value.secret].secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = each.value.member
}
