variable "project_id" {
  description = "The project."
  type        = string
}

variable "region" {
  description = "Where the services run."
  type        = string
}

variable "operators" {
  description = "Who looks, replays, pauses and seeks."
  type        = set(string)
}

variable "scalers" {
  description = "Who scales and restarts services."
  type        = set(string)
}

variable "subscriptions" {
  description = "Subscriptions that are operated: logical name to name."
  type        = map(string)
}

variable "services" {
  description = "Services that are scaled: logical name to name."
  type        = map(string)
}

variable "pools" {
  description = "Worker pools that are scaled: logical name to name."
  type        = map(string)
}

variable "accounts" {
  description = "Accounts that they run as: logical name to id."
  type        = map(string)
}

variable "push_account" {
  description = "Id of the account whose tokens pushes carry."
  type        = string
}

variable "repository" {
  description = "Name of the registry that their images are in."
  type        = string
}
