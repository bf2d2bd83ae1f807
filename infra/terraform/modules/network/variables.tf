variable "project_id" {
  description = "The project."
  type        = string
}

variable "region" {
  description = "Where the subnetwork is."
  type        = string
}

variable "prefix" {
  description = "What names begin with."
  type        = string
}

variable "existing" {
  description = "The network to use; null makes one."
  type        = object({ network_id = string, subnetwork_id = string, peered = bool })
}

variable "subnetwork_range" {
  description = "Addresses of the subnetwork that is made."
  type        = string
}
