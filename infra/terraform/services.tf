# The services, their environment, and who may call them. Names of settings are those of docs/configuration.md.

locals {
  region_of_models = coalesce(var.model_region, var.region)
  images           = coalesce(var.image_repository, module.registry.path)

  # What Pub/Sub waits for at most, and Cloud Run lets a push take; services answer 10 s earlier.
  push_seconds = 600

  # The product's own bound on a run, and the longer one of whoever waits for its answer.
  recover_seconds   = 540
  scheduler_seconds = 600

  # Streams end a little before Cloud Run would cut them.
  stream_seconds = 300

  env = merge(
    {
      GOOGLE_CLOUD_PROJECT_ID = var.project_id
      GOOGLE_CLOUD_REGION     = local.region_of_models
      CLOUD_REGION            = var.region
      BUCKET                  = local.bucket
      DATABASE_IAM_AUTH       = "true"
      LOG_LEVEL               = var.log_level
      LOG_FORMAT              = "json"
      HTTP_HOST               = "0.0.0.0"
      TELEMETRY_EXPORTER      = var.telemetry_exporter
    },
    var.telemetry_exporter == "otlp" ? { OTEL_EXPORTER_OTLP_ENDPOINT = var.otlp_endpoint } : {},
    var.default_organization_id == null ? {} : { DEFAULT_ORGANIZATION_ID = var.default_organization_id },
    var.owner_path_template == null ? {} : { OWNER_PATH_TEMPLATE = var.owner_path_template },
  )

  model_env = {
    EMBEDDER                    = "gemini"
    GEMINI_EMBEDDING_MODEL      = var.embedding_model
    GEMINI_EMBEDDING_DIMENSIONS = tostring(var.embedding_dimensions)
  }
  model_secrets = var.model_access == "api_key" ? { GEMINI_API_KEY = module.secrets.references["gemini-api-key"] } : {}

  # Cloud Run verifies the token and takes its signature away; the claims are checked by the service all the same.
  delivery_env = {
    for name, pushed in local.push : name => pushed ? {
      DELIVERY             = "push"
      PUSH_AUDIENCE        = "${local.prefix}${name}"
      PUSH_SERVICE_ACCOUNT = module.identity.emails.push
    } : { DELIVERY = "pull" }
  }

  recover_env = merge(
    lookup(var.settings, "recover", {}), local.env, local.delivery_env.recover,
    {
      DATABASE_URL             = module.database.urls.recover
      DATABASE_POOL_SIZE       = tostring(var.recover.pool_size)
      FUNCTION_TIMEOUT_SECONDS = tostring(local.recover_seconds)
      ON_FAILED_OVERWRITE      = var.on_failed_overwrite
    },
  )

  process_env = merge(
    lookup(var.settings, "process", {}), local.env, local.model_env, local.delivery_env.process,
    {
      DATABASE_URL         = module.database.urls.process
      DATABASE_POOL_SIZE   = tostring(var.process.pool_size)
      PROCESS_CONCURRENCY  = tostring(var.process.concurrency)
      EXTRACT_MEMORY_BYTES = tostring(var.process.extract_memory_mib * 1024 * 1024)
      ON_FAILED_OVERWRITE  = var.on_failed_overwrite
    },
  )

  platform_verifies = { PUSH_VERIFIED_BY = "platform" }

  pushed = {
    for name, service in {
      ingest  = { uri = module.ingest.uri, audience = module.ingest.audience }
      process = { uri = one([for one in module.process_push : one.uri]), audience = one([for one in module.process_push : one.audience]) }
      recover = { uri = module.recover.uri, audience = module.recover.audience }
      } : name => {
      uri                   = service.uri
      audience              = service.audience
      service_account_email = module.identity.emails.push
      ack_deadline_seconds  = local.push_seconds
    }
  }

  # All pools of all instances at once. A worker pool is replaced as a whole, so for a moment there are two of it. The
  # rest is for both jobs, what Cloud SQL does by itself, and a person who looks.
  connections_needed = sum([
    var.api.pool_size * var.api.max_instances,
    var.ingest.pool_size * var.ingest.max_instances,
    var.process.pool_size * (var.process_mode == "push" ? var.process.max_instances : 2 * var.process.instances),
    var.recover.pool_size * (var.recover.max_instances + 1),
    15,
  ])
}

