output "emails" {
  description = "Addresses of the accounts, by name."
  value       = local.emails
}

output "members" {
  description = "The accounts as members of policies, by name."
  value       = local.members
}

output "ids" {
  description = "The accounts as policies on them name them, by name."
  value       = local.ids
}
