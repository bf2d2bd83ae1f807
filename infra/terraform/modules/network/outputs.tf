output "network_id" {
  description = "The network, once a private address can be had in it."
  value       = local.network_id
  depends_on  = [google_service_networking_connection.this]
}

output "subnetwork_id" {
  description = "Where Cloud Run takes its addresses from."
  value       = local.subnetwork_id
}
