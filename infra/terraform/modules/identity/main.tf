# One account per service. What each may do is said by the modules of the things it may do it to; here stands only what
# has no smaller place than the project, or than the account itself.

resource "google_service_account" "this" {
  for_each     = var.accounts
  project      = var.project_id
  account_id   = "${var.prefix}${each.key}"
  display_name = "${var.prefix}${each.key}"
  description  = each.value
}

locals {
  # Spelt out, not read back: so a plan shows who gets what.
  emails  = { for name, account in google_service_account.this : name => "${account.account_id}@${var.project_id}.iam.gserviceaccount.com" }
  members = { for name, email in local.emails : name => "serviceAccount:${email}" }
  ids     = { for name, email in local.emails : name => "projects/${var.project_id}/serviceAccounts/${email}" }
}

resource "google_project_iam_member" "this" {
  for_each = { for grant in flatten([
    for role, names in var.project_roles : [for name in names : { role = role, name = name }]
  ]) : "${grant.role}/${grant.name}" => grant }
  project = var.project_id
  role    = each.value.role
  member  = local.members[each.value.name]
}

# Pub/Sub proves itself to services that it pushes to with tokens of this account, and may do nothing else in its name.
resource "google_service_account_iam_member" "pushes" {
  service_account_id = local.ids[var.push_account]
  role               = "roles/iam.serviceAccountOpenIdTokenCreator"
  member             = var.pubsub_agent
}