module "api" {
  source          = "./modules/service"
  project_id      = module.project.project_id
  region          = var.region
  name            = "${local.prefix}api"
  description     = "Status, search, administration and the console."
  image           = "${local.images}/api:${var.image_tag}"
  service_account = module.identity.emails.api
  network_id      = module.network.network_id
  subnetwork_id   = module.network.subnetwork_id
  cpu             = var.api.cpu
  memory_mib      = var.api.memory_mib
  min_instances   = var.api.min_instances
  max_instances   = var.api.max_instances
  concurrency     = var.api.concurrency
  timeout_seconds = local.stream_seconds + 60
  kms_key         = local.kms_key

  # Reached from outside, but only with a token of somebody who is named here.
  ingress     = "INGRESS_TRAFFIC_ALL"
  iap_enabled = length(var.api_iap_members) > 0
  iap_members = var.api_iap_members
  invokers = merge(
    { for member in setunion(var.api_invokers, var.operators) : member => member },
    length(var.api_iap_members) > 0 ? { iap = module.project.agents.iap } : {},
  )

  env = merge(
    lookup(var.settings, "api", {}), local.env, local.model_env,
    {
      DATABASE_URL            = module.database.urls.api
      DATABASE_POOL_SIZE      = tostring(var.api.pool_size)
      API_CALLERS_VERIFIED_BY = "platform"
      API_STREAM_SECONDS      = tostring(local.stream_seconds)
    },
  )
  secret_env = local.model_secrets
}

module "ingest" {
  source          = "./modules/service"
  project_id      = module.project.project_id
  region          = var.region
  name            = "${local.prefix}ingest"
  description     = "Decides what each bucket notification means."
  image           = "${local.images}/ingest:${var.image_tag}"
  service_account = module.identity.emails.ingest
  network_id      = module.network.network_id
  subnetwork_id   = module.network.subnetwork_id
  cpu             = var.ingest.cpu
  memory_mib      = var.ingest.memory_mib
  min_instances   = local.push.ingest ? var.ingest.min_instances : max(1, var.ingest.min_instances)
  max_instances   = var.ingest.max_instances
  concurrency     = var.ingest.concurrency
  timeout_seconds = local.push_seconds
  always_on       = !local.push.ingest
  invokers        = local.push.ingest ? { push = module.identity.members.push } : {}
  kms_key         = local.kms_key

  env = merge(
    lookup(var.settings, "ingest", {}), local.env, local.delivery_env.ingest,
    local.push.ingest ? local.platform_verifies : {},
    {
      DATABASE_URL       = module.database.urls.ingest
      DATABASE_POOL_SIZE = tostring(var.ingest.pool_size)
      INGEST_CONCURRENCY = tostring(var.ingest.concurrency)
    },
  )
}

module "process_pool" {
  source          = "./modules/worker"
  for_each        = local.push.process ? {} : { process = true }
  project_id      = module.project.project_id
  region          = var.region
  name            = "${local.prefix}process"
  description     = "Indexes files."
  image           = "${local.images}/process:${var.image_tag}"
  service_account = module.identity.emails.process
  network_id      = module.network.network_id
  subnetwork_id   = module.network.subnetwork_id
  cpu             = var.process.cpu
  memory_mib      = var.process.memory_mib
  instances       = var.process.instances
  env             = local.process_env
  secret_env      = local.model_secrets
  kms_key         = local.kms_key

  # It takes work from its first second on, and refers to no subscription: its code knows their names.
  depends_on = [module.messaging, module.storage]
}

