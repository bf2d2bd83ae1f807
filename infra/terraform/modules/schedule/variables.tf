variable "project_id" {
  description = "The project."
  type        = string
}

variable "region" {
  description = "Where the job is."
  type        = string
}

variable "name" {
  description = "Its name."
  type        = string
}

variable "description" {
  description = "What it is for."
  type        = string
}

variable "schedule" {
  description = "A cron expression, in UTC."
  type        = string
}

variable "attempt_deadline_seconds" {
  description = "How long an answer is waited for; longer than the service takes at most."
  type        = number
}

variable "uri" {
  description = "Address of the service that is called."
  type        = string
}

variable "audience" {
  description = "Audience of the token."
  type        = string
}

variable "service_account" {
  description = "Address of the account it calls as."
  type        = string
}
