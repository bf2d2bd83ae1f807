output "emails" {
  description = "Addresses of the accounts, by name, once they have their rights on the project: what runs as them waits for these."
  value       = local.emails
  depends_on  = [google_project_iam_member.this]
}

output "members" {
  description = "The accounts as members of policies, by name."
  value       = local.members
}

output "ids" {
  description = "The accounts as policies on them name them, by name."
  value       = local.ids
}
