variable "project_id" {
  description = "The project."
  type        = string
}

variable "region" {
  description = "Where the key is; data in other places cannot use it."
  type        = string
}

variable "prefix" {
  description = "What names begin with."
  type        = string
}

variable "agents" {
  description = "Service agents that encrypt and decrypt with it: name to member."
  type        = map(string)
}

variable "deletion_protection" {
  description = "Whether the key refuses to be destroyed."
  type        = bool
}
