# Things that are there whoever uses them: project, accounts, network, data. services.tf runs the services on them.

locals {
  # Fixed: it is what shared/pubsub/topics.py puts before every name.
  prefix = "headrace-"

  bucket = coalesce(var.bucket, "${var.project_id}-uploads")
  push   = { ingest = var.ingest_mode == "push", process = var.process_mode == "push", recover = true }

  operators = { for member in var.operators : member => member }
  kms_key   = var.cmek ? module.cmek["key"].key_id : null
}

module "project" {
  source     = "./modules/project"
  project_id = var.project_id
  apis = toset(concat(
    [
      "artifactregistry.googleapis.com",
      "cloudbuild.googleapis.com",
      "cloudscheduler.googleapis.com",
      "cloudtrace.googleapis.com",
      "compute.googleapis.com",
      "iam.googleapis.com",
      "iamcredentials.googleapis.com",
      "logging.googleapis.com",
      "monitoring.googleapis.com",
      "pubsub.googleapis.com",
      "run.googleapis.com",
      "secretmanager.googleapis.com",
      "servicenetworking.googleapis.com",
      "sqladmin.googleapis.com",
      "storage.googleapis.com",
    ],
    var.model_access == "vertex" ? ["aiplatform.googleapis.com"] : [],
    var.telemetry_exporter == "google" ? ["telemetry.googleapis.com"] : [],
    var.cmek ? ["cloudkms.googleapis.com"] : [],
    length(var.api_iap_members) > 0 ? ["iap.googleapis.com"] : [],
    var.billing_account == null ? [] : ["billingbudgets.googleapis.com"],
  ))
}

module "identity" {
  source     = "./modules/identity"
  project_id = module.project.project_id
  prefix     = local.prefix
  accounts = {
    api       = "Answers people and programs."
    ingest    = "Decides what a bucket notification means."
    process   = "Indexes files."
    recover   = "Brings back what got stuck."
    migrate   = "Owns the tables and changes them."
    push      = "Pub/Sub, when it pushes to services."
    scheduler = "Cloud Scheduler, when it starts a recover run."
  }
  project_roles = merge(
    var.model_access == "vertex" ? { "roles/aiplatform.user" = toset(["api", "process"]) } : {},
    var.telemetry_exporter == "google" ? {
      "roles/telemetry.tracesWriter"  = toset(["api", "ingest", "process", "recover"])
      "roles/telemetry.metricsWriter" = toset(["api", "ingest", "process", "recover"])
    } : {},
  )
  push_account = "push"
  pubsub_agent = module.project.agents.pubsub
}

module "cmek" {
  source     = "./modules/cmek"
  for_each   = var.cmek ? { key = true } : {}
  project_id = module.project.project_id
  region     = var.region
  prefix     = local.prefix
  agents = {
    for name in ["storage", "pubsub", "run", "sql", "registry", "secrets"] : name => module.project.agents[name]
  }
  deletion_protection = var.deletion_protection
}

module "network" {
  source           = "./modules/network"
  project_id       = module.project.project_id
  region           = var.region
  prefix           = local.prefix
  existing         = var.network
  subnetwork_range = var.subnetwork_range
}

module "registry" {
  source     = "./modules/registry"
  project_id = module.project.project_id
  region     = var.region
  writers    = var.image_writers
  kms_key    = local.kms_key
}

module "secrets" {
  source     = "./modules/secrets"
  project_id = module.project.project_id
  region     = var.region
  prefix     = local.prefix
  readers = var.model_access == "api_key" ? {
    gemini-api-key = { for name in ["api", "process"] : name => module.identity.members[name] }
  } : {}
  values              = { gemini-api-key = var.gemini_api_key }
  versions            = { gemini-api-key = var.gemini_api_key_version }
  kms_key             = local.kms_key
  deletion_protection = var.deletion_protection
}

module "messaging" {
  source       = "./modules/messaging"
  project_id   = module.project.project_id
  prefix       = local.prefix
  pubsub_agent = module.project.agents.pubsub

  # Whoever relays the outbox publishes whatever lies in it: bells, stages, dead letters and replayed notifications.
  publishers = {
    uploads      = { for name in ["ingest", "process", "recover"] : name => module.identity.members[name] }
    work         = { for name in ["ingest", "process", "recover"] : name => module.identity.members[name] }
    stages       = { for name in ["ingest", "process", "recover"] : name => module.identity.members[name] }
    dead-letters = { for name in ["ingest", "process", "recover"] : name => module.identity.members[name] }
    replay       = local.operators
  }

  # Who is pushed to takes nothing.
  subscribers = {
    uploads-ingest      = local.push.ingest ? {} : { ingest = module.identity.members.ingest }
    work-interactive    = local.push.process ? {} : { process = module.identity.members.process }
    work-bulk           = local.push.process ? {} : { process = module.identity.members.process }
    dead-letters-intake = { recover = module.identity.members.recover }
  }

  push = merge(
    local.push.ingest ? { uploads-ingest = local.pushed.ingest } : {},
    local.push.process ? { work-interactive = local.pushed.process, work-bulk = local.pushed.process } : {},
    { replay-recover = local.pushed.recover },
  )

  kms_key             = local.kms_key
  deletion_protection = var.deletion_protection
}

module "storage" {
  source          = "./modules/storage"
  project_id      = module.project.project_id
  name            = local.bucket
  location        = coalesce(var.bucket_location, var.region)
  versioning      = var.bucket_versioning
  noncurrent_days = var.noncurrent_days
  cors_origins    = var.cors_origins
  topic           = { id = module.messaging.topic_ids["uploads"], name = module.messaging.topic_names["uploads"] }
  storage_agent   = module.project.agents.storage

  # The api compares bucket and index when somebody asks for it; nobody here writes objects.
  grants = {
    "roles/storage.objectViewer" = { for name in ["ingest", "process", "recover", "api"] : name => module.identity.members[name] }
  }

  kms_key             = local.kms_key
  deletion_protection = var.deletion_protection
}

module "database" {
  source                 = "./modules/database"
  project_id             = module.project.project_id
  region                 = var.region
  prefix                 = local.prefix
  network_id             = module.network.network_id
  postgres_version       = var.database_version
  tier                   = var.database_tier
  edition                = var.database_edition
  available              = var.database_available
  disk_gib               = var.database_disk_gib
  backups_kept           = var.database_backups_kept
  log_days               = var.database_log_days
  max_connections        = var.database_max_connections
  maintenance_memory_mib = var.database_maintenance_memory_mib
  users                  = { for name in ["api", "ingest", "process", "recover", "migrate"] : name => module.identity.emails[name] }
  owner                  = "migrate"
  kms_key                = local.kms_key
  deletion_protection    = var.deletion_protection
}
