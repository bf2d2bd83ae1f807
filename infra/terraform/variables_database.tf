# Postgres: its size, its copies, and how many connections it grants.

variable "database_version" {
  description = "Version of Postgres; 16 or newer."
  type        = string
  default     = "POSTGRES_16"

  validation {
    condition     = can(regex("^POSTGRES_(1[6-9]|[2-9][0-9])$", var.database_version))
    error_message = "The product needs POSTGRES_16 or newer."
  }
}

variable "database_tier" {
  description = "Machine of the database. Building an index over vectors wants memory: docs/scale.md."
  type        = string
  default     = "db-custom-2-8192"

  validation {
    condition     = startswith(var.database_tier, "db-perf-optimized-") == (var.database_edition == "ENTERPRISE_PLUS")
    error_message = "ENTERPRISE_PLUS has the machines db-perf-optimized-*, ENTERPRISE has the others."
  }

  validation {
    condition     = !contains(["db-f1-micro", "db-g1-small"], var.database_tier)
    error_message = "Shared machines have no room for the connections, and no promise of service."
  }
}

variable "database_edition" {
  description = "ENTERPRISE or ENTERPRISE_PLUS."
  type        = string
  default     = "ENTERPRISE"

  validation {
    condition     = contains(["ENTERPRISE", "ENTERPRISE_PLUS"], var.database_edition)
    error_message = "ENTERPRISE or ENTERPRISE_PLUS."
  }
}

variable "database_available" {
  description = "REGIONAL keeps a standby in another zone, ZONAL does not."
  type        = string
  default     = "REGIONAL"

  validation {
    condition     = contains(["REGIONAL", "ZONAL"], var.database_available)
    error_message = "REGIONAL or ZONAL."
  }
}

variable "database_disk_gib" {
  description = "Disk to begin with; it grows by itself."
  type        = number
  default     = 50

  validation {
    condition     = var.database_disk_gib >= 10
    error_message = "At least 10 GiB."
  }
}

variable "database_backups_kept" {
  description = "How many daily backups are kept."
  type        = number
  default     = 14

  validation {
    condition     = var.database_backups_kept >= max(7, var.database_log_days)
    error_message = "At least a week of backups, and no fewer than database_log_days."
  }
}

variable "database_log_days" {
  description = "How far back the database can be brought to any second."
  type        = number
  default     = 7

  validation {
    condition     = var.database_log_days >= 1 && var.database_log_days <= (var.database_edition == "ENTERPRISE_PLUS" ? 35 : 7)
    error_message = "Between 1 and 7 days; up to 35 with ENTERPRISE_PLUS."
  }
}

variable "database_maintenance_memory_mib" {
  description = "maintenance_work_mem: what the build of a vector index may take."
  type        = number
  default     = 1024

  validation {
    condition     = var.database_maintenance_memory_mib >= 64
    error_message = "At least 64 MiB."
  }
}

variable "database_max_connections" {
  description = "Connections that Postgres grants. It must hold every pool of every instance at once."
  type        = number
  default     = 200

  validation {
    condition     = var.database_max_connections >= local.connections_needed
    error_message = "All pools together may open ${local.connections_needed} connections; raise database_max_connections or lower instances or pools."
  }
}
