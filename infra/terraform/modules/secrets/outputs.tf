output "references" {
  description = "Secrets as environments name them, once they have a value and their readers."
  value       = { for name, version in google_secret_manager_secret_version.this : name => { secret = google_secret_manager_secret.this[name].secret_id, version = "latest" } }
  depends_on  = [google_secret_manager_secret_iam_member.reads]
}
