variable "project_id" {
  description = "The project."
  type        = string
}

variable "apis" {
  description = "APIs to enable. None is disabled again: others in the project may use it."
  type        = set(string)
}
