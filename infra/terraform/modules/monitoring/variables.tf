variable "project_id" {
  description = "Project whose logs and metrics are watched."
  type        = string
}

variable "region" {
  description = "Where the services run."
  type        = string
}

variable "prefix" {
  description = "What the names of this installation begin with, as it stands in them: headrace- makes headrace-recover."
  type        = string
  default     = "headrace-"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]*-$", var.prefix))
    error_message = "The prefix is lower case, begins with a letter and ends with a dash."
  }
}

variable "notification_channels" {
  description = "Ids of the channels that every alert notifies (projects/P/notificationChannels/N). Without any, alerts are seen in the console only."
  type        = list(string)
  default     = []
}

variable "runbook_base_url" {
  description = "Address of docs/operations.md as people can open it; alerts link to its headings."
  type        = string

  validation {
    condition     = can(regex("^https://[^#]+$", var.runbook_base_url))
    error_message = "The runbook address begins with https:// and has no anchor."
  }
}

variable "subscriptions" {
  description = "Ids of the subscriptions that services take from. Those that people look at stay out: nobody acknowledges there."
  type        = list(string)
}

variable "lettered_subscriptions" {
  description = "Ids of those of the subscriptions whose messages become dead letters. Bells do not: the jobs they ring for are in the database."
  type        = list(string)
}

variable "service_names" {
  description = "Names of the Cloud Run services, for the ratio of failed requests."
  type        = list(string)
}

variable "process_resource_type" {
  description = "What process runs as: cloud_run_worker_pool where it pulls, cloud_run_revision where it is pushed to."
  type        = string
  default     = "cloud_run_worker_pool"

  validation {
    condition     = contains(["cloud_run_worker_pool", "cloud_run_revision"], var.process_resource_type)
    error_message = "Process is a cloud_run_worker_pool or a cloud_run_revision."
  }
}

variable "database_instance" {
  description = "Name of the Cloud SQL instance."
  type        = string
}

variable "database_max_connections" {
  description = "The instance's max_connections; nine tenths of it raise an alert."
  type        = number
  default     = 100
}

variable "oldest_unacked_seconds" {
  description = "How old the oldest message of a subscription may become."
  type        = number
  default     = 900

  validation {
    condition     = var.oldest_unacked_seconds >= 60
    error_message = "At least 60 s: the metric itself is written once a minute."
  }
}

variable "error_ratio" {
  description = "Which part of attempts, and of requests, may fail before somebody is told; between 0 and 1."
  type        = number
  default     = 0.2

  validation {
    condition     = var.error_ratio > 0 && var.error_ratio < 1
    error_message = "A ratio lies between 0 and 1."
  }
}

variable "model_tokens_per_day" {
  description = "How many tokens may be spent on models within 24 hours."
  type        = number
  default     = 50000000

  validation {
    condition     = var.model_tokens_per_day > 0
    error_message = "At least one token a day."
  }
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
}
