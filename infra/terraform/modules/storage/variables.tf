variable "project_id" {
  description = "The project."
  type        = string
}

variable "name" {
  description = "The bucket's name."
  type        = string
}

variable "location" {
  description = "Where it is."
  type        = string
}

variable "versioning" {
  description = "Whether noncurrent objects are kept."
  type        = bool
}

variable "noncurrent_days" {
  description = "For how many days, then."
  type        = number
}

variable "cors_origins" {
  description = "Pages that may upload from a browser."
  type        = list(string)
}

variable "topic" {
  description = "Where notifications go: id and name."
  type        = object({ id = string, name = string })
}

variable "storage_agent" {
  description = "Cloud Storage's service agent, which publishes them."
  type        = string
}

variable "grants" {
  description = "By role, who has it on the bucket: name to member."
  type        = map(map(string))
}

variable "kms_key" {
  description = "Key that objects are encrypted with; null means Google's own."
  type        = string
}

variable "deletion_protection" {
  description = "Whether the bucket refuses to be destroyed."
  type        = bool
}