module "process_push" {
  source          = "./modules/service"
  for_each        = local.push.process ? { process = true } : {}
  project_id      = module.project.project_id
  region          = var.region
  name            = "${local.prefix}process"
  description     = "Indexes files."
  image           = "${local.images}/process:${var.image_tag}"
  service_account = module.identity.emails.process
  network_id      = module.network.network_id
  subnetwork_id   = module.network.subnetwork_id
  cpu             = var.process.cpu
  memory_mib      = var.process.memory_mib
  max_instances   = var.process.max_instances
  concurrency     = var.process.concurrency
  timeout_seconds = local.push_seconds
  invokers        = { push = module.identity.members.push }
  env             = merge(local.process_env, local.platform_verifies)
  secret_env      = local.model_secrets
  kms_key         = local.kms_key
}

module "recover" {
  source          = "./modules/service"
  project_id      = module.project.project_id
  region          = var.region
  name            = "${local.prefix}recover"
  description     = "Brings back what got stuck, when the scheduler calls."
  image           = "${local.images}/recover:${var.image_tag}"
  service_account = module.identity.emails.recover
  network_id      = module.network.network_id
  subnetwork_id   = module.network.subnetwork_id
  cpu             = var.recover.cpu
  memory_mib      = 512
  max_instances   = var.recover.max_instances
  concurrency     = 8
  timeout_seconds = local.recover_seconds
  invokers        = { push = module.identity.members.push, scheduler = module.identity.members.scheduler }
  env             = merge(local.recover_env, local.platform_verifies, { RECOVER_CALLERS = jsonencode([module.identity.emails.scheduler]) })
  kms_key         = local.kms_key
}

module "recover_once" {
  source          = "./modules/job"
  project_id      = module.project.project_id
  region          = var.region
  name            = "${local.prefix}recover-once"
  image           = "${local.images}/recover:${var.image_tag}"
  command         = ["python", "-m", "services.recover", "--once"]
  service_account = module.identity.emails.recover
  network_id      = module.network.network_id
  subnetwork_id   = module.network.subnetwork_id
  cpu             = var.recover.cpu
  memory_mib      = 512
  timeout_seconds = local.scheduler_seconds
  invokers        = var.operators
  env             = local.recover_env
  kms_key         = local.kms_key
}

module "migrate" {
  source          = "./modules/job"
  project_id      = module.project.project_id
  region          = var.region
  name            = "${local.prefix}migrate"
  image           = "${local.images}/migrate:${var.image_tag}"
  command         = ["python", "-m", "shared.postgres.migrate"]
  service_account = module.identity.emails.migrate
  network_id      = module.network.network_id
  subnetwork_id   = module.network.subnetwork_id
  cpu             = "1"
  memory_mib      = 512
  timeout_seconds = 3600
  invokers        = var.operators
  kms_key         = local.kms_key

  env = {
    DATABASE_URL        = module.database.urls.migrate
    DATABASE_IAM_AUTH   = "true"
    DATABASE_OWNER_ROLE = module.database.owner_role
    DATABASE_ROLE_MEMBERS = jsonencode({
      for name in ["api", "ingest", "process", "recover"] : "headrace_${name}" => [module.database.users[name]]
    })
  }
}

module "schedule" {
  source                   = "./modules/schedule"
  project_id               = module.project.project_id
  region                   = var.region
  name                     = "${local.prefix}recover"
  description              = "Starts a recover run."
  schedule                 = var.recover_schedule
  attempt_deadline_seconds = local.scheduler_seconds
  uri                      = module.recover.uri
  audience                 = module.recover.audience
  service_account          = module.identity.emails.scheduler
}

module "operators" {
  source        = "./modules/operators"
  project_id    = module.project.project_id
  region        = var.region
  operators     = var.operators
  scalers       = var.scalers
  subscriptions = module.messaging.subscription_names
  services = merge(
    { api = module.api.name, ingest = module.ingest.name, recover = module.recover.name },
    { for name, service in module.process_push : name => service.name },
  )
  pools        = { for name, pool in module.process_pool : name => pool.name }
  accounts     = { for name in ["api", "ingest", "process", "recover"] : name => module.identity.ids[name] }
  push_account = module.identity.ids.push
  repository   = module.registry.name
}
