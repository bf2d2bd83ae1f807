output "alert_policies" {
  description = "Name of each alert policy, by its key."
  value       = { for key, policy in google_monitoring_alert_policy.this : key => policy.name }
}

output "dashboard" {
  description = "Id of the dashboard."
  value       = google_monitoring_dashboard.this.id
}
