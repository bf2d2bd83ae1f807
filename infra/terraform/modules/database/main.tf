# Cloud SQL for PostgreSQL: a private address, no passwords, copies of every day and every second.

resource "google_sql_database_instance" "this" {
  project             = var.project_id
  region              = var.region
  name                = "${var.prefix}postgres"
  database_version    = var.postgres_version
  encryption_key_name = var.kms_key
  deletion_protection = var.deletion_protection

  settings {
    tier                        = var.tier
    edition                     = var.edition
    availability_type           = var.available
    disk_type                   = "PD_SSD"
    disk_size                   = var.disk_gib
    disk_autoresize             = true
    deletion_protection_enabled = var.deletion_protection
    retain_backups_on_delete    = true

    ip_configuration {
      ipv4_enabled    = false
      private_network = var.network_id
      ssl_mode        = "ENCRYPTED_ONLY"
    }

    backup_configuration {
      enabled                        = true
      start_time                     = "03:00"
      point_in_time_recovery_enabled = true
      transaction_log_retention_days = var.log_days

      backup_retention_settings {
        retained_backups = var.backups_kept
      }
    }

    maintenance_window {
      day          = 7
      hour         = 4
      update_track = "stable"
    }

    insights_config {
      query_insights_enabled  = true
      record_application_tags = true
    }

    dynamic "database_flags" {
      for_each = {
        "cloudsql.iam_authentication" = "on"
        "max_connections"             = tostring(var.max_connections)
        # In kB: the build of a vector index is fast for as long as the graph fits.
        "maintenance_work_mem"             = tostring(var.maintenance_memory_mib * 1024)
        "max_parallel_maintenance_workers" = "2"
      }
      content {
        name  = database_flags.key
        value = database_flags.value
      }
    }
  }

  lifecycle {
    # It grows by itself; what was written here must not shrink it.
    ignore_changes = [settings[0].disk_size]
  }
}

resource "google_sql_database" "this" {
  project         = var.project_id
  instance        = google_sql_database_instance.this.name
  name            = "headrace"
  deletion_policy = var.deletion_protection ? "PREVENT" : "DELETE"
}

locals {
  # It may create roles and extensions; its members may not, before they become it.
  owner_role = "cloudsqlsuperuser"

  # What Cloud SQL calls a service account.
  users = { for name, email in var.users : name => trimsuffix(email, ".gserviceaccount.com") }
}

resource "google_sql_user" "this" {
  for_each = local.users
  project  = var.project_id
  instance = google_sql_database_instance.this.name
  name     = each.value
  type     = "CLOUD_IAM_SERVICE_ACCOUNT"

  # Who migrates becomes the owner of everything; the migrations grant the others what each needs.
  database_roles = each.key == var.owner ? [local.owner_role] : null

  # Postgres refuses to drop a user that owns or was granted something.
  deletion_policy = "ABANDON"
}

# Cloud SQL has no policies of its own; a condition makes this right one of this instance.
resource "google_project_iam_member" "logs_in" {
  for_each = var.users
  project  = var.project_id
  role     = "roles/cloudsql.instanceUser"
  member   = "serviceAccount:${each.value}"

  condition {
    title      = "only ${google_sql_database_instance.this.name}"
    expression = "resource.type == \"sqladmin.googleapis.com/Instance\" && resource.name == \"projects/${var.project_id}/instances/${google_sql_database_instance.this.name}\""
  }
}
