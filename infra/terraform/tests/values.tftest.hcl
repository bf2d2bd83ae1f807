# What a plan says, by variable. Runs with `terraform test`, against any provider of these resources.

variables {
  project_id       = "demo-project"
  image_tag        = "r1"
  runbook_base_url = "https://runbooks.example/operations.md"
}

run "defaults_are_closed" {
  command = plan

  assert {
    condition     = length(module.process_pool) == 1 && length(module.process_push) == 0
    error_message = "By default process is a worker pool, and no service besides."
  }

  assert {
    condition     = output.bucket == "demo-project-uploads" && output.images == "us-central1-docker.pkg.dev/demo-project/headrace"
    error_message = "Bucket and registry have names that follow from the project."
  }

  assert {
    condition     = output.connections_needed == 4 * 10 + 4 * 5 + 2 * 2 * 8 + 3 * 5 + 15
    error_message = "Every pool of every instance is counted."
  }

  assert {
    condition     = toset(keys(output.service_accounts)) == toset(["api", "ingest", "process", "recover", "migrate", "push", "scheduler"])
    error_message = "Each service has an account of its own, and so have the two that call services."
  }

  assert {
    condition     = output.subscriptions["uploads-ingest"] == "headrace-uploads-ingest"
    error_message = "Names begin with headrace-."
  }
}

run "push_mode_is_a_service" {
  command = plan

  variables {
    process_mode = "push"
  }

  assert {
    condition     = length(module.process_pool) == 0 && length(module.process_push) == 1
    error_message = "Process is a service, and no worker pool besides."
  }

  assert {
    condition     = output.connections_needed == 4 * 10 + 4 * 5 + 4 * 8 + 3 * 5 + 15
    error_message = "A push service is counted by its largest number of instances."
  }
}

run "too_few_connections_are_refused" {
  command = plan

  variables {
    database_max_connections = 121
  }

  expect_failures = [var.database_max_connections]
}

run "a_key_that_is_missing_is_refused" {
  command = plan

  variables {
    model_access = "api_key"
  }

  expect_failures = [var.gemini_api_key]
}

run "what_is_open_is_refused" {
  command = plan

  variables {
    image_tag             = "latest"
    api_invokers          = ["allUsers"]
    api_iap_members       = ["allAuthenticatedUsers"]
    operators             = ["domain:example.com"]
    scalers               = ["allUsers"]
    network               = { network_id = "projects/p/global/networks/n", subnetwork_id = "projects/p/regions/asia-east1/subnetworks/s" }
    image_writers         = ["allUsers"]
    cors_origins          = ["*"]
    process               = { memory_mib = 2048 }
    database_version      = "POSTGRES_15"
    process_mode          = "cron"
    ingest_mode           = "cron"
    telemetry_exporter    = "otlp"
    subnetwork_range      = "10.8.0.0/28"
    cmek                  = true
    bucket_location       = "EU"
    database_backups_kept = 3
    settings              = { console = { LOG_LEVEL = "DEBUG" } }
  }

  expect_failures = [
    var.image_tag,
    var.api_invokers,
    var.api_iap_members,
    var.operators,
    var.scalers,
    var.network,
    var.image_writers,
    var.cors_origins,
    var.process,
    var.database_version,
    var.process_mode,
    var.ingest_mode,
    var.otlp_endpoint,
    var.subnetwork_range,
    var.settings,
    var.bucket_location,
    var.database_backups_kept,
  ]
}

run "what_cannot_be_is_refused" {
  command = plan

  variables {
    region               = "europe"
    runbook_base_url     = "docs/operations.md"
    database_tier        = "db-f1-micro"
    database_log_days    = 14
    database_disk_gib    = 1
    api                  = { memory_mib = 256 }
    ingest               = { cpu = "3" }
    process              = { cpu = "1", memory_mib = 8192 }
    recover              = { max_instances = 0 }
    monthly_budget       = -1
    recover_schedule     = "often"
    embedding_dimensions = 4096
    on_failed_overwrite  = "ignore"
    log_level            = "TRACE"
  }

  expect_failures = [
    var.region,
    var.runbook_base_url,
    var.database_tier,
    var.database_log_days,
    var.database_disk_gib,
    var.api,
    var.ingest,
    var.process,
    var.recover,
    var.monthly_budget,
    var.recover_schedule,
    var.embedding_dimensions,
    var.on_failed_overwrite,
    var.log_level,
  ]
}
