# A key of our own, and Google's services that may use it on our data.

resource "google_kms_key_ring" "this" {
  project  = var.project_id
  location = var.region
  name     = "${var.prefix}keys"
}

resource "google_kms_crypto_key" "this" {
  key_ring        = google_kms_key_ring.this.id
  name            = "data"
  rotation_period = "7776000s"
  deletion_policy = var.deletion_protection ? "PREVENT" : "DELETE"
}

resource "google_kms_crypto_key_iam_member" "uses" {
  for_each      = var.agents
  crypto_key_id = google_kms_crypto_key.this.id
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = each.value
}
