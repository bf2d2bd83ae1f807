variable "project_id" {
  description = "The project."
  type        = string
}

variable "prefix" {
  description = "What names begin with."
  type        = string
}

variable "accounts" {
  description = "The accounts, by name without the prefix, and what each is for."
  type        = map(string)
}

variable "project_roles" {
  description = "Roles that can be had on a project only, and the accounts that need them."
  type        = map(set(string))
}

variable "push_account" {
  description = "The account whose tokens pushes carry."
  type        = string
}

variable "pubsub_agent" {
  description = "Pub/Sub's service agent."
  type        = string
}
