output "name" {
  description = "Name of the service."
  value       = google_cloud_run_v2_service.this.name
}

output "uri" {
  description = "Its address."
  value       = google_cloud_run_v2_service.this.uri
}

output "audience" {
  description = "Audience that tokens for it carry."
  value       = google_cloud_run_v2_service.this.custom_audiences[0]
}
