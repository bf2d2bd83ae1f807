output "name" {
  description = "Name of the job."
  value       = google_cloud_scheduler_job.this.name
}

output "target" {
  description = "What is called."
  value       = google_cloud_scheduler_job.this.http_target[0].uri
}
