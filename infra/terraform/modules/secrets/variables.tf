variable "project_id" {
  description = "The project."
  type        = string
}

variable "region" {
  description = "Where secrets are."
  type        = string
}

variable "prefix" {
  description = "What names begin with."
  type        = string
}

variable "readers" {
  description = "By secret, who reads it: name to member."
  type        = map(map(string))
}

variable "values" {
  description = "The secrets' values."
  type        = map(string)
  sensitive   = true
  ephemeral   = true
}

variable "versions" {
  description = "By secret, a number that is raised to write a new value."
  type        = map(number)
}

variable "kms_key" {
  description = "Key that secrets are encrypted with; null means Google's own."
  type        = string
}

variable "deletion_protection" {
  description = "Whether secrets refuse to be destroyed."
  type        = bool
}
