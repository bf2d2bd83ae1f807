output "project_id" {
  description = "The project, once its APIs are enabled: modules take it from here, and so wait."
  value       = var.project_id
  depends_on  = [google_project_service.this]
}

output "agents" {
  description = "Google's service agents of the project, as members of policies."
  value       = local.agents
}
