# What has to be said: the project, the release and (variables_monitoring.tf) where runbooks are read. Everything else has
# a default that is safe to apply.

variable "project_id" {
  description = "Project that gets the system. Its id, not its number."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "A project id has 6 to 30 lower case letters, digits and dashes."
  }
}

variable "image_tag" {
  description = "Tag of the images to run, one per release. Tags in the registry cannot be moved."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$", var.image_tag)) && var.image_tag != "latest"
    error_message = "Name the release that is meant; `latest` cannot be upgraded to or gone back from."
  }
}

variable "region" {
  description = "Where everything runs."
  type        = string
  default     = "us-central1"

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "A region looks like us-central1."
  }
}

variable "labels" {
  description = "Labels that every resource gets besides app=headrace."
  type        = map(string)
  default     = {}
}

variable "image_repository" {
  description = "Where the images are, without the name of the service; null means the registry that is made here."
  type        = string
  default     = null
}

variable "image_writers" {
  description = "Who may push images, such as the service account of the build."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for member in var.image_writers : can(regex("^(serviceAccount|user|group|principal|principalSet):", member))])
    error_message = "Name accounts or groups; nothing here is for everybody."
  }
}

variable "operators" {
  description = "People who may look at dead letters and logs, replay, pause and seek subscriptions, start the jobs, and call the api as administrators of any organization."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for member in var.operators : can(regex("^(serviceAccount|user|group|principal|principalSet):", member))])
    error_message = "Name accounts or groups; nothing here is for everybody."
  }
}

variable "scalers" {
  description = "People who may scale and restart services. Whoever may do that can also run other images in their accounts' names, so name fewer."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for member in var.scalers : can(regex("^(serviceAccount|user|group|principal|principalSet):", member))])
    error_message = "Name accounts or groups; nothing here is for everybody."
  }
}

variable "deletion_protection" {
  description = "Whether bucket, database, topics, subscriptions, secrets and keys refuse to be destroyed."
  type        = bool
  default     = true
}

variable "cmek" {
  description = "Whether data is encrypted with a key of our own, which is made here."
  type        = bool
  default     = false
}

# --- the network ------------------------------------------------------------------------------------------------------

variable "network" {
  description = "A network that is there already: its id, a subnetwork of the region for Cloud Run, and whether it is peered with Google's services. Null makes one."
  type = object({
    network_id    = string
    subnetwork_id = string
    peered        = optional(bool, true)
  })
  default = null

  validation {
    condition     = var.network == null || strcontains(try(var.network.subnetwork_id, ""), "/regions/${var.region}/")
    error_message = "Cloud Run takes addresses from a subnetwork of its own region: projects/P/regions/REGION/subnetworks/NAME."
  }
}

variable "subnetwork_range" {
  description = "Addresses of the subnetwork that is made, of which Cloud Run takes one per instance, and more while releases change."
  type        = string
  default     = "10.8.0.0/24"

  validation {
    condition     = can(cidrhost(var.subnetwork_range, 0)) && try(tonumber(split("/", var.subnetwork_range)[1]) <= 26, false)
    error_message = "Cloud Run needs a range of /26 or larger."
  }
}

# --- the bucket -------------------------------------------------------------------------------------------------------

variable "bucket" {
  description = "Name of the bucket whose objects are indexed; null means PROJECT-uploads."
  type        = string
  default     = null
}

variable "bucket_location" {
  description = "Where the bucket is; null means the region."
  type        = string
  default     = null

  validation {
    condition     = !var.cmek || try(lower(var.bucket_location) == var.region, true)
    error_message = "With cmek the bucket is in the region, as the key is."
  }
}

variable "bucket_versioning" {
  description = "Whether overwritten and deleted objects are kept as noncurrent ones."
  type        = bool
  default     = false
}

variable "noncurrent_days" {
  description = "With versioning, after how many days a noncurrent object is removed."
  type        = number
  default     = 30

  validation {
    condition     = var.noncurrent_days >= 1
    error_message = "At least one day."
  }
}

variable "cors_origins" {
  description = "Pages that upload from a browser, such as https://app.example.com; none by default."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for origin in var.cors_origins : can(regex("^https?://[^/*]+$", origin))])
    error_message = "An origin is a scheme and a host, without a path; * would let every page upload."
  }
}

variable "default_organization_id" {
  description = "Whose files are that do not say so themselves; null lets those fail as TENANT_UNKNOWN."
  type        = string
  default     = null
}

variable "owner_path_template" {
  description = "Where an object's name says whose it is, such as {organization_id}/{user_id}/."
  type        = string
  default     = null
}

# --- models and telemetry ---------------------------------------------------------------------------------------------

variable "model_access" {
  description = "How Gemini is reached: vertex (with the service account) or api_key (a key in Secret Manager)."
  type        = string
  default     = "vertex"

  validation {
    condition     = contains(["vertex", "api_key"], var.model_access)
    error_message = "Models are reached by vertex or api_key."
  }
}

variable "gemini_api_key" {
  description = "With api_key: the key. It is written to Secret Manager and to nothing else: neither plan nor state hold it."
  type        = string
  default     = null
  sensitive   = true
  ephemeral   = true

  validation {
    condition     = var.model_access != "api_key" || try(length(var.gemini_api_key) > 0, false)
    error_message = "model_access = api_key needs gemini_api_key; TF_VAR_gemini_api_key keeps it out of files."
  }
}

variable "gemini_api_key_version" {
  description = "Raise it by one to have a new key written."
  type        = number
  default     = 1
}

variable "model_region" {
  description = "Where Vertex AI is called; null means the region."
  type        = string
  default     = null
}

variable "embedding_model" {
  description = "The embedding model's name."
  type        = string
  default     = "gemini-embedding-001"
}

variable "embedding_dimensions" {
  description = "Length of its vectors. Another length is another space: everything is embedded again."
  type        = number
  default     = 768

  validation {
    condition     = var.embedding_dimensions >= 64 && var.embedding_dimensions <= 3072
    error_message = "Between 64 and 3072."
  }
}

variable "telemetry_exporter" {
  description = "Where traces and metrics go: google, otlp (see otlp_endpoint) or none. Logs always go to Cloud Logging."
  type        = string
  default     = "google"

  validation {
    condition     = contains(["google", "otlp", "none"], var.telemetry_exporter)
    error_message = "Telemetry goes to google, otlp or none."
  }
}

variable "otlp_endpoint" {
  description = "With otlp: the collector's URL."
  type        = string
  default     = null

  validation {
    condition     = var.telemetry_exporter != "otlp" || can(regex("^https?://", var.otlp_endpoint))
    error_message = "telemetry_exporter = otlp needs otlp_endpoint, a URL."
  }
}

variable "log_level" {
  description = "What is logged."
  type        = string
  default     = "INFO"

  validation {
    condition     = contains(["DEBUG", "INFO", "WARNING", "ERROR"], var.log_level)
    error_message = "DEBUG, INFO, WARNING or ERROR."
  }
}
