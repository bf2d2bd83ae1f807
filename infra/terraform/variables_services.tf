# How large the services are. Every instance opens up to `pool_size` connections to the database, so the bounds on
# instances, the pools and the database's max_connections belong together; variables_database.tf adds them up.

variable "settings" {
  description = "More settings by service (docs/configuration.md has their names). What this root sets itself wins."
  type        = map(map(string))
  default     = {}

  validation {
    condition     = length(setsubtract(keys(var.settings), ["api", "ingest", "process", "recover"])) == 0
    error_message = "The services are api, ingest, process and recover."
  }
}

variable "api" {
  description = "Size of the api service. Its streams of events hold a request open each."
  type = object({
    cpu           = optional(string, "1")
    memory_mib    = optional(number, 512)
    min_instances = optional(number, 0)
    max_instances = optional(number, 4)
    concurrency   = optional(number, 80)
    pool_size     = optional(number, 10)
  })
  default  = {}
  nullable = false

  validation {
    condition     = contains(["1", "2", "4", "8"], var.api.cpu) && var.api.memory_mib >= max(512, try(tonumber(var.api.cpu), 0) >= 4 ? 512 * try(tonumber(var.api.cpu), 0) : 0) && var.api.memory_mib <= 4096 * try(tonumber(var.api.cpu), 0)
    error_message = "1, 2, 4 or 8 processors, with 512 to 4096 MiB each; 4 want 2048 MiB at least, 8 want 4096."
  }

  validation {
    condition     = var.api.min_instances >= 0 && var.api.max_instances >= max(1, var.api.min_instances) && var.api.pool_size >= 1 && var.api.concurrency >= 1 && var.api.concurrency <= 1000
    error_message = "At least one instance, one connection and one request at once, 1000 at most; no more instances at least than at most."
  }
}

variable "api_invokers" {
  description = "Who may call the api, with an ID token. Each is trusted to say in X-Headrace-* headers for whom it asks, so name back ends, not people."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for member in var.api_invokers : can(regex("^(serviceAccount|user|group|principal|principalSet):", member))])
    error_message = "Name accounts or groups; the api is for nobody else."
  }
}

variable "api_iap_members" {
  description = "Who may open the api through Identity-Aware Proxy; empty leaves it off. They are trusted as api_invokers are: administrators, that is."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for member in var.api_iap_members : can(regex("^(serviceAccount|user|group|principal|principalSet):", member))])
    error_message = "Name accounts or groups; the api is for nobody else."
  }
}

variable "ingest_mode" {
  description = "push (scales to zero) or pull (one instance at least, always on)."
  type        = string
  default     = "push"

  validation {
    condition     = contains(["push", "pull"], var.ingest_mode)
    error_message = "Ingest is pushed to or pulls."
  }
}

variable "ingest" {
  description = "Size of the ingest service."
  type = object({
    cpu           = optional(string, "1")
    memory_mib    = optional(number, 512)
    min_instances = optional(number, 0)
    max_instances = optional(number, 4)
    concurrency   = optional(number, 8)
    pool_size     = optional(number, 5)
  })
  default  = {}
  nullable = false

  validation {
    condition     = contains(["1", "2", "4", "8"], var.ingest.cpu) && var.ingest.memory_mib >= max(512, try(tonumber(var.ingest.cpu), 0) >= 4 ? 512 * try(tonumber(var.ingest.cpu), 0) : 0) && var.ingest.memory_mib <= 4096 * try(tonumber(var.ingest.cpu), 0)
    error_message = "1, 2, 4 or 8 processors, with 512 to 4096 MiB each; 4 want 2048 MiB at least, 8 want 4096."
  }

  validation {
    condition     = var.ingest.min_instances >= 0 && var.ingest.max_instances >= max(1, var.ingest.min_instances) && var.ingest.pool_size >= 1 && var.ingest.concurrency >= 1 && var.ingest.concurrency <= 1000
    error_message = "At least one instance, one connection and one request at once, 1000 at most; no more instances at least than at most."
  }
}

variable "process_mode" {
  description = "worker_pool (pulls, long work, always on) or push (a service that scales to zero, work in slices of 600 s)."
  type        = string
  default     = "worker_pool"

  validation {
    condition     = contains(["worker_pool", "push"], var.process_mode)
    error_message = "Process is a worker_pool or a push service."
  }
}

variable "process" {
  description = "Size of process: `instances` of a worker pool, `max_instances` of a push service; `concurrency` jobs in each."
  type = object({
    cpu                = optional(string, "2")
    memory_mib         = optional(number, 4096)
    instances          = optional(number, 2)
    max_instances      = optional(number, 4)
    concurrency        = optional(number, 2)
    pool_size          = optional(number, 8)
    extract_memory_mib = optional(number, 1536)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.process.instances >= 1 && var.process.max_instances >= 1 && var.process.concurrency >= 2 && var.process.pool_size > var.process.concurrency
    error_message = "At least one instance, two jobs at once (one is kept for the interactive lane), and a connection for each job and one more."
  }

  validation {
    condition     = contains(["1", "2", "4", "8"], var.process.cpu) && var.process.memory_mib <= 4096 * try(tonumber(var.process.cpu), 0)
    error_message = "1, 2, 4 or 8 processors, with 4096 MiB each at most."
  }

  # Files in work lie in the memory of the instance too; 100 MiB each is what the product takes at most.
  validation {
    condition     = var.process.memory_mib >= var.process.concurrency * (var.process.extract_memory_mib + 100) + 512
    error_message = "memory_mib must hold every job at once: concurrency * (extract_memory_mib + 100) + 512."
  }
}

variable "on_failed_overwrite" {
  description = "Whether the old version of a file stays searchable when the new one cannot be indexed: withdraw or keep."
  type        = string
  default     = "withdraw"

  validation {
    condition     = contains(["withdraw", "keep"], var.on_failed_overwrite)
    error_message = "withdraw or keep."
  }
}

variable "recover" {
  description = "Size of the recover service. Its memory and its time are bounded by the product: 512 MiB and 540 s."
  type = object({
    cpu           = optional(string, "1")
    max_instances = optional(number, 2)
    pool_size     = optional(number, 5)
  })
  default  = {}
  nullable = false

  validation {
    condition     = contains(["1", "2"], var.recover.cpu) && var.recover.max_instances >= 1 && var.recover.pool_size >= 1
    error_message = "1 or 2 processors (more want more memory than it has), at least one instance and one connection."
  }
}

variable "recover_schedule" {
  description = "When recover runs, as a cron expression in UTC."
  type        = string
  default     = "*/5 * * * *"

  validation {
    condition     = length(split(" ", var.recover_schedule)) == 5
    error_message = "A cron expression has five fields."
  }
}
