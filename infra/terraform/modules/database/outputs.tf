output "instance_name" {
  description = "Name of the instance."
  value       = google_sql_database_instance.this.name
}

output "users" {
  description = "What Postgres calls the service accounts, by name."
  value       = local.users
}

output "urls" {
  description = "DATABASE_URL of each account, once it may log in. There is no password in it: a token of the account takes its place."
  # A service that starts before its user is there is refused, and its first revision fails for good.
  depends_on = [google_sql_user.this, google_project_iam_member.logs_in]
  value = {
    for name, user in local.users :
    name => "postgresql://${urlencode(user)}@${google_sql_database_instance.this.private_ip_address}:5432/${google_sql_database.this.name}?sslmode=require"
  }
}

output "encrypted_with" {
  description = "The key that the disk is encrypted with."
  value       = google_sql_database_instance.this.encryption_key_name
}

output "owner_role" {
  description = "The role that owns what is in the database."
  value       = local.owner_role
}
