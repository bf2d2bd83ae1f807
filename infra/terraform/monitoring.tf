# What an operator sees, and is told. A queue that only people take from has no oldest message to worry about.

module "monitoring" {
  source                   = "./modules/monitoring"
  project_id               = module.project.project_id
  region                   = var.region
  prefix                   = local.prefix
  notification_channels    = var.notification_channels
  runbook_base_url         = var.runbook_base_url
  subscriptions            = [for name in module.messaging.taken_by_services : module.messaging.subscription_names[name]]
  lettered_subscriptions   = [for name in module.messaging.taken_by_services : module.messaging.subscription_names[name] if !startswith(name, "work-")]
  service_names            = concat([module.api.name, module.ingest.name, module.recover.name], [for service in module.process_push : service.name])
  process_resource_type    = local.push.process ? "cloud_run_revision" : "cloud_run_worker_pool"
  database_instance        = module.database.instance_name
  database_max_connections = var.database_max_connections
  oldest_unacked_seconds   = var.oldest_unacked_seconds
  error_ratio              = var.error_ratio
  model_tokens_per_day     = var.model_tokens_per_day
  billing_account          = var.billing_account
  monthly_budget           = var.monthly_budget
}
