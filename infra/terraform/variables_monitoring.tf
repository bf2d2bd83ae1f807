# Who is told what, and when. Alerts link to the page of operations, so somebody has to say where people can read it.

variable "runbook_base_url" {
  description = "Address of docs/operations.md as your people open it; every alert links to its heading there."
  type        = string

  validation {
    condition     = can(regex("^https://[^#]+$", var.runbook_base_url))
    error_message = "The address begins with https:// and has no anchor."
  }
}

variable "notification_channels" {
  description = "Ids of the channels that alerts notify (projects/P/notificationChannels/N). Without any, alerts are seen in the console only."
  type        = list(string)
  default     = []
}

variable "oldest_unacked_seconds" {
  description = "How old the oldest message of a subscription may become before somebody is told."
  type        = number
  default     = 900
}

variable "error_ratio" {
  description = "Which part of attempts, and of requests, may fail before somebody is told; between 0 and 1."
  type        = number
  default     = 0.2
}

variable "model_tokens_per_day" {
  description = "How many tokens may be spent on models within 24 hours before somebody is told."
  type        = number
  default     = 50000000
}

variable "billing_account" {
  description = "Billing account for a monthly budget of the project; without one only tokens are watched."
  type        = string
  default     = null
}

variable "monthly_budget" {
  description = "The monthly budget, in whole units of the billing account's currency."
  type        = number
  default     = 500

  validation {
    condition     = var.monthly_budget >= 0 && floor(var.monthly_budget) == var.monthly_budget
    error_message = "A whole number of units, not below zero."
  }
}
