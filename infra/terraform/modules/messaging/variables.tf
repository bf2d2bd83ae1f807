variable "project_id" {
  description = "The project."
  type        = string
}

variable "prefix" {
  description = "What names begin with."
  type        = string
}

variable "pubsub_agent" {
  description = "Pub/Sub's service agent, which forwards dead letters."
  type        = string
}

variable "publishers" {
  description = "By topic, who publishes to it: name to member."
  type        = map(map(string))
}

variable "subscribers" {
  description = "By subscription, who takes from it: name to member."
  type        = map(map(string))
}

variable "push" {
  description = "Subscriptions that are pushed, and to whom. A push cannot extend its deadline, so it has its own."
  type = map(object({
    uri                   = string
    audience              = string
    service_account_email = string
    ack_deadline_seconds  = number
  }))
}

variable "kms_key" {
  description = "Key that messages are encrypted with; null means Google's own."
  type        = string
}

variable "deletion_protection" {
  description = "Whether topics and subscriptions refuse to be destroyed."
  type        = bool
}
