output "bucket" {
  description = "The bucket to upload to."
  value       = module.storage.name
}

output "api_uri" {
  description = "Address of the api; its callers need an ID token for the audience headrace-api, or IAP."
  value       = module.api.uri
}

output "recover_uri" {
  description = "Address of the recover service, for who is let in."
  value       = module.recover.uri
}

output "images" {
  description = "What images' names begin with: push them there."
  value       = local.images
}

output "service_accounts" {
  description = "Address of each service's account."
  value       = module.identity.emails
}

output "subscriptions" {
  description = "Names of the subscriptions, by what docs/operations.md calls them."
  value       = module.messaging.subscription_names
}

output "topics" {
  description = "Names of the topics, by what docs/operations.md calls them."
  value       = module.messaging.topic_names
}

output "jobs" {
  description = "Jobs to start with `gcloud run jobs execute`: migrate first, after each release."
  value       = { migrate = module.migrate.name, recover = module.recover_once.name, schedule = module.schedule.name }
}

output "database_instance" {
  description = "The database's instance."
  value       = module.database.instance_name
}

output "connections_needed" {
  description = "Connections that all pools together may open; database_max_connections is at least that."
  value       = local.connections_needed
}

output "push_endpoints" {
  description = "Where subscriptions are pushed to."
  value       = module.messaging.push_endpoints
}
