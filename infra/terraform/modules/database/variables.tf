variable "project_id" {
  description = "The project."
  type        = string
}

variable "region" {
  description = "Where the instance is."
  type        = string
}

variable "prefix" {
  description = "What names begin with."
  type        = string
}

variable "network_id" {
  description = "The network that the instance has its only address in."
  type        = string
}

variable "postgres_version" {
  description = "Such as POSTGRES_16."
  type        = string
}

variable "tier" {
  description = "The machine."
  type        = string
}

variable "edition" {
  description = "ENTERPRISE or ENTERPRISE_PLUS."
  type        = string
}

variable "available" {
  description = "REGIONAL or ZONAL."
  type        = string
}

variable "disk_gib" {
  description = "Disk to begin with."
  type        = number
}

variable "backups_kept" {
  description = "How many daily backups are kept."
  type        = number
}

variable "log_days" {
  description = "How far back any second can be restored."
  type        = number
}

variable "max_connections" {
  description = "Connections that Postgres grants."
  type        = number
}

variable "maintenance_memory_mib" {
  description = "maintenance_work_mem."
  type        = number
}

variable "users" {
  description = "Who logs in: name to the address of the service account."
  type        = map(string)
}

variable "owner" {
  description = "Which of them migrates, and so owns what is in the database."
  type        = string
}

variable "kms_key" {
  description = "Key that the disk is encrypted with; null means Google's own."
  type        = string
}

variable "deletion_protection" {
  description = "Whether the instance refuses to be destroyed."
  type        = bool
}
