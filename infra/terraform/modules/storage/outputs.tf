output "name" {
  description = "The bucket's name."
  value       = google_storage_bucket.this.name
}

output "encrypted_with" {
  description = "The key that objects are encrypted with; null means Google's own."
  value       = one(google_storage_bucket.this.encryption[*].default_kms_key_name)
}
