# What hangs on what: everything is made once, and what is known only then is compared. With the real provider this
# needs a project, and costs money; the stand-in makes fake values.

variables {
  project_id          = "demo-project"
  image_tag           = "r1"
  runbook_base_url    = "https://runbooks.example/operations.md"
  process_mode        = "push"
  deletion_protection = false
  cmek                = true
  model_access        = "api_key"
  gemini_api_key      = "not-a-key"
}

run "everything" {
  command = apply

  assert {
    condition     = output.push_endpoints["uploads-ingest"] == "${module.ingest.uri}/push/uploads-ingest"
    error_message = "Notifications are pushed to ingest."
  }

  assert {
    condition = alltrue([
      for lane in ["work-interactive", "work-bulk"] : output.push_endpoints[lane] == "${module.process_push["process"].uri}/push/${lane}"
    ])
    error_message = "Both lanes are pushed to process."
  }

  assert {
    condition     = output.push_endpoints["replay-recover"] == "${module.recover.uri}/push/replay-recover"
    error_message = "Replays are pushed to recover."
  }

  assert {
    condition     = length(toset([module.api.uri, module.ingest.uri, module.recover.uri, module.process_push["process"].uri])) == 4
    error_message = "Four services have four addresses, or what stands above proves nothing."
  }

  assert {
    condition     = module.schedule.target == "${module.recover.uri}/"
    error_message = "The scheduler calls recover."
  }

  assert {
    condition = alltrue([
      for name, url in module.database.urls : startswith(url, "postgresql://headrace-${name}%40demo-project.iam@") && endswith(url, ":5432/headrace?sslmode=require")
    ])
    error_message = "Each service logs in with its own name, without a password, encrypted."
  }

  assert {
    condition     = length(toset([for url in values(module.database.urls) : split("@", url)[1]])) == 1
    error_message = "All services use the one database."
  }

  assert {
    condition     = module.database.encrypted_with == module.cmek["key"].key_id && module.storage.encrypted_with == module.cmek["key"].key_id
    error_message = "Disk and bucket are encrypted with our key."
  }
}
