output "key_id" {
  description = "The key, once everybody who needs it may use it. Spelt out, not read back: so a plan shows what it encrypts."
  value       = "projects/${var.project_id}/locations/${google_kms_key_ring.this.location}/keyRings/${google_kms_key_ring.this.name}/cryptoKeys/${google_kms_crypto_key.this.name}"
  depends_on  = [google_kms_crypto_key_iam_member.uses]
}
