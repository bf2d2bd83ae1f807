# A private way from Cloud Run to the database: our own network, or one that is there.

locals {
  made = var.existing == null ? { network = true } : {}
  peer = var.existing == null ? true : !var.existing.peered

  network_id    = var.existing == null ? google_compute_network.this["network"].id : var.existing.network_id
  subnetwork_id = var.existing == null ? google_compute_subnetwork.run["network"].id : var.existing.subnetwork_id
}

resource "google_compute_network" "this" {
  for_each                = local.made
  project                 = var.project_id
  name                    = "${var.prefix}network"
  auto_create_subnetworks = false
}

resource "google_compute_subnetwork" "run" {
  for_each                 = local.made
  project                  = var.project_id
  region                   = var.region
  name                     = "${var.prefix}run"
  network                  = google_compute_network.this[each.key].id
  ip_cidr_range            = var.subnetwork_range
  private_ip_google_access = true
}

resource "google_compute_global_address" "services" {
  for_each      = local.peer ? { peering = true } : {}
  project       = var.project_id
  name          = "${var.prefix}services"
  purpose       = "VPC_PEERING"
  address_type  = "INTERNAL"
  prefix_length = 20
  network       = local.network_id
}

resource "google_service_networking_connection" "this" {
  for_each                = local.peer ? { peering = true } : {}
  network                 = local.network_id
  service                 = "servicenetworking.googleapis.com"
  reserved_peering_ranges = [google_compute_global_address.services[each.key].name]

  # Google keeps its side for days after a database is gone, and refuses to take the peering down.
  deletion_policy = "ABANDON"
}
