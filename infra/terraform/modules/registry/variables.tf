variable "project_id" {
  description = "The project."
  type        = string
}

variable "region" {
  description = "Where the registry is."
  type        = string
}

variable "writers" {
  description = "Who may push images."
  type        = set(string)
}

variable "kms_key" {
  description = "Key that images are encrypted with; null means Google's own."
  type        = string
}
