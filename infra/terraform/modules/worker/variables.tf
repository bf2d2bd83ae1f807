variable "project_id" {
  description = "The project."
  type        = string
}

variable "region" {
  description = "Where it runs."
  type        = string
}

variable "name" {
  description = "Its name."
  type        = string
}

variable "image" {
  description = "The image that runs."
  type        = string
}

variable "service_account" {
  description = "Address of the account it runs as."
  type        = string
}

variable "network_id" {
  description = "The network it reaches the database through."
  type        = string
}

variable "subnetwork_id" {
  description = "Where it takes its address from."
  type        = string
}

variable "cpu" {
  description = "Processors of an instance."
  type        = string
}

variable "memory_mib" {
  description = "Memory of an instance."
  type        = number
}

variable "env" {
  description = "Environment that is no secret."
  type        = map(string)
}

variable "secret_env" {
  description = "Environment out of Secret Manager: name to secret and version."
  type        = map(object({ secret = string, version = string }))
  default     = {}
}

variable "kms_key" {
  description = "Key that the image is encrypted with; null means Google's own."
  type        = string
}

variable "description" {
  description = "What it is for."
  type        = string
}

variable "instances" {
  description = "How many run, always."
  type        = number
}
